"""`hopwatch` with a feed of every kind is killed again and again under load: what the sources moved is in its store, once.

What a source cannot show again, because nobody listened, is not in the store, and a loss says so.
"""

import itertools
import json
import random
import signal
import sqlite3
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from collectors.feed import Told
from examples.plant import servers
from examples.plant.network import network
from examples.plant.watched import Json, hopwatch
from hopwatch.feeds import KINDS, state_of
from tests.collectors.growing import FILES, Growing
from tests.integration.declared import HEAD
from tests.integration.live import Asked, Diagnosed, Exporter, Live, Publisher, topics

LIMIT_S = 120.0
PACE_S = 0.1
DECLARATION = (
    HEAD.format()
    + """\
classes:
  production: {sensitivity: confidential, transit: tls1.2, keep_max: 2y, off_site: approved}
zones:
  site-ops: {level: 3, nets: [10.20.0.0/16]}
assets:
  mes-db: {zone: site-ops, kind: mes, at: "10.20.1.21:5432"}
"""
)

Source = Growing | Live


def until(done: Callable[[], object], what: Callable[[], str]) -> None:
    """Not by time, but by what is there; after so long it is said what was not."""
    deadline = time.monotonic() + LIMIT_S
    while not done():
        if time.monotonic() > deadline:
            pytest.fail(what())
        time.sleep(0.002)


class Load:
    """All sources go on by turns, whoever listens."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources
        self._stopping, self._rotating = threading.Event(), threading.Event()
        self._failed: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            while not self._stopping.wait(PACE_S):
                if self._rotating.is_set():
                    for one in self._sources:
                        one.rotate()
                    self._rotating.clear()
                for one in self._sources:
                    one.step()
            for one in self._sources:
                one.end()
        except BaseException as error:
            self._failed.append(error)
            raise

    def start(self) -> None:
        self._thread.start()

    def rotate(self) -> None:
        self._rotating.set()
        until(lambda: not self._rotating.is_set() or self._failed, lambda: "the files were not renamed")

    def stop(self) -> None:
        self.end()
        assert not self._failed
        assert not self._thread.is_alive()

    def end(self) -> None:
        """However it went."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(LIMIT_S)


@dataclass
class Killed:
    """What came of it."""

    sources: dict[str, Source]
    flows: dict[str, list[Json]] = field(default_factory=dict)
    losses: dict[str, list[Json]] = field(default_factory=dict)


class Watched:
    """`hopwatch watch` on all sources, over all of its lives."""

    def __init__(self, folder: Path, sources: Sequence[Source]) -> None:
        self._folder, self._sources = folder, sources
        self.store = folder / "store.db"
        (folder / "plant.yaml").write_text(DECLARATION)
        base = folder / "place"
        self.states = {one.kind: state_of(base, Told.of(one.told, "agent")) for one in sources}
        flags = ["-d", folder / "plant.yaml", "--store", self.store, "--feeds-state", base, "--json", "--no-questions"]
        self._command = hopwatch("watch", *map(str, flags), *(part for one in sources for part in ("--feed", one.told)))
        self._process: subprocess.Popen[bytes] | None = None
        self._began: dict[str, int] = {}

    def start(self) -> None:
        self._began = self.written()
        with (self._folder / "errors").open("ab") as errors:
            # Of nobody's life but this test's.
            self._process = subprocess.Popen([*servers.tied(), *self._command], stdout=subprocess.DEVNULL, stderr=errors)

    def written(self) -> dict[str, int]:
        """When each place was written down last."""
        found = dict.fromkeys(self.states, 0)
        for kind, path in self.states.items():
            with suppress(FileNotFoundError):
                found[kind] = path.stat().st_mtime_ns
        return found

    def reads(self, kinds: Sequence[str], times: int = 1) -> None:
        """Until each of these was written down anew so many times."""
        for _ in range(times):
            last = self._began
            until(
                lambda last=last: self._lives() and all(self.written()[kind] != last[kind] for kind in kinds),  # type: ignore[misc]  # a loop's lambda
                lambda last=last: f"not read: {[kind for kind in kinds if self.written()[kind] == last[kind]]}; {self.said()}",  # type: ignore[misc]  # a loop's lambda
            )
            self._began = self.written()

    def hands_over(self, kind: str) -> None:
        """Until events of it are in the log between sensor and engine, and perhaps nothing else knows of them yet."""
        with closing(sqlite3.connect(f"file:{self.store}.log?mode=ro", uri=True, timeout=LIMIT_S)) as db:
            (end,) = db.execute("SELECT next FROM ends").fetchone()
            new = "SELECT 1 FROM log WHERE position >= ? AND instr(event, ?) LIMIT 1"
            mark = f'"agent":"{kind}","tap"'.encode()
            until(lambda: self._lives() and db.execute(new, (end, mark)).fetchone(), lambda: f"{kind} tells nothing; {self.said()}")

    def _lives(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.said()
        return True

    def said(self) -> str:
        return (self._folder / "errors").read_text(errors="replace")[-2_000:]

    def kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGINT)
        assert self._process.wait(LIMIT_S) in (0, 1), self.said()

    def state(self, kind: str) -> dict[str, Any]:  # Any: JSON values
        said: dict[str, Any] = json.loads(self.states[kind].read_bytes())
        return said

    def stored(self) -> tuple[dict[str, list[Json]], dict[str, list[Json]]]:
        """Flows and losses by the feed that told them."""
        found: list[dict[str, list[Json]]] = []
        with closing(sqlite3.connect(f"file:{self.store}?mode=ro", uri=True, timeout=LIMIT_S)) as db:
            for table in ("flows", "losses"):
                by_feed: dict[str, list[Json]] = {one.kind: [] for one in self._sources}
                for feed, event in db.execute(f"SELECT agent, event FROM {table}"):
                    by_feed.setdefault(feed, []).append(json.loads(event))
                found.append(by_feed)
        return found[0], found[1]


def complete(source: Source, flows: Sequence[Json]) -> bool:
    """Whether all that can come has come."""
    if isinstance(source, Growing | Asked | Diagnosed):
        return source.measure(flows) == source.ledger
    if isinstance(source, Publisher):
        return topics(flows)[source.turn] > 0
    return any(10_000 + source.turn in (flow["source"]["port"], flow["destination"]["port"]) for flow in flows)


@pytest.fixture(scope="module", params=[7, pytest.param(3 * len(KINDS), marks=pytest.mark.long)], ids=["some", "many"])
def killed(request: pytest.FixtureRequest) -> Iterator[Killed]:
    """Killed so often."""
    with tempfile.TemporaryDirectory(prefix="hopwatch-killed-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        addresses = {"mes-db": "10.20.1.21", "uns": "10.30.0.10"}
        with network(addresses, namespaces=False, kernel_chooses="uns") as place, servers.processes(folder) as held:
            sources: list[Source] = [one(folder) for one in FILES]
            live = [Exporter(), Publisher(held, place, folder), Asked(held, place, folder), Diagnosed(folder)]
            sources += live
            try:
                yield lived(folder, sources, live, request.param)
            finally:
                for one in live:
                    one.close()


def lived(folder: Path, sources: list[Source], live: Sequence[Live], kills: int) -> Killed:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    dice, watched, load = random.Random(seed), Watched(folder, sources), Load(sources)
    try:
        driven(watched, load, live, dice, kills)
        return settled(watched, load, sources)
    finally:
        load.end()
        watched.kill()


def driven(watched: Watched, load: Load, live: Sequence[Live], dice: random.Random, kills: int) -> None:
    """Killed while everything goes on."""
    kinds = list(watched.states)
    watched.start()
    # Only from then on nothing can be lost without a word: the first look is the beginning of everything that grows.
    exporter = next(one for one in live if isinstance(one, Exporter))
    for kind in [one.kind for one in live if one is not exporter]:
        watched.reads([kind])
    for one in live:

        def stands(one: Live = one) -> bool:
            if one is exporter:
                one.step()
            return one.begun(watched.state(one.kind))

        until(stands, lambda one=one: f"{one.kind} does not begin: {watched.said()}")  # type: ignore[misc]  # a loop's lambda
    load.start()
    logs = [one.kind for one in FILES]
    for number, kind in enumerate(itertools.islice(itertools.cycle(dice.sample(kinds, len(kinds))), kills)):
        if number % 6 == 5:
            # In the middle of its beginning, with what will be read next written down.
            watched.reads([dice.choice(logs)])
            watched.kill()
            watched.start()
        watched.hands_over(kind)
        watched.kill()
        if number % 2 == 0:
            load.rotate()
        watched.start()
    watched.reads(kinds)


def settled(watched: Watched, load: Load, sources: Sequence[Source]) -> Killed:
    """What came of it, when all that can come has come; what is missing after a while, each kind's own test says."""
    load.stop()
    result = Killed({one.kind: one for one in sources})
    deadline = time.monotonic() + LIMIT_S
    done = False
    while not done and time.monotonic() < deadline:
        time.sleep(0.5)
        result.flows, result.losses = watched.stored()
        done = all(complete(one, result.flows[one.kind]) for one in sources)
    watched.stop()
    result.flows, result.losses = watched.stored()
    return result


def test_every_kind_is_killed_here() -> None:
    assert {one.kind for one in FILES} | {one.kind for one in (Exporter, Publisher, Asked, Diagnosed)} == set(KINDS)


@pytest.mark.parametrize("kind", [*(one.kind for one in FILES), Asked.kind, Diagnosed.kind])
def test_what_a_killed_collector_tells_is_what_its_source_moved(killed: Killed, kind: str) -> None:
    source = killed.sources[kind]
    assert isinstance(source, Growing | Asked | Diagnosed)
    assert sum(source.ledger.values()) > 30
    assert source.measure(killed.flows[kind]) == source.ledger
    assert killed.losses[kind] == []


@pytest.mark.parametrize("kind", KINDS)
def test_no_window_is_missing_or_told_under_two_names(killed: Killed, kind: str) -> None:
    by_flow: dict[str, list[Json]] = {}
    for flow in killed.flows[kind]:
        by_flow.setdefault(flow["flow_id"], []).append(flow)
    assert by_flow
    for windows in by_flow.values():
        windows.sort(key=lambda one: one["sequence"])
        assert [one["sequence"] for one in windows] == list(range(len(windows)))
        for unit, total in windows[-1]["totals"].items():
            assert sum(one[unit] for one in windows) == total


def test_of_a_switch_nothing_is_doubled_and_what_did_not_come_is_a_loss_of_at_least_so_much(killed: Killed) -> None:
    exporter = killed.sources["netflow"]
    assert isinstance(exporter, Exporter)
    told = killed.flows["netflow"]
    ports = [flow["source"]["port"] - 10_000 for flow in told]
    assert len(set(ports)) == len(ports)
    assert set(ports) <= set(range(1, exporter.turn + 1))
    payload = exporter.octets - 40 * exporter.packets
    assert {(flow["bytes"], flow["bytes_back"]) for flow in told} == {(payload, payload)}
    missing = exporter.turn - len(told)
    # Two records a connection.
    assert missing > 0
    assert 2 * missing <= sum(loss["events"] for loss in killed.losses["netflow"])


def test_of_a_broker_nothing_is_doubled_and_every_gap_is_a_loss(killed: Killed) -> None:
    publisher = killed.sources["mqtt-broker"]
    told = topics(killed.flows["mqtt-broker"])
    assert set(told.values()) == {1}
    missing = sorted(set(range(1, publisher.turn + 1)) - set(told))
    # What was not heard in one life's absence has numbers one after the other.
    absences = sum(1 for number, before in zip(missing, [0, *missing], strict=False) if number != before + 1)
    assert missing
    assert 0 < absences <= len(killed.losses["mqtt-broker"])
