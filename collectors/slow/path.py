"""Between the sensor and the slow-path decoders: hands them bytes, takes what they say, and lets none of them be in the way.

A decoder has ``BUDGET_S`` of each second. Beyond, the connection that took most of it is counted as bytes from there on. One that
does not answer within ``ANSWER_S_MAX`` is killed, its connections are counted, and it rests for ``REST_S``. All of that happens on a
thread and in processes of their own; what they cannot keep up with the sensor counts itself (``wire/src/slow.rs``).

A capture on disk waits for its decoders, as nothing is lost by it: there is no budget then, and the windows are the same each time.
"""

from __future__ import annotations

import json
import marshal
import os
import selectors
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import IO, Any, Final, Protocol

from collectors.packets import EVENTS_MAX, PACKETS_MAX, READ_TIMEOUT_MS, CaptureError, Sensor
from collectors.slow import SHIPPED
from collectors.slow.worker import LENGTH
from hopwatch.process import import_paths

BUDGET_S: Final = 0.25
"""Of each second, what one decoder may use."""

ANSWER_S_MAX: Final = 5.0
"""A decoder that takes longer for a batch is killed (`slow_killed`)."""

START_S_MAX: Final = 60.0
"""How long a decoder may take to be loaded."""

REST_S: Final = 60.0
ENDING_S_MAX: Final = 10.0
"""How long a live capture that ends waits for its decoders."""

ITEMS_MAX: Final = 64
"""Items of a decoder that are one batch."""

ANSWER_BYTES_MAX: Final = 16 << 20
"""Bytes of one answer; a decoder that says more is killed."""

PLUGINS_MAX: Final = 32
"""Decoders of one agent."""

WAIT_MS: Final = 50

Said = tuple[str, str, list[str], int, int, int, int, int]
Answer = list[Said] | str | None
Item = tuple[int, str, str, str | None, bytes | None, int]


class Path(Protocol):
    """What this module needs of ``hopwatch_wire.SlowPath``."""

    def take(self, timeout_ms: int = 0) -> list[Item | None]:
        """What is to be read next."""
        ...

    def answer(self, answers: list[Answer]) -> None:
        """One answer for each item."""

    def forsake(self, plugin: str, why: str) -> None:
        """The decoder is not asked any more about what it reads now."""

    def events(self) -> list[bytes]:
        """The events that are ready."""
        ...

    def counters(self) -> dict[str, int]:
        """What was handed over, and what was not."""
        ...


class _Stuck(Exception):
    """A decoder's process does not answer, or nonsense."""


class Worker:
    """One decoder's process, started when it is needed first."""

    def __init__(self, spec: str, *, answer_s_max: float = ANSWER_S_MAX, clock: Callable[[], float] = time.monotonic) -> None:
        self.spec = spec
        self._answer_s_max, self._clock = answer_s_max, clock
        self._process: subprocess.Popen[bytes] | None = None
        self._rests_until = -REST_S
        self.killed_total = 0

    def start(self) -> dict[str, Any]:  # Any: JSON values
        """Starts the process; what the decoder says it is.

        Raises:
            CaptureError: it cannot be loaded.
        """
        # Of its own session: an interrupt from the terminal is the agent's, which then ends its decoders.
        command = [sys.executable, "-m", "collectors.slow.worker", self.spec]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HOPWATCH_")} | {
            "PYTHONPATH": import_paths()
        }
        pipe = subprocess.PIPE
        try:
            self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, start_new_session=True, env=environment)
        except OSError as error:
            raise CaptureError(f"plug-in {self.spec}: cannot be started: {error.strerror}") from error
        try:
            hello = self._receive(START_S_MAX)
        except _Stuck as error:
            self.kill()
            raise CaptureError(f"plug-in {self.spec}: cannot be loaded") from error
        if not isinstance(hello, dict) or not isinstance(hello.get("name"), str):
            self.kill()
            raise CaptureError(f"plug-in {self.spec}: it does not say its name")
        return hello

    def ask(self, items: list[tuple[int, str, str | None, bytes | int]]) -> list[Any]:  # Any: what it says is proven by `said`
        """What the decoder answers to a batch; of one that rests, why not."""
        if self._process is None:
            if self._clock() < self._rests_until:
                return [["rests, as it did not answer", 0.0] for _ in items]
            try:
                self.start()
            except CaptureError:
                self._rests_until = self._clock() + REST_S
                return [["cannot be loaded", 0.0] for _ in items]
        assert self._process is not None
        try:
            self._send(marshal.dumps(items))
            answers = self._receive(self._answer_s_max)
            if not isinstance(answers, list) or len(answers) != len(items):
                raise _Stuck("not one answer for each item")
        except (_Stuck, OSError) as error:
            self.kill()
            self.killed_total += 1
            self._rests_until = self._clock() + REST_S
            raise _Stuck(str(error) or "it ended") from error
        return answers

    def kill(self) -> None:
        """Ends the process."""
        if self._process is None:
            return
        process, self._process = self._process, None
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()

    def _pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        assert self._process is not None and self._process.stdin is not None and self._process.stdout is not None
        return self._process.stdin, self._process.stdout

    def _send(self, body: bytes) -> None:
        sink, _ = self._pipes()
        # It reads all before it answers, so nothing waits here but for its reading.
        left = memoryview(LENGTH.pack(len(body)) + body)
        until = self._clock() + self._answer_s_max
        os.set_blocking(sink.fileno(), False)
        with selectors.DefaultSelector() as ready:
            ready.register(sink, selectors.EVENT_WRITE)
            while left:
                if not ready.select(max(0.0, until - self._clock())):
                    raise _Stuck("did not read in time")
                left = left[os.write(sink.fileno(), left) :]

    def _receive(self, seconds: float) -> Any:  # Any: JSON
        _, source = self._pipes()
        until = self._clock() + seconds
        with selectors.DefaultSelector() as ready:
            ready.register(source, selectors.EVENT_READ)

            def exactly(count: int) -> bytes:
                found = bytearray()
                while len(found) < count:
                    if not ready.select(max(0.0, until - self._clock())):
                        raise _Stuck("did not answer in time")
                    piece = os.read(source.fileno(), count - len(found))
                    if not piece:
                        raise _Stuck("it ended")
                    found += piece
                return bytes(found)

            length = LENGTH.unpack(exactly(LENGTH.size))[0]
            if length > ANSWER_BYTES_MAX:
                raise _Stuck(f"an answer of {length} bytes")
            try:
                return json.loads(exactly(length))
            except ValueError as error:
                raise _Stuck("not JSON") from error


def said(answer: object) -> Answer:
    """An answer as the windows take it; whatever else it is, why it cannot be one."""
    if answer is None or isinstance(answer, str):
        return answer
    if not isinstance(answer, list):
        return "said what is no observation"
    found: list[Said] = []
    for one in answer:
        if not isinstance(one, list) or len(one) != 8:
            return "said what is no observation"
        operation, data_from, names, *counts = one
        texts = isinstance(operation, str) and isinstance(data_from, str) and isinstance(names, list)
        if not texts or not all(isinstance(name, str) for name in names):
            return "said what is no observation"
        if not all(type(count) is int and 0 <= count < 1 << 62 for count in counts):
            return "said a count that is none"
        rows, values, messages, client, server = counts
        found.append((operation, data_from, [name[:256] for name in names], rows, values, messages, client, server))
    return found


class Feeder:
    """Hands the decoders what waits, and their answers to the windows."""

    def __init__(
        self, path: Path, workers: dict[str, Worker], *, live: bool, budget_s: float = BUDGET_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._path, self._workers = path, workers
        self._live, self._budget_s, self._clock = live, budget_s, clock
        self._second = 0
        self._spent: dict[str, Counter[int]] = {}
        self._over: set[int] = set()
        self.over_budget_total = self.failed_total = 0

    def turn(self, timeout_ms: int = 0) -> bool:
        """One batch; False if nothing waited."""
        items = self._path.take(timeout_ms)
        answers: list[Answer] = [None] * len(items)
        for name, worker in self._workers.items():
            places = [at for at, item in enumerate(items) if item is not None and item[1] == name]
            for first in range(0, len(places), ITEMS_MAX):
                wrong = self._ask(name, worker, items, places[first : first + ITEMS_MAX], answers)
                if wrong is not None:
                    # What it reads is counted from there on, and so is the rest of what was taken.
                    for at in places[first:]:
                        answers[at] = wrong
                    break
        if items:
            self._path.answer(answers)
        return bool(items)

    def _ask(self, name: str, worker: Worker, items: list[Item | None], places: list[int], answers: list[Answer]) -> str | None:
        """Asks for one batch; why there is no answer, if there is none."""
        batch = []
        for at in places:
            item = items[at]
            assert item is not None
            number, _, kind, sender, data, length = item
            batch.append((number, kind, sender, length if data is None else data))
        try:
            answered = worker.ask(batch)
        except _Stuck as error:
            self._path.forsake(name, str(error))
            return str(error)
        for at, (number, kind, *_), answer in zip(places, batch, answered, strict=True):
            if kind == "close":
                self._over.discard(number)
                continue
            proven = said(answer[0]) if isinstance(answer, list) and len(answer) == 2 else "said what is no answer"
            seconds = answer[1] if isinstance(answer, list) and len(answer) == 2 and isinstance(answer[1], float) else 0.0
            self.failed_total += isinstance(proven, str) and proven != ""
            answers[at] = self._within(name, number, seconds, proven)
        return None

    def _within(self, name: str, number: int, seconds: float, answer: Answer) -> Answer:
        """The answer, unless its connection is the one that used most of its decoder's second."""
        if not self._live:
            return answer
        if (second := int(self._clock())) != self._second:
            self._second, self._spent = second, {}
        spent = self._spent.setdefault(name, Counter())
        spent[number] += int(seconds * 1e9)
        if spent.total() > self._budget_s * 1e9:
            worst, _ = spent.most_common(1)[0]
            del spent[worst]
            self._over.add(worst)
            self.over_budget_total += 1
        if number in self._over:
            return f"took more than {self._budget_s} s of a second"
        return answer


class Slowed:
    """A sensor whose slow-path decoders run beside it; otherwise as the sensor itself."""

    def __init__(self, sensor: Sensor, path: Path, workers: dict[str, Worker]) -> None:
        self._sensor, self._path, self._workers = sensor, path, workers
        self._feeder = Feeder(path, workers, live=False)
        self._thread: threading.Thread | None = None
        self._ending = threading.Event()

    def open_file(self, path: str) -> None:
        """As the sensor's."""
        self._sensor.open_file(path)

    def open_files(self, paths: list[str]) -> None:
        """As the sensor's."""
        self._sensor.open_files(paths)

    def open_live(self, interfaces: list[str], *, bpf: str | None = None, snaplen: int = 262144) -> None:
        """As the sensor's; the decoders read on a thread from now on."""
        self._sensor.open_live(interfaces, bpf=bpf, snaplen=snaplen)
        self._feeder = Feeder(self._path, self._workers, live=True)
        self._thread = threading.Thread(target=self._feed, name="slow-path", daemon=True)
        self._thread.start()

    def _feed(self) -> None:
        while not self._ending.is_set():
            self._feeder.turn(WAIT_MS)

    def read(self, packets_max: int = PACKETS_MAX, timeout_ms: int = READ_TIMEOUT_MS) -> tuple[list[bytes], bool]:
        """Events of the sensor, and of what the decoders have said meanwhile."""
        events, done = self._sensor.read(packets_max, timeout_ms)
        if self._thread is None:
            self._drain(None)
        return events + self._path.events(), done

    def finish(self, events_max: int = EVENTS_MAX) -> list[bytes]:
        """Events of windows still open; a live capture waits ``ENDING_S_MAX`` for its decoders."""
        events = self._sensor.finish(events_max)
        deadline = None
        if self._thread is not None:
            self._ending.set()
            self._thread.join()
            deadline = time.monotonic() + ENDING_S_MAX
        self._drain(deadline)
        events += self._path.events()
        if not events:
            for worker in self._workers.values():
                worker.kill()
        return events

    def _drain(self, deadline: float | None) -> None:
        while self._feeder.turn():
            if deadline is not None and time.monotonic() > deadline:
                for name in self._workers:
                    self._path.forsake(name, "the capture ended before it had read all")
                while items := self._path.take():
                    self._path.answer(["the capture ended before it had read all" if item else None for item in items])
                return

    def conversations(self) -> list[bytes]:
        """As the sensor's."""
        return self._sensor.conversations()

    def counters(self) -> dict[str, int]:
        """The sensor's, and how the decoders keep up."""
        feeder = {
            "slow_failed": self._feeder.failed_total,
            "slow_over_budget": self._feeder.over_budget_total,
            "slow_killed": sum(worker.killed_total for worker in self._workers.values()),
        }
        return self._sensor.counters() | self._path.counters() | feeder

    def stop(self) -> None:
        """As the sensor's."""
        self._sensor.stop()


class _Handing(Protocol):
    def slow_path(self, wishes: list[tuple[str, str, int]]) -> Path: ...


def slowed(sensor: Sensor, plugins: Sequence[str]) -> Sensor:
    """The sensor with decoders beside it: ``modbus``, ``modbus@1502`` on another port, ``plant.gauge:Gauge`` of one's own.

    Raises:
        CaptureError: one line; a decoder cannot be loaded, or two have one name.
    """
    if not plugins:
        return sensor
    if len(plugins) > PLUGINS_MAX:
        raise CaptureError(f"plug-ins: {len(plugins)}, expected at most {PLUGINS_MAX}")
    workers: dict[str, Worker] = {}
    wishes: list[tuple[str, str, int]] = []
    try:
        for plugin in plugins:
            spec, _, ports = plugin.partition("@")
            if spec not in SHIPPED and ":" not in spec:
                raise CaptureError(f"plug-in {spec!r}: expected one of {', '.join(SHIPPED)}, or package.module:Class")
            worker = Worker(SHIPPED.get(spec, spec))
            hello = worker.start()
            name = hello["name"]
            if name in workers:
                worker.kill()
                raise CaptureError(f"plug-in {spec}: there is one with the name {name} already")
            workers[name] = worker
            asked = _ports(plugin, ports) or [(transport, port) for transport in ("tcp", "udp") for port in hello.get(transport, [])]
            wishes += [(name, transport, port) for transport, port in asked]
        handing: Any = sensor  # The compiled sensor hands over; tests pass one that does, too.
        over: _Handing = handing
        return Slowed(sensor, over.slow_path(wishes), workers)
    except (CaptureError, ValueError, TypeError, OverflowError) as error:
        for worker in workers.values():
            worker.kill()
        raise error if isinstance(error, CaptureError) else CaptureError(f"plug-ins: {error}") from error


def _ports(plugin: str, text: str) -> list[tuple[str, int]]:
    """``1502``, ``udp/1502``, several with ``+`` between them."""
    found = []
    for one in filter(None, text.split("+")):
        transport, _, port = one.rpartition("/")
        if not port.isdecimal() or not 0 < int(port) < 1 << 16 or transport not in ("", "tcp", "udp"):
            raise CaptureError(f"plug-in {plugin}: {one!r}, expected a port like 1502 or udp/1502")
        found.append((transport or "tcp", int(port)))
    return found
