"""A server that is asked again and again, by a thread that may wait for it: whoever reads feeds by turns takes the newest answer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from collectors.feed import FeedError, Told

EVERY_S: Final = 1.0
"""How often it is asked, unless it is said."""

EVERY_S_MIN: Final = 0.1
"""The server logs that it was asked; a reader of that log that asks whenever there is something to read would never end."""

EVERY_S_MAX: Final = 3_600.0

AGAIN_S: Final = 5.0
"""How long after a failure it is not asked."""

FIRST_S: Final = 5.0
"""How long the first answer is waited for."""

T = TypeVar("T")


class Asked(Generic[T]):
    """``ask`` is called in the thread; whatever it raises is a failure, counted with its kind, and it is called again later."""

    def __init__(self, ask: Callable[[], T], every_s: float = EVERY_S) -> None:
        self._ask, self._every_s = ask, every_s
        self._newest: T | None = None
        self._lock = threading.Lock()
        self._answered, self._stopping = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self.polls_total = self.failed_total = 0
        self.failure = ""
        """Why it was asked in vain the last time."""

    def counters(self) -> dict[str, int]:
        """How often it was asked, and how often in vain."""
        return {"polls": self.polls_total, "polls_failed": self.failed_total}

    def newest(self) -> T | None:
        """The newest answer, once; only the first is waited for."""
        if self._thread is None:
            # Here and not before: a thread belongs to the network of whoever begins it.
            self._thread = threading.Thread(target=self._run, name="asked", daemon=True)
            self._thread.start()
            self._answered.wait(FIRST_S)
        with self._lock:
            newest, self._newest = self._newest, None
        return newest

    def stop(self) -> None:
        """It is not asked any more."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            wait_s = self._every_s
            try:
                found = self._ask()
            except Exception as error:  # A driver lets out whatever its socket and its parser raise.
                self.failed_total += 1
                # The kind and a number alone: a message may quote what was asked.
                self.failure = " ".join([type(error).__name__, *(str(part) for part in error.args[:1] if isinstance(part, int))])
                wait_s = max(AGAIN_S, wait_s)
            else:
                with self._lock:
                    self._newest = found
                self.polls_total, self.failure = self.polls_total + 1, ""
            self._answered.set()
            self._stopping.wait(wait_s)


def every(told: Told) -> float:
    """The option ``every``, in seconds.

    Raises:
        FeedError: it is none.
    """
    text = told.options.get("every", str(EVERY_S))
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not EVERY_S_MIN <= seconds <= EVERY_S_MAX:
        raise FeedError(f"{told.kind} {told.feed}: every {text}, expected {EVERY_S_MIN} to {EVERY_S_MAX:.0f} seconds")
    return seconds
