"""Figures for Prometheus: what is counted when, what a label may be, and that the page and Prometheus itself agree."""

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.registry import Collector

from agent.metrics import figures as agent_figures
from alerts.running import METRICS as ALERTS
from hopwatch.cli import main
from hopwatch.events import Flow, Heartbeat, Loss
from hopwatch.figures import DETECTING, STORING, WATCHING, JudgingFigures, RunningFigures, Tally
from hopwatch.metrics import OTHER, Figures, Metric, said_twice
from scripts import metrics as page
from tests.detectors.north import detector, end, extract, upload

ROOT = Path(__file__).parent.parent
UNITS = (
    "_total",
    "_seconds",
    "_bytes",
    "_events",
    "_findings",
    "_partitions",
    "_alerts",
    "_letters",
    "_readable",
    "_state",
    "_up",
    "_synchronised",
    "_publishing",
)


def shown(*collectors: Collector) -> str:
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)
    return generate_latest(registry).decode()


def every() -> list[Metric]:
    return list({metric.name: metric for group in page.GROUPS for metric in group}.values())


def test_the_page_says_what_the_programs_say() -> None:
    assert page.PAGE.read_text() == page.page(), "run: python -m scripts.metrics"
    assert said_twice(page.GROUPS) == []


def test_names_and_labels_follow_the_conventions() -> None:
    known = {"plant", "verdict", "severity", "class", "zone", "depth", "agent", "stage", "topic", "table", "state", "what", "destination"}
    for metric in every():
        assert re.fullmatch(r"hopwatch_[a-z0-9_]+", metric.name), metric
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric
        assert metric.name.endswith(UNITS), metric
        assert set(metric.labels) <= known, metric
        assert metric.about.endswith(".") and metric.programs, metric


@pytest.mark.parametrize("said", [DETECTING, STORING, WATCHING, ALERTS])
def test_prometheus_itself_has_nothing_to_say_against_them(said: tuple[Metric, ...]) -> None:
    promtool = shutil.which("promtool")
    assert promtool, "promtool is missing; `make setup` installs Debian's prometheus"
    made = Figures(said, lambda: {"packets": 3, "bytes": 9})
    for metric in said:
        if metric.kind == "histogram":
            made.took(metric.name, 0.02)
        else:
            made.put(metric.name, 1.0, *("x" for _ in metric.labels))
    text = shown(made, agent_figures({"spool_events": lambda: 1}, lambda: {})) if said is STORING else shown(made)
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_labels_beyond_the_bound_are_counted_together() -> None:
    made = Figures([Metric("hopwatch_windows_total", "counter", "Windows.", ("plant", "verdict"))], series_max=3)
    for number in range(100):
        made.add("hopwatch_windows_total", 1, f"plant{number}", "declared")
    made.add("hopwatch_windows_total", 1, "plant0", "declared")
    text = shown(made)
    assert text.count("hopwatch_windows_total{") == 4
    assert f'hopwatch_windows_total{{plant="{OTHER}",verdict="{OTHER}"}} 97.0' in text
    assert 'hopwatch_windows_total{plant="plant0",verdict="declared"} 2.0' in text


def test_a_correction_never_lets_a_counter_fall_and_is_taken_off_what_comes_next() -> None:
    made = Figures([Metric("hopwatch_moved_rows_total", "counter", "Rows.", ("plant",))])
    seen = []
    for amount in (100, -30, 10, 50):
        made.add("hopwatch_moved_rows_total", amount, "north")
        seen.append(re.findall(r'plant="north"} (\S+)', shown(made))[0])
    assert seen == ["100.0", "100.0", "100.0", "130.0"]


def north(*events: Any) -> Mapping[str, float]:
    """What the figures of a detector are after these events."""
    judge = detector()
    tally, made = Tally(lambda _, classes: judge.index.highest(classes)), JudgingFigures(DETECTING)
    for event in events:
        if isinstance(event, Loss | Heartbeat):
            tally.heard(event, 1000.0)
            continue
        for judgement in judge.observe(event):
            tally.judged(judgement)
            tally.found([] if judgement.finding is None else [judgement.finding])
    assert "plant=" not in shown(made), "nothing counts before it is kept"
    tally.into(made)
    tally.into(made)
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in shown(made).splitlines() if line.startswith("hopwatch_")}


def test_windows_and_amounts_are_told_by_verdict_class_and_zone() -> None:
    said = north(extract(), extract(destination=end(("198.51.100.9", 50000))), extract(n=1))
    assert said['hopwatch_windows_total{plant="north",verdict="declared"}'] == 2
    assert said['hopwatch_windows_total{plant="north",verdict="undeclared-destination"}'] == 1
    assert said['hopwatch_windows_seen_total{depth="decoded",plant="north"}'] == 3
    assert said['hopwatch_moved_rows_total{class="quality",plant="north",zone="idmz"}'] == 200
    assert said['hopwatch_moved_bytes_total{class="quality",plant="north",zone="~outside"}'] == 9000
    assert sum(value for name, value in said.items() if name.startswith("hopwatch_findings_total")) == 1


def test_of_connections_that_nobody_could_read_those_without_a_name_are_counted_when_they_end() -> None:
    def unread(key: str, **said: Any) -> Flow:
        return upload(source=end(("10.30.0.21", 50_100)), connection=key, key=key, **said)

    told = unread(
        "a", agent="db-log", seen_by="server-log", depth="server-log", operation="connect", account="svc_mw", bytes=0, bytes_back=0
    )
    said = north(told, unread("a", n=1), unread("a", n=2, final=True), unread("b", n=1), unread("b", n=2, final=True), unread("c"))
    assert said['hopwatch_unread_connections_total{plant="north"}'] == 2
    assert said['hopwatch_unnamed_connections_total{plant="north"}'] == 1


def test_losses_and_heartbeats_are_told_by_agent() -> None:
    loss = Loss(
        event_id="l", plant="north", agent="tap", stage="kernel", start="2026-04-07T10:00:00Z", end="2026-04-07T10:00:01Z", packets=7
    )
    beat = Heartbeat.model_validate(
        {"event_id": "h", "plant": "north", "agent": "tap", "time": "2026-04-07T10:00:00Z", "counters": {"spool_waiting": 12},
         "clock": {"offset_s": 0.25, "error_s": 0.1, "synchronised": False}}
    )  # fmt: skip
    said = north(loss, beat)
    assert said['hopwatch_lost_packets_total{agent="tap",plant="north",stage="kernel"}'] == 7
    assert said['hopwatch_heartbeat_timestamp_seconds{agent="tap",plant="north"}'] == 1000
    assert said['hopwatch_heartbeat_clock_offset_seconds{agent="tap",plant="north"}'] == 0.25
    assert said['hopwatch_heartbeat_clock_synchronised{agent="tap",plant="north"}'] == 0
    assert said['hopwatch_heartbeat_spool_events{agent="tap",plant="north"}'] == 12


def test_a_counter_that_nothing_reached_yet_is_there() -> None:
    assert "hopwatch_events_rejected_total 0.0" in shown(RunningFigures(STORING))


def test_whoever_consumes_topics_tells_its_counters_and_whether_its_database_is_away() -> None:
    counters, away = dict.fromkeys(("events", "rejected", "missed", "away", "new"), 0), False
    figures = RunningFigures(STORING)
    figures.follow(counters, lambda: away, {"hopwatch_store_new_events_total": "new"})
    assert "hopwatch_database_up 1.0" in shown(figures)
    counters |= {"events": 5, "rejected": 1, "missed": 2, "away": 3, "new": 4}
    away = True
    said = shown(figures)
    for name, value in (("events_read", 5), ("events_rejected", 1), ("events_missed", 2), ("database_away", 3), ("store_new_events", 4)):
        assert f"hopwatch_{name}_total {value}.0" in said
    assert "hopwatch_database_up 0.0" in said


def test_a_watch_serves_its_figures_until_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    served: list[Any] = []
    monkeypatch.setattr("hopwatch.metrics.serve", lambda where, *figures: served.append((where, figures)) or (Closing(), Closing()))
    plant_day = str(ROOT / "examples" / "plant-day.pcap.gz")
    main(["watch", "-d", str(ROOT / "examples" / "plant-demo.yaml"), "-r", plant_day, "--store", "none", "--metrics", "127.0.0.1:0"])
    ((where, figures),) = served
    text = shown(*figures)
    assert where == "127.0.0.1:0"
    assert 'hopwatch_windows_total{plant="demo",verdict="undeclared-hop"} 2.0' in text
    assert 'hopwatch_findings_total{plant="demo",severity="critical",verdict="undeclared-destination"} 1.0' in text
    assert re.search(r"hopwatch_step_seconds_count [1-9]", text) and "hopwatch_sensor_packets_total 1130.0" in text
    assert "10.40" not in text and "svc_" not in text


class Closing:
    """A server that is not there."""

    def shutdown(self) -> None: ...

    def server_close(self) -> None: ...

    def join(self) -> None: ...


def test_an_address_that_is_taken_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    plant_day = str(ROOT / "examples" / "plant-day.pcap.gz")
    watch = ["watch", "-d", str(ROOT / "examples" / "plant-demo.yaml"), "-r", plant_day, "--store", "none", "--metrics"]
    assert main([*watch, "10.0.0.1:9464"]) == 2
    assert "expected an address of the loopback interface" in capsys.readouterr().err
