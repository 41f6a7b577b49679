"""Packets become events: captures and live interfaces through the compiled sensor (``hopwatch_wire``).

What can go wrong with a capture is normal: it may be cut off, belong to another program or change while it is read. All of
it ends as one ``CaptureError`` with one line, raised only after everything that was read has been yielded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Protocol

PACKETS_MAX = 1 << 20
"""Packets one read may take in before it hands over what it has: a file's in some tenths of a second, live ones within a read's
timeout. Whoever judges them begins with cold caches each time, so seldom is better; events that are ready end a read too."""

EVENTS_MAX = 4096
"""Events that are handed over at a time, about, when everything ends."""

READ_TIMEOUT_MS = 200


class CaptureError(Exception):
    """A capture or an interface cannot be read, or not to its end; the message is one line for a person.

    ``damaged``: it is a capture, and broke off or is damaged further on.
    """

    def __init__(self, message: str, *, damaged: bool = False) -> None:
        super().__init__(message)
        self.damaged = damaged


def damaged(error: Exception) -> bool:
    """Whether the input is a capture that could be read up to a damaged place."""
    return isinstance(error, CaptureError) and error.damaged


class Sensor(Protocol):
    """What this module needs of ``hopwatch_wire.Sensor``."""

    def open_file(self, path: str) -> None:
        """Read ``path`` ("-" is standard input) next; streams go on from the file before."""

    def open_files(self, paths: list[str]) -> None:
        """Read several captures next, as one stream in the order of time."""

    def open_live(self, interfaces: list[str], *, bpf: str | None = None, snaplen: int = 262144) -> None:
        """Read from interfaces, without sending a packet."""

    def read(self, packets_max: int = PACKETS_MAX, timeout_ms: int = READ_TIMEOUT_MS) -> tuple[list[bytes], bool]:
        """Events as JSON lines, and whether the source has ended."""
        ...

    def finish(self, events_max: int = EVENTS_MAX) -> list[bytes]:
        """Events of windows still open, about so many; to be called until there are none."""
        ...

    def conversations(self) -> list[bytes]:
        """What `hopwatch inspect` prints; after ``finish``."""
        ...

    def counters(self) -> dict[str, int]:
        """What was read, and what was lost."""
        ...

    def stop(self) -> None:
        """Ask a running ``read`` to end."""


class Sensors(Protocol):
    """How a sensor is made, as ``sensor`` below makes it; tests pass their own."""

    def __call__(
        self,
        plant: str,
        agent: str,
        *,
        tap: str | None = None,
        conversations: bool = False,
        verify_checksums: bool = False,
        vlans_equal: Sequence[str] = (),
        tap_of: Sequence[str] = (),
    ) -> Sensor: ...


def sensor(
    plant: str,
    agent: str,
    *,
    tap: str | None = None,
    conversations: bool = False,
    verify_checksums: bool = False,
    vlans_equal: Sequence[str] = (),
    tap_of: Sequence[str] = (),
) -> Sensor:
    """The compiled sensor. ``vlans_equal``: pairs like ``120=220`` or ``vni:7=vni:9`` that are one network.
    ``tap_of``: interfaces and the taps they belong to, ``eth3=cell-2``.

    Raises:
        CaptureError: the compiled module is not installed.
    """
    try:
        from hopwatch_wire import Sensor as Compiled
    except ImportError as error:
        raise CaptureError(f"the compiled module hopwatch_wire cannot be loaded: {error}") from error
    try:
        return Compiled(
            plant,
            agent,
            tap=tap,
            conversations=conversations,
            verify_checksums=verify_checksums,
            vlans_equal=list(vlans_equal),
            tap_of=list(tap_of),
        )
    except ValueError as error:
        raise CaptureError(line(error)) from error


def from_files(source: Sensor, paths: Sequence[str], stopping: Callable[[], bool] = lambda: False) -> Iterator[list[bytes]]:
    """The events of the captures, as one stream in the order of time, in batches; then those of the windows left open.

    Captures of one moment (the two directions of a tap) are merged, pieces of a longer one follow one another. An empty
    batch lets the caller look at the clock. A capture that cannot be read does not hide the others.

    Raises:
        CaptureError: after the last batch, for the first capture that failed.
    """

    opening = partial(source.open_file, paths[0]) if len(paths) == 1 else partial(source.open_files, list(paths))
    yield from _batches(source, opening, stopping)


def from_interfaces(
    source: Sensor, interfaces: Sequence[str], stopping: Callable[[], bool], *, bpf: str | None = None, snaplen: int = 262144
) -> Iterator[list[bytes]]:
    """The events of the interfaces until ``stopping`` says so, then those of the windows left open.

    Raises:
        CaptureError: an interface cannot be opened, or capture failed.
    """
    yield from _batches(source, partial(source.open_live, list(interfaces), bpf=bpf, snaplen=snaplen), stopping)


def _batches(source: Sensor, opening: Callable[[], None], stopping: Callable[[], bool]) -> Iterator[list[bytes]]:
    failure: CaptureError | None = None
    opened = False
    try:
        opening()
        opened = True
        done = False
        while not done and not stopping():
            events, done = source.read(PACKETS_MAX, READ_TIMEOUT_MS)
            yield events
    except (OSError, ValueError) as error:
        # The sensor raises OSError for what it cannot open, is no capture or cannot be read on, ValueError for what stands in one.
        failure = CaptureError(line(error), damaged=opened and isinstance(error, ValueError))
    if stopping():
        source.stop()
    # A hundred thousand connections have more to say at their end than they hold.
    while events := source.finish(EVENTS_MAX):
        yield events
    if failure is not None:
        raise failure


def line(error: Exception) -> str:
    """What an exception says, on one line."""
    if isinstance(error, OSError) and error.strerror:
        said = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    else:
        said = str(error) or type(error).__name__
    return " ".join(said.split())


def until(duration_s: float | None, clock: Callable[[], float] = time.monotonic) -> Callable[[], bool]:
    """Says whether ``duration_s`` seconds have passed since this call; never, if None."""
    if duration_s is None:
        return lambda: False
    end = clock() + duration_s
    return lambda: clock() >= end
