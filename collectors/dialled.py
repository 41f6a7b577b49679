"""What feeds that dial a server have in common: a secret from a file, a thread that waits for the network, and what they keep.

A program reads packets and feeds by turns, so none may wait for a network: whoever does has a thread of its own, which puts what it
hears into a bounded queue. When nobody takes, it waits, the socket fills, and the server keeps what is left or says that it dropped it.
"""

from __future__ import annotations

import ssl
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path
from queue import Empty, Full, Queue
from typing import ClassVar, Final, Generic, TypeVar

from cryptography import x509
from cryptography.x509.oid import NameOID

from collectors.feed import FeedError, Told, windows
from hopwatch.events import Loss, dump, time_text

SECRET_BYTES_MAX: Final = 4_096

HEARD_MAX: Final = 20_000
"""Things heard that wait to be taken; at more, hearing waits."""

BACKOFF_S: Final = (1.0, 60.0)
"""Between two attempts to connect: the first wait, doubled each time up to the last."""

WAIT_S: Final = 0.2
STOP_S: Final = 5.0

T = TypeVar("T")


class Heard(Generic[T]):
    """The queue between the thread of the network and whoever asks. ``waits_total`` counts how often it was full."""

    def __init__(self) -> None:
        self._queue: Queue[T] = Queue(HEARD_MAX)
        self.stopping = threading.Event()
        self.waits_total = 0

    def put(self, heard: T) -> None:
        """Waits for room as long as somebody may still ask."""
        while not self.stopping.is_set():
            try:
                self._queue.put(heard, timeout=WAIT_S)
            except Full:
                self.waits_total += 1
            else:
                return

    def take(self, most: int) -> list[T]:
        """What waits, oldest first; never waits itself."""
        taken: list[T] = []
        try:
            while len(taken) < most:
                taken.append(self._queue.get_nowait())
        except Empty:
            pass
        return taken

    @property
    def empty(self) -> bool:
        """Nothing waits."""
        return self._queue.empty()


class Dialled(ABC, Generic[T]):
    """A feed that dials a server and hears ``T`` of it. ``lives`` while it does."""

    KIND: ClassVar[str]
    OPTIONS: ClassVar[tuple[str, ...]]

    def __init__(self, told: Told, plant: str, state: Path, now_ns: Callable[[], int] = time.time_ns) -> None:
        """Reads what was told and the state; nothing is dialled yet.

        Raises:
            FeedError: a file cannot be read, or a part of what was told is wrong.
        """
        self._told = told.only(*self.OPTIONS)
        self._state, self._now_ns = state, now_ns
        self._place = [plant, told.feed, told.where]
        self._windows = windows(plant, told.feed)
        self._heard: Heard[T] = Heard()
        self._counts: dict[str, int] = {}
        self._events: list[bytes] = []
        self.example, self.unreadable, self.lives = "", 0, False

    @abstractmethod
    def _dial(self) -> None:
        """What the thread of the network does, until ``_heard.stopping``."""

    @abstractmethod
    def _follow(self, stopping: Callable[[], bool], sleep: Callable[[float], None]) -> Iterator[list[bytes]]:
        """The events of what it hears, until ``stopping``."""

    def batches(self, stopping: Callable[[], bool], *, follow: bool, sleep: Callable[[float], None] = time.sleep) -> Iterator[list[bytes]]:
        """The events, until ``stopping``. Whoever asks for the next batch has the one before.

        Raises:
            FeedError: a server has no end to read to, or the state cannot be written.
        """
        name = f"{self.KIND} {self._told.feed}"
        if not follow:
            raise FeedError(f"{name}: a server is heard as it goes, there is nothing to read again: use -i")
        network = thread(name, self._dial)
        try:
            yield from self._follow(stopping, sleep)
        finally:
            self._heard.stopping.set()
            network.join(STOP_S)

    def _count(self, name: str, count: int = 1) -> None:
        if count:
            self._counts[name] = self._counts.get(name, 0) + count


def secret(told: Told, option: str) -> str | None:
    """What the file of an option holds, without the end of its line; None if the option was not given.

    Raises:
        FeedError: it holds none; the message names the file and quotes nothing.
    """
    if option not in told.options:
        return None
    path = Path(told.options[option])
    try:
        with path.open("rb") as file:
            text = file.read(SECRET_BYTES_MAX + 1)
            mode = path.stat().st_mode
    except OSError as error:
        raise FeedError(f"{told.kind} {told.feed}: {option} {path}: {error.strerror}") from None
    if mode & 0o007:
        raise FeedError(f"{told.kind} {told.feed}: {option} {path}: anyone may read it; chmod o= {path}")
    try:
        found = text.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        found = ""
    if not found or len(text) > SECRET_BYTES_MAX:
        raise FeedError(f"{told.kind} {told.feed}: {option} {path}: expected one line of UTF-8, at most {SECRET_BYTES_MAX} bytes")
    return found


def number(told: Told, option: str, default: int, least: int, most: int) -> int:
    """An option that is a number.

    Raises:
        FeedError: it is none, or outside of what is allowed.
    """
    text = told.options.get(option, str(default))
    if not text.isdecimal() or not least <= int(text) <= most:
        raise FeedError(f"{told.kind} {told.feed}: {option}={text}, expected {least} to {most}")
    return int(text)


def tls_name(version: str | None) -> str:
    """As events say it: ``tls1.3`` for Python's ``TLSv1.3``."""
    if version is None:
        return "none"
    number_ = version.removeprefix("TLSv")
    return f"tls{number_ if '.' in number_ else number_ + '.0'}"


def tls(told: Told) -> ssl.SSLContext:
    """TLS 1.2 or newer, with the authorities of ``ca`` (the system's without it) and the certificate of ``cert`` and ``key``.

    Raises:
        FeedError: a file cannot be read or is none.
    """
    try:
        context = ssl.create_default_context(cafile=told.options.get("ca"))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if "cert" in told.options:
            context.load_cert_chain(told.options["cert"], told.options.get("key"))
    except (OSError, ssl.SSLError) as error:
        raise FeedError(f"{told.kind} {told.feed}: ca, cert or key: {error.strerror or error}") from None
    return context


def subject(told: Told) -> str | None:
    """``certificate:CN=NAME`` of the certificate of ``cert``; None without one, or without a common name.

    Raises:
        FeedError: it cannot be read.
    """
    if "cert" not in told.options:
        return None
    try:
        found = x509.load_pem_x509_certificate(Path(told.options["cert"]).read_bytes()).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except (OSError, ValueError) as error:
        raise FeedError(f"{told.kind} {told.feed}: cert {told.options['cert']}: {error}") from None
    return f"certificate:CN={found[0].value!s}" if found else None


def backoff(attempt: int) -> float:
    """Seconds to wait before the attempt of this number, from 0."""
    first, last = BACKOFF_S
    return min(last, first * (1 << min(attempt, 16)))


def thread(name: str, run: Callable[[], None]) -> threading.Thread:
    """A thread that ends with the program."""
    started = threading.Thread(target=run, name=name, daemon=True)
    started.start()
    return started


def gap(place: list[str], since_ns: int, until_ns: int, why: str) -> bytes:
    """The event that a source was not heard; ``place``: plant, feed and what else tells the source from others."""
    print_ = " ".join(map(str, ["gap", *place, since_ns, until_ns]))
    start, end = time_text(since_ns), time_text(max(since_ns, until_ns))
    event_id = blake2b(print_.encode(), digest_size=16).hexdigest()
    return dump(Loss(event_id=event_id, plant=place[0], agent=place[1], stage="collector", start=start, end=end, events=1, why=why))
