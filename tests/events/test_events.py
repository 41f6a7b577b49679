"""Every line of the contract survives the round trip, unknown fields included, and nothing else is an event."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hopwatch.events import EventError, Finding, Flow, Heartbeat, Loss, Summary, dump, parse, schema, time_ns, time_text

ROOT = Path(__file__).parents[2]

FLOW = {
    "kind": "flow", "event_id": "9f" * 16, "plant": "north", "agent": "tap-idmz", "tap": "eth2", "context": "vlan:120",
    "connection": "77" * 16, "flow_id": "4a" * 16, "sequence": 546, "final": False,
    "start": "2026-04-07T10:42:08.000000001Z", "end": "2026-04-07T10:42:09Z",
    "source": {"address": "10.20.1.21", "port": 5432, "names": [{"name": "mes-db.plant.example", "by": "dns"}]},
    "destination": {"address": "10.40.9.77", "port": 51512, "names": []},
    "opened_by": "destination", "transport": "tcp", "protocol": "postgresql", "account": "svc_report", "account_from": "startup",
    "role": None, "on_behalf_of": None, "application": "python/psycopg", "operation": "select", "statement": "c01d",
    "objects": [{"names": ["mes.genealogy"], "columns": ["*"], "rows": 212, "values": 0, "messages": 3, "bytes": 48123}],
    "rows": 212, "values": 0, "messages": 3, "bytes": 48123, "bytes_back": 310, "packets": 44,
    "totals": {"rows": 1204331, "values": 0, "messages": 4112, "bytes": 851443712},
    "protection": {"transport": "none", "authentication": "scram-sha-256", "certificate": None}, "depth": "decoded",
    "seen_by": "tap",
    "completeness": {"state": "complete", "lost_bytes": 0, "joined_late": False, "one_sided": False, "estimated": False},
}  # fmt: skip
LOSS = {
    "kind": "loss", "event_id": "l1", "plant": "north", "agent": "tap-idmz", "stage": "kernel", "start": "2026-04-07T10:42:08Z",
    "end": "2026-04-07T10:42:09Z", "packets": 120, "bytes": 91000, "events": 0, "flows": ["4a"], "why": "ring full",
}  # fmt: skip
HEARTBEAT = {
    "kind": "heartbeat", "event_id": "h1", "plant": "north", "agent": "tap-idmz", "time": "2026-04-07T10:42:08Z", "version": "0.1.0",
    "conduits": [{"name": "c-ops", "depth": "server-log", "one_sided_share": 0.0, "copies": 0}],
    "clock": {"offset_s": 0.0003, "error_s": 0.002, "synchronised": True}, "counters": {"packets_total": 3},
}  # fmt: skip
SUMMARY = {
    "kind": "summary", "packets": 1, "bytes": 2, "windows": 3, "findings": {"undeclared-hop": 1}, "lost": {"packets": 0, "bytes": 0},
    "seconds": 0.5,
}  # fmt: skip
FINDING = {
    "kind": "finding", "event_id": "f1", "finding_id": "F-7c1e9a02", "verdict": "undeclared-hop", "severity": "critical", "plant": "north",
    "first_seen": "2026-04-07T10:33:02Z", "last_seen": "2026-04-07T10:42:10Z", "windows": 540, "who": "svc_report", "source": "mes-db",
    "destination": "10.40.9.77", "observed": {"rows": 1204331, "objects": ["mes.genealogy"], "classes": ["process_ip"]},
    "checked": {"who": "checked", "how_much": "unknown"}, "nearest_hop": "extract-quality",
    "differences": [{"question": "who", "declared": "svc_mw at mw", "observed": "svc_report at 10.40.9.77"}],
    "declaration": {"plant": "north", "version": 14, "commit": "9ab31c7", "signed": True}, "evidence": ["9f"], "completeness": "complete",
}  # fmt: skip


@pytest.mark.parametrize(("said", "model"), [(FLOW, Flow), (LOSS, Loss), (HEARTBEAT, Heartbeat), (FINDING, Finding), (SUMMARY, Summary)])
def test_each_kind_is_read_as_its_model_and_written_back_whole(said: dict[str, object], model: type) -> None:
    event = parse(json.dumps(said))
    assert isinstance(event, model)
    written = json.loads(dump(event))
    assert {key: written[key] for key in said if key != "observed"} == {key: said[key] for key in said if key != "observed"}
    assert parse(dump(event)) == event


def test_unknown_fields_are_kept_at_every_depth() -> None:
    said = FLOW | {"community": "1:x", "source": {**FLOW["source"], "mac": "00:00:5e:00:53:01"}}  # type: ignore[dict-item]
    written = json.loads(dump(parse(json.dumps(said))))
    assert written["community"] == "1:x"
    assert written["source"]["mac"] == "00:00:5e:00:53:01"


def test_dump_is_one_line_and_equal_for_equal_events() -> None:
    one, other = dump(parse(json.dumps(FLOW))), dump(parse(json.dumps(dict(reversed(FLOW.items())))))
    assert one == other
    assert b"\n" not in one


def test_rows_may_be_negative_and_bytes_may_not() -> None:
    assert parse(json.dumps(FLOW | {"rows": -3})).rows == -3  # type: ignore[union-attr]
    with pytest.raises(EventError, match=r"flow\.bytes"):
        parse(json.dumps(FLOW | {"bytes": -3}))


@pytest.mark.parametrize("line", ["", "{", "[]", "null", '{"kind": "flow"}', '{"kind": "conversation"}', '{"event_id": "x"}', "\ud800"])
def test_what_is_no_event_is_refused(line: str) -> None:
    with pytest.raises(EventError):
        parse(line.encode(errors="surrogatepass"))


def test_a_refusal_never_quotes_the_value() -> None:
    with pytest.raises(EventError) as refusal:
        parse(json.dumps(FLOW | {"depth": "hunter2"}))
    assert "hunter2" not in str(refusal.value)
    assert refusal.value.__cause__ is None


@pytest.mark.parametrize("time", ["2026-13-01T00:00:00Z", "2026-04-07T24:00:00Z", "2026-04-07 10:00:00", "now"])
def test_a_time_out_of_range_is_refused(time: str) -> None:
    with pytest.raises(EventError, match="start"):
        parse(json.dumps(FLOW | {"start": time}))


def test_times_read_offsets_and_every_digit() -> None:
    assert time_ns("1970-01-01T00:00:00.000000001Z") == 1
    assert time_ns("2026-04-07T12:42:08+02:00") == time_ns("2026-04-07T10:42:08Z")
    assert time_ns("1970-01-01T00:00:00.1234567899Z") == 123_456_789


@given(st.integers(min_value=0, max_value=4 * 10**18))
def test_nanoseconds_survive_text(instant_ns: int) -> None:
    assert time_ns(time_text(instant_ns)) == instant_ns


def test_the_published_schema_is_that_of_the_models() -> None:
    assert json.loads((ROOT / "docs" / "events.schema.json").read_text()) == schema()


def test_a_window_knows_when_it_was_in_nanoseconds_however_it_was_made_and_does_not_say_so() -> None:
    event = parse(json.dumps(FLOW))
    assert isinstance(event, Flow)
    later = event.model_copy(update={"end": "2026-04-07T10:42:10.5Z"})
    newer = parse(json.dumps(FLOW | {"later": 1}))
    assert isinstance(newer, Flow)
    for one in (event, later, newer, Flow.model_validate(FLOW)):
        assert (one.start_ns, one.end_ns) == (time_ns(one.start), time_ns(one.end))
    assert later.end_ns == event.end_ns + 1_500_000_000
    assert "start_ns" not in event.model_dump() and "end_ns" not in json.loads(dump(event))
    assert event == Flow.model_validate(FLOW)
