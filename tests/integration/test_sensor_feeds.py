"""A plant that has Suricata is judged by its records; where it has a tap of ours too, what both saw is counted once."""

import gzip
from pathlib import Path

import pytest

from examples.plant.watched import Json, replay

ROOT = Path(__file__).parents[2]
EVE = ROOT / "tests/data/suricata/plant-day.eve.json.gz"
CAPTURE, DECLARATION = ROOT / "examples/plant-day.pcap.gz", ROOT / "examples/plant-demo.yaml"
# Of the six violations of the day, those that Suricata's records show; it reads no OPC UA and no statement of the extended protocol.
SHOWN = {
    ("undeclared-hop", "svc_report"),
    ("undeclared-account", "tmp_export"),
    ("undeclared-data", "svc_ml"),
    ("undeclared-destination", None),
    ("secret-in-clear", "svc_mes"),
}


@pytest.fixture
def feed(tmp_path: Path) -> list[str]:
    (tmp_path / "eve.json").write_bytes(gzip.decompress(EVE.read_bytes()))
    return ["--feed", f"suricata:suricata-1={tmp_path / 'eve.json'}", "--feeds-state", str(tmp_path / "place")]


def found(captures: list[Path], *more: str) -> dict[tuple[str, str | None, str], Json]:
    """Every finding as it was said last, by verdict, account and where the data went."""
    watch, _ = replay(captures, DECLARATION, None, *more)
    return {(event["verdict"], event["who"], event["destination"]): event for _, event in watch.of("finding")}


def test_suricatas_records_alone_show_the_violations_that_it_could_read(feed: list[str]) -> None:
    findings = found([], *feed, "--duration", "3")
    assert {(verdict, who) for verdict, who, _ in findings} >= SHOWN
    exported = findings["undeclared-account", "tmp_export", "mes-app"]
    assert (exported["observed"]["rows"], exported["observed"]["objects"]) == (419, ["mes.work_order"])


def test_what_a_tap_and_suricata_both_saw_is_counted_once(feed: list[str]) -> None:
    alone, both = found([CAPTURE]), found([CAPTURE], *feed)
    moved = {key: event["observed"] for key, event in alone.items() if event["observed"]["rows"] or event["observed"]["messages"]}
    assert len(moved) >= 4
    for key, observed in moved.items():
        if key[0] == "secret-in-clear":
            # It is of the window that told the login: whose view came first has counted it.
            assert key in both
            continue
        for unit in ("rows", "messages", "bytes"):
            assert both[key]["observed"][unit] == observed[unit], (key, unit)
