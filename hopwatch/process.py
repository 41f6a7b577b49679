"""What the process of a command does by itself: it is asked to end, frees memory, says a line, and may lose its standard output."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from types import FrameType
from typing import Any, Final

NOTHING, FINDINGS, WRONG = 0, 1, 2

COLLECTION_OBJECTS: Final = 500_000
"""Objects made and not yet freed before Python looks for cycles; a batch of events has fewer."""

Ending = Callable[[Callable[[], None]], AbstractContextManager[None]]
"""Calls what it is given when the process is asked to end."""


class Wrong(Exception):
    """One line for standard error, and exit status 2."""


def say(line: str) -> None:
    """One line for whoever runs the command."""
    print(f"hopwatch: {' '.join(line.split())}", file=sys.stderr, flush=True)


def import_paths() -> str:
    """What this interpreter imports from, as PYTHONPATH of one that is started beside it."""
    return os.pathsep.join(place or os.curdir for place in sys.path)


def mute() -> None:
    """Standard output is gone; keep the interpreter from writing to it once more at its end."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def ending(stop: Callable[[], None]) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the run; a second one ends the process."""
    before: dict[signal.Signals, Any] = {}  # Any: what signal.signal returns.

    def handle(number: int, frame: FrameType | None) -> None:
        stop()
        for each, handler in before.items():
            signal.signal(each, handler)

    for each in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(ValueError):  # Not in the main thread: whoever embeds the command stops it.
            before[each] = signal.signal(each, handle)
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@contextlib.contextmanager
def rare_collections() -> Iterator[None]:
    """Events are trees and are freed as they are let go; looking among them for cycles takes half of the time it takes to read them."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(COLLECTION_OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


@contextlib.contextmanager
def steady(stop: Callable[[], None]) -> Iterator[None]:
    """Ends as it is asked to, and looks for cycles rarely."""
    with ending(stop), rare_collections():
        yield
