"""What an agent says of itself: heartbeats with coverage and clock, figures for Prometheus, signs of life for systemd."""

import contextlib
import json
import os
import socket
import sqlite3
import tempfile
import urllib.request
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent.clock import STA_NANO, STA_UNSYNC, TIME_ERROR, ClockState, kernel_state
from agent.health import CONTEXTS_MAX, HEARTBEAT_S, Coverage, Health, beating
from agent.metrics import figures
from agent.notify import Notifier
from agent.spool import Spool
from hopwatch.agents import _Running
from hopwatch.cli import main
from hopwatch.config import AgentSettings
from hopwatch.events import Heartbeat, parse
from hopwatch.metrics import MetricsError, address, serve
from tests.agent.windows import window
from tests.test_cli import PLANT

NOW_NS = 1_775_558_528 * 10**9
PERFECT = (0, 300_000, 2_000, STA_NANO)


def clock(kernel: tuple[int, int, int, int] = PERFECT, times: list[float] | None = None) -> ClockState:
    walls = iter(times or [0.0] * 9)
    return ClockState(lambda: kernel, lambda: next(walls), lambda: 0.0)


def test_the_kernel_tells_offset_error_and_whether_anything_keeps_the_clock() -> None:
    state = clock().now()
    assert (state.offset_s, state.error_s, state.synchronised) == (0.0003, 0.002, True)
    assert clock((0, 300, 2_000, 0)).now().offset_s == 0.0003
    assert not clock((TIME_ERROR, 0, 16_000_000, 0)).now().synchronised
    assert not clock((0, 0, 16_000_000, STA_UNSYNC)).now().synchronised
    # The real one answers too, whatever it says.
    assert kernel_state()[2] >= 0


def test_a_kernel_that_does_not_tell_is_a_clock_nobody_keeps() -> None:
    def refuse() -> tuple[int, int, int, int]:
        raise OSError("not permitted")

    assert not ClockState(refuse).now().synchronised


def test_a_clock_that_is_stepped_says_by_how_much_and_slewing_is_no_step() -> None:
    state = clock(times=[1000.0, 1000.005, 1090.005, 1090.01, 1000.0])
    assert [state.now().model_dump()["stepped_s"] for _ in range(4)] == [0.0, 90.0, 90.0, pytest.approx(-0.01)]


def test_an_agent_whose_feed_cannot_hear_its_source_says_no_heartbeat(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", size_bytes_max=1 << 20)
    pump: Any = SimpleNamespace(counters=dict, published_total=0, stalls=0)
    heard = [False]
    running = _Running(
        Namespace(), AgentSettings(), spool, pump, Health("north", "uns-log", "1", clock()), Notifier(), dict, lives=lambda: heard[0]
    )
    (beat,) = (chore.do for chore in running.chores(live=True) if chore.period_s == HEARTBEAT_S)
    beat()
    silent = spool.waiting()
    heard[0] = True
    beat()
    assert (silent, spool.waiting()) == (0, 1)
    spool.close()


def test_coverage_is_told_by_tap_and_context_and_begins_anew() -> None:
    coverage = Coverage()
    one_sided = {"state": "one-sided", "lost_bytes": 0, "joined_late": False, "one_sided": True, "estimated": False}
    coverage.take([window(1, 0, tap="eth2", context="vlan:120"), window(1, 1, tap="eth2", context="vlan:120", completeness=one_sided)])
    coverage.take([window(2, 0, tap="eth2", context="vlan:130", depth="blind"), b'{"kind":"loss"}'])
    assert coverage.said() == [
        {"tap": "eth2", "context": "vlan:120", "depth": "decoded", "depths": {"decoded": 2}, "windows": 2, "one_sided_share": 0.5},
        {"tap": "eth2", "context": "vlan:130", "depth": "blind", "depths": {"blind": 1}, "windows": 1, "one_sided_share": 0.0},
    ]
    assert coverage.said() == []


def test_coverage_of_endless_contexts_is_bounded() -> None:
    coverage = Coverage()
    coverage.take([window(1, number, context=f"vlan:{number}") for number in range(CONTEXTS_MAX + 50)])
    said = coverage.said()
    assert len(said) == CONTEXTS_MAX + 1
    assert sum(one["windows"] for one in said) == CONTEXTS_MAX + 50


def test_a_heartbeat_is_an_event_of_the_contract() -> None:
    health = Health("north", "tap-idmz", "1.0", clock())
    health.coverage.take([window(1, 0, tap="eth2")])
    beat = parse(health.heartbeat(NOW_NS, {"packets": 5, "kernel_drops": 0}))
    assert isinstance(beat, Heartbeat) and beat.clock is not None
    assert (beat.time, beat.counters, beat.clock.synchronised) == ("2026-04-07T10:42:08Z", {"packets": 5}, True)
    assert beat.model_dump()["coverage"][0]["tap"] == "eth2"
    assert json.loads(health.heartbeat(NOW_NS + 1, {}))["event_id"] != beat.event_id


def test_a_live_stream_bears_a_heartbeat_every_ten_seconds() -> None:
    times = iter([0.0, 0.0, 0.0, 5.0, 10.0, 10.0, 19.9, 20.0, 20.0])
    batches = [[window(1, number)] for number in range(5)]
    said = list(beating(batches, Health("north", "tap-idmz", "1.0", clock()), lambda: {"packets": 1}, lambda: next(times), lambda: NOW_NS))
    assert [[parse(line).kind for line in batch] for batch in said] == [
        ["flow", "heartbeat"], ["flow"], ["flow", "heartbeat"], ["flow"], ["flow", "heartbeat"],
    ]  # fmt: skip


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_hears_lines_on_its_socket(abstract: bool) -> None:
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        name = f"@hopwatch-{os.getpid()}" if abstract else str(Path(folder) / "notify")
        manager.bind(f"\0{name[1:]}" if abstract else name)
        manager.settimeout(5)
        notifier = Notifier({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())})
        assert notifier.watchdog_s == 30.0
        notifier.say("READY=1", "STATUS=capturing")
        assert manager.recv(4096) == b"READY=1\nSTATUS=capturing"


def test_without_systemd_nothing_is_said_and_another_process_watchdog_is_not_ours() -> None:
    assert Notifier({}).watchdog_s is None
    Notifier({}).say("READY=1")
    Notifier({"NOTIFY_SOCKET": "/nowhere/at/all"}).say("READY=1")
    assert Notifier({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}).watchdog_s is None


def test_figures_are_served_on_the_loopback_interface_unless_others_are_meant() -> None:
    for wrong in (
        "exposed:",
        "exposed:9464",
        "exposed:exposed:127.0.0.1:1",
        "0.0.0.0:9464",
        "10.0.0.1:9464",
        "9464",
        "127.0.0.1:",
        "127.0.0.1:70000",
        "example.com:1",
    ):
        with pytest.raises(MetricsError):
            address(wrong)
    assert address("[::1]:9464") == ("::1", 9464) and address("localhost:1") == ("127.0.0.1", 1)
    assert address("exposed:0.0.0.0:9464") == ("0.0.0.0", 9464) and address("exposed:[2001:db8::1]:9464") == ("2001:db8::1", 9464)
    made = figures({"spool_events": lambda: 7, "events_published_total": lambda: 3}, lambda: {"packets": 5})
    server, thread = serve("127.0.0.1:0", made)
    try:
        page = urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics", timeout=5).read().decode()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    lines = set(page.splitlines())
    assert {
        "hopwatch_agent_spool_events 7.0",
        "hopwatch_agent_events_published_total 3.0",
        "hopwatch_sensor_packets_total 5.0",
    } <= lines
    assert "# TYPE hopwatch_agent_events_published_total counter" in lines


class Quiet:
    """A live sensor that sees one window and ends."""

    def __call__(self, *names: str, **how: object) -> "Quiet":
        return self

    def open_live(self, interfaces: list[str], *, bpf: str | None = None, snaplen: int = 0) -> None: ...

    def read(self, packets_max: int = 0, timeout_ms: int = 0) -> tuple[list[bytes], bool]:
        return [window(1, 0)], True

    def finish(self, events_max: int | None = None) -> list[bytes]:
        return []

    def counters(self) -> dict[str, int]:
        return {"packets": 12}

    def stop(self) -> None: ...


def test_a_live_watch_keeps_heartbeats_of_its_own_and_shows_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("plant.yaml").write_text(PLANT)
    main(["watch", "-d", "plant.yaml", "-i", "tap", "--agent", "tap-idmz", "--json"], sensors=Quiet())
    assert "heartbeat" not in {json.loads(line)["kind"] for line in capsys.readouterr().out.splitlines()}
    with contextlib.closing(sqlite3.connect("hopwatch.db")) as store:
        beats = store.execute("SELECT * FROM heartbeats").fetchall()
    assert len(beats) == 1 and "tap-idmz" in str(beats[0])
