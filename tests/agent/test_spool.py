"""The spool keeps what it took until it is acknowledged, numbers it for good, and says what its bound cost."""

import contextlib
import itertools
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from agent.clock import ClockState
from agent.health import Health
from agent.spool import Spool
from hopwatch.bus import LogDamaged, LogError
from hopwatch.bus.numbers import Numbers
from hopwatch.events import Loss, parse
from tests.agent.windows import START_NS, Event, parsed, stream, sums, window

BOUND = 1 << 18
_names = itertools.count()
LARGE = 64 << 20


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In memory: the spool syncs every append, and a busy disk takes its time."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@contextlib.contextmanager
def opened(path: Path, bound: int = BOUND) -> Iterator[Spool]:
    spool = Spool(path, size_bytes_max=bound)
    try:
        yield spool
    finally:
        spool.close()


def everything(spool: Spool, events: list[Event] | None = None) -> list[Event]:
    """All that can be taken, each acknowledged at once, added to ``events``."""
    events = [] if events is None else events
    while taken := spool.take(100, 1 << 20):
        events += parsed([line for _, line in taken])
        spool.acknowledge(taken[-1][0] + 1)
    return events


def numbered(events: list[Event]) -> Numbers:
    numbers = Numbers()
    for event in events:
        numbers.take(event)
    return numbers


def written(wal: Path) -> bytes:
    """The frames of a write-ahead log that are of its present round: the rest is what an earlier one left there."""
    held = wal.read_bytes()
    at, frame = 32, 24 + 4096
    while held[at + 8 : at + 16] == held[16:24]:
        at += frame
    return held[:at]


def losses(events: list[Event]) -> list[Event]:
    return [event for event in events if event["kind"] == "loss"]


def test_events_keep_their_numbers_until_they_are_acknowledged(path: Path) -> None:
    said = stream(range(5), 3)
    with opened(path, LARGE) as spool:
        spool.append(said)
        first = spool.take(4, 1 << 20)
        spool.rewind()
        assert spool.take(4, 1 << 20) == first
        spool.acknowledge(2)
    with opened(path, LARGE) as spool:
        assert spool.waiting() == 13
        again = parsed([line for _, line in spool.take(100, 1 << 20)])
        assert [event["agent_sequence"] for event in again] == list(range(2, 15))
        assert {event["spool"] for event in again} == {spool.name}
        spool.append(stream(range(5, 6), 3))
        assert [event["agent_sequence"] for event in everything(spool)] == [15, 16, 17]


def test_a_process_that_was_killed_publishes_the_same_bytes_again(path: Path, tmp_path: Path) -> None:
    spool = Spool(path, size_bytes_max=LARGE)
    spool.append(stream(range(5), 3))
    taken = spool.take(10, 1 << 20)
    # As kill -9 leaves it: nothing is closed and nothing written out.
    for name in ("spool", "spool-wal"):
        shutil.copy(tmp_path / name, tmp_path / f"left-{name}")
    with opened(tmp_path / "left-spool", LARGE) as left:
        assert left.take(10, 1 << 20) == taken
    spool.close()


def test_a_torn_end_of_the_write_ahead_log_takes_whole_appends_and_no_number_twice(path: Path, tmp_path: Path) -> None:
    spool = Spool(path, size_bytes_max=LARGE)
    for second in range(20):
        spool.append(stream(range(second, second + 1), 3))
    whole = written(tmp_path / "spool-wal")
    for cut in (1, 4096, 20_000):
        for torn in (whole[:-cut], whole[:-cut] + bytes(cut), whole[:-cut] + os.urandom(cut)):
            for old in tmp_path.glob("torn*"):
                old.unlink()
            shutil.copy(path, tmp_path / "torn")
            (tmp_path / "torn-wal").write_bytes(torn)
            with opened(tmp_path / "torn", LARGE) as left:
                left.append(stream(range(30, 31), 3))
                numbers = [event["agent_sequence"] for event in everything(left)]
                assert numbers == list(range(len(numbers)))
                assert len(numbers) % 3 == 0 and len(numbers) < 63
    spool.close()


def test_a_clock_that_jumps_costs_no_event_and_no_number(path: Path) -> None:
    """Set back by two hours, on by a day, and to zero; a batch and a heartbeat by each, then killed and opened again."""
    jumps_s = [0, 10, 10 - 7_200, 20 - 7_200, 86_400, 86_410, 30]
    walls = iter([0, 0, *jumps_s, -START_NS / 10**9])
    health = Health("north", "tap-idmz", "1.0", ClockState(lambda: (0, 0, 0, 0), lambda: float(next(walls)), lambda: 0.0))
    with opened(path, LARGE) as spool:
        for number, at_s in enumerate(jumps_s):
            spool.append([window(1, number, at_s=at_s), health.heartbeat(START_NS + at_s * 10**9, {})])
            assert spool.oldest_age_s(START_NS + at_s * 10**9) >= 0
    with opened(path, LARGE) as spool:
        spool.append([health.heartbeat(10**9, {})])
        events = everything(spool)
    assert [event["agent_sequence"] for event in events] == list(range(2 * len(jumps_s) + 1))
    assert len({event["event_id"] for event in events}) == len(events)
    assert losses(events) == [] and not any(numbered(events).holes().values())
    stepped = [event["clock"]["stepped_s"] for event in events if event["kind"] == "heartbeat"]
    assert stepped[2] == -7_190 and stepped[4] == 86_400


def test_below_the_bound_nothing_is_merged_or_lost(path: Path) -> None:
    said = stream(range(60), 3, account_every=5)
    with opened(path, LARGE) as spool:
        spool.append(said)
        assert [event | {"agent_sequence": 0, "spool": ""} for event in everything(spool)] == [
            event | {"agent_sequence": 0, "spool": ""} for event in parsed(said)
        ]
        assert spool.merged_total == spool.dropped_total == 0


def test_at_the_bound_windows_of_one_flow_become_one_and_every_count_is_kept(path: Path) -> None:
    said = stream(range(600), 3)
    with opened(path) as spool:
        for at in range(0, len(said), 50):
            spool.append(said[at : at + 50])
        assert spool.size_bytes() <= BOUND
        events = everything(spool)
    assert spool.merged_total > 0 and spool.dropped_total == 0
    assert losses(events) == []
    assert sums(events) == sums(parsed(said))
    assert len(events) + spool.merged_total == len(said)
    assert numbered(events).holes() == {}
    for flow in range(3):
        expected = 0
        for event in events:
            if event["account"] != f"svc_{flow}":
                continue
            merged = event.get("merged", {"sequence_first": event["sequence"], "windows": 1})
            assert merged["sequence_first"] == expected
            assert merged["windows"] == event["sequence"] - expected + 1
            assert event["objects"][0]["rows"] == event["rows"]
            assert parse(json.dumps(event)).kind == "flow"
            expected = event["sequence"] + 1
        assert expected == 600


def test_what_cannot_be_merged_is_dropped_oldest_first_and_said_in_one_loss(path: Path) -> None:
    # A window each of many flows, and logins: no two can be merged.
    said = [window(flow, 0, at_s=flow) for flow in range(600)]
    said[50:50] = [window(5_000 + login, 0, "connect", at_s=50) for login in range(20)]
    with opened(path) as spool:
        for at in range(0, len(said), 20):
            spool.append(said[at : at + 20])
        events = everything(spool)
    (loss,) = losses(events)
    assert spool.merged_total == 0
    assert loss["stage"] == "spool" and loss["events"] == spool.dropped_total == len(said) + 1 - len(events) > 100
    assert isinstance(parse(json.dumps(loss)), Loss)
    assert len([event for event in events if event.get("operation") == "connect"]) == 20
    left = [int(event["account"][4:]) for event in events if event.get("operation") == "select"]
    assert left == list(range(600 - len(left), 600))
    kept, total = sums(events), sums(parsed(said))
    assert loss["bytes"] == total["bytes"] + total["bytes_back"] - kept["bytes"] - kept["bytes_back"]
    assert loss["packets"] == total["packets"] - kept["packets"]
    assert numbered(events).holes() == {}
    # More flows than a loss names: it names none, and so excuses any.
    assert loss["flows"] == []


def test_events_of_accounts_go_last_and_losses_after_them(path: Path) -> None:
    said = [window(login, 0, "connect", at_s=login) for login in range(600)]
    kernel = {
        "kind": "loss", "event_id": "0" * 32, "plant": "north", "agent": "tap-idmz", "stage": "kernel", "start": "2026-04-07T10:42:08Z",
        "end": "2026-04-07T10:42:09Z", "packets": 7, "bytes": 70, "events": 0, "flows": [], "why": "ring full",
    }  # fmt: skip
    with opened(path) as spool:
        spool.append([json.dumps(kernel, separators=(",", ":")).encode()])
        for at in range(0, len(said), 20):
            spool.append(said[at : at + 20])
        events = everything(spool)
    assert [loss["stage"] for loss in losses(events)] == ["kernel", "spool"]
    assert losses(events)[1]["events"] == 602 - len(events)


def test_what_was_handed_over_is_neither_merged_nor_dropped(path: Path) -> None:
    with opened(path) as spool:
        spool.append(stream(range(20), 3))
        handed = spool.take(30, 1 << 20)
        for second in range(20, 400, 10):
            spool.append(stream(range(second, second + 10), 3))
        spool.rewind()
        assert spool.take(30, 1 << 20) == handed
        assert spool.merged_total > 0


def test_what_a_killed_agent_had_handed_over_is_neither_merged_nor_dropped(path: Path) -> None:
    with opened(path) as spool:
        spool.append(stream(range(20), 3))
        handed = spool.take(30, 1 << 20)
    with opened(path) as spool:
        for second in range(20, 400, 10):
            spool.append(stream(range(second, second + 10), 3))
        assert spool.take(30, 1 << 20) == handed
        assert spool.merged_total > 0


def test_drops_after_a_loss_was_handed_over_are_another_loss(path: Path) -> None:
    with opened(path) as spool:
        for flow in range(0, 600, 20):
            spool.append([window(flow + each, 0) for each in range(20)])
        events = everything(spool)
        for flow in range(600, 1200, 20):
            spool.append([window(flow + each, 0) for each in range(20)])
        events += everything(spool)
    assert len(losses(events)) == 2
    assert sum(loss["events"] for loss in losses(events)) == 1202 - len(events)
    assert numbered(events).holes() == {}


def test_an_event_the_broker_refuses_for_good_is_a_loss_with_its_number(path: Path) -> None:
    with opened(path, LARGE) as spool:
        spool.append(stream(range(1), 3))
        taken = spool.take(3, 1 << 20)
        spool.refuse(taken[0][0], "too large")
        spool.refuse(taken[1][0], "too large")
        spool.acknowledge(3)
        events = parsed([taken[2][1]]) + everything(spool)
    (loss,) = losses(events)
    assert loss["events"] == 2 and "too large" in loss["why"]
    assert numbered(events).holes() == {}


def test_an_event_too_large_for_the_log_is_a_loss(path: Path) -> None:
    with opened(path, LARGE) as spool:
        spool.append([window(1, 0, statement="x" * (1 << 20)), window(2, 0)])
        spool.append([window(3, 0)])
        events = everything(spool)
    assert [event["events"] for event in losses(events)] == [1]
    assert [event["agent_sequence"] for event in events] == [0, 1, 2]


def test_a_capture_read_again_adds_nothing(path: Path) -> None:
    said = stream(range(20), 3)
    with opened(path, LARGE) as spool:
        spool.append(said[:40], once=True)
        everything(spool)
    with opened(path, LARGE) as spool:
        spool.append(said, once=True)
        assert [event["agent_sequence"] for event in everything(spool)] == list(range(40, 60))
        assert spool.known_total == 40


def test_a_full_disk_lets_events_through_and_says_what_it_cost(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(disk)], check=True)
    try:
        with opened(disk / "spool", LARGE) as spool:
            # Somebody else takes what is left of the disk.
            with contextlib.suppress(OSError), (disk / "other").open("wb", buffering=0) as other:
                while True:
                    other.write(bytes(1 << 16))
            said = stream(range(100), 20)
            events: list[Event] = []
            for at in range(0, len(said), 400):
                spool.append(said[at : at + 400])
                events += everything(spool)
            assert losses(events) == [] and sums(events) == sums(parsed(said))
            # And nobody takes anything any more.
            more = [window(flow, 0) for flow in range(9_000)]
            for at in range(0, len(more), 400):
                spool.append(more[at : at + 400])
            events = everything(spool)
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    assert len(losses(events)) >= 1
    assert sum(loss["events"] for loss in losses(events)) + len(events) - len(losses(events)) == len(more)
    assert numbered(events).holes().popitem()[1] == [[0, len(said) - 1]]


def test_a_spool_that_is_no_log_any_more_is_set_aside(path: Path) -> None:
    path.write_bytes(b"anything but a database" * 500)
    with opened(path, LARGE) as spool:
        assert spool.set_aside is not None and spool.set_aside.read_bytes().startswith(b"anything")
        spool.append(stream(range(2), 1))
        assert len(everything(spool)) == 2


def test_what_a_damaged_spool_still_tells_is_published_and_the_rest_is_a_loss(path: Path) -> None:
    said = stream(range(400), 3)
    with opened(path, LARGE) as spool:
        first = spool.name
        spool.append(said)
        events = parsed([line for _, line in spool.take(100, 1 << 20)])
        spool.acknowledge(100)
    content = bytearray(path.read_bytes())
    # A page somewhere in the middle of the events is not what it was.
    at = content.index(b'"agent_sequence":700,"spool"') // 4096 * 4096
    content[at : at + 4096] = os.urandom(4096)
    path.write_bytes(content)
    spool = Spool(path, size_bytes_max=LARGE)
    with pytest.raises(LogDamaged):
        everything(spool, events)
    spool.close()
    with opened(path, LARGE) as spool:
        assert spool.set_aside is not None
        events += everything(spool)
    (loss,) = losses(events)
    assert loss["stage"] == "spool" and 0 < loss["events"] < 20 and loss["spool"] == first
    # What was handed over and never acknowledged may have arrived: the loss says the most that can be missing.
    missing = len(said) - len({event["event_id"] for event in events if event["kind"] == "flow"})
    assert 0 < missing <= loss["events"]
    assert numbered(events).holes() == {}


def test_a_second_agent_on_the_same_spool_is_refused(path: Path) -> None:
    with opened(path), pytest.raises(LogError, match="in use by another process"):
        Spool(path)


@settings(
    max_examples=8,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from(["select", "select", "insert", "connect"]), st.sampled_from(["a", "b"])),
        min_size=400,
        max_size=1200,
    ),
    st.lists(st.booleans(), min_size=40, max_size=40),
)
def test_whatever_comes_counts_are_kept_or_lost_and_numbers_answered_for(
    tmp_path: Path, script: list[tuple[int, str, str]], reads: list[bool]
) -> None:
    said: list[bytes] = []
    sequences: dict[tuple[int, str], int] = {}
    for at, (client, operation, table) in enumerate(script):
        flow = client + {"select": 0, "insert": 10, "connect": 20}[operation]
        sequences[flow, operation] = sequence = sequences.get((flow, operation), -1) + 1
        said.append(window(flow, sequence, operation, at_s=at, table=table))
    events: list[Event] = []
    with opened(tmp_path / f"spool{next(_names)}") as spool:
        step = len(said) // len(reads) + 1
        for at, read in enumerate(reads):
            spool.append(said[at * step : (at + 1) * step])
            if read and (taken := spool.take(7, 1 << 20)):
                events += parsed([line for _, line in taken])
                spool.acknowledge(taken[-1][0] + 1)
        events += everything(spool)
    kept, total = sums(events), sums(parsed(said))
    lost = losses(events)
    assert sum(loss["bytes"] for loss in lost) == total["bytes"] + total["bytes_back"] - kept["bytes"] - kept["bytes_back"]
    assert sum(loss["packets"] for loss in lost) == total["packets"] - kept["packets"]
    windows = sum(event.get("merged", {"windows": 1})["windows"] for event in events if event["kind"] == "flow")
    assert sum(loss["events"] for loss in lost) + windows == len(said)
    assert numbered(events).holes() == {}
