"""A relay's lines: what each becomes, what IIS writes, and what is no line."""

import json
from pathlib import Path

import pytest

from collectors import tail
from collectors.feed import FeedError, Told
from collectors.relay_log import RelayLog
from hopwatch.events import Flow, parse

LINE = {"time": "1795329334.401", "client": "10.30.0.20", "client_port": 58_940, "relay": "10.30.0.40", "relay_port": 3128,
        "user": "svc_lake", "method": "PUT", "target": "https://lake.example/raw/day?sig=hunter2", "agent": "extract/1.4", "status": 201,
        "received": 5_132, "sent": 221}  # fmt: skip
# The header and a line as Microsoft documents IIS 8.5's W3C logging, with the fields that docs/collectors/relays.md asks for.
IIS = """#Version: 1.0
#Fields: date time s-ip cs-method cs-uri-stem s-port cs-username c-ip cs(User-Agent) cs-host sc-status sc-bytes cs-bytes time-taken
2026-04-07 10:42:08 10.30.0.41 POST /mes/api/orders 443 PLANT\\svc_mes 10.20.1.20 extract/1.4+(x) mes.example 200 312 9041 15
"""


def read(folder: Path) -> RelayLog:
    return RelayLog.of(Told.of(f"relay-log:proxy-log={folder}/*.log", "a"), "north", folder / "place", now_ns=lambda: 0)


def flows(folder: Path, *lines: object) -> list[Flow]:
    if lines:
        (folder / "a.log").write_text("".join(f"{json.dumps(line) if isinstance(line, dict) else line}\n" for line in lines))
    events = [parse(event) for batch in read(folder).batches(lambda: False, follow=False) for event in batch]
    return [event for event in events if isinstance(event, Flow)]


def test_a_request_names_its_client_its_user_and_where_the_relay_was_asked_to_go(tmp_path: Path) -> None:
    (flow,) = flows(tmp_path, LINE)
    assert (flow.source.address, flow.source.port, flow.destination.address, flow.operation) == ("10.30.0.20", 58_940, "10.30.0.40", "put")
    assert (flow.account, flow.account_from, flow.application, flow.seen_by) == ("svc_lake", "proxy-log", "extract/1.4", "proxy-log")
    assert (flow.bytes, flow.bytes_back, flow.objects[0].names) == (5_132, 221, ["/raw/day"])
    assert [(name.name, name.port, name.by) for name in flow.destination.names] == [("lake.example", 443, "absolute-form")]


@pytest.mark.parametrize(
    ("said", "operation", "depth"),
    [
        ({"method": "GET", "status": 200}, "get", "server-log"),
        ({"method": "SEARCH", "status": 200}, "get", "server-log"),
        ({"method": "CONNECT", "target": "lake.example:443"}, "transfer", "sizes"),
        ({"method": "-"}, "transfer", "sizes"),
        ({"status": 407, "user": "-"}, "refused", "server-log"),
        ({"method": "-", "received": 0, "sent": 0}, "attempt", "sizes"),
    ],
)
def test_what_a_line_says_happened_is_what_moved(tmp_path: Path, said: dict[str, object], operation: str, depth: str) -> None:
    (flow,) = flows(tmp_path, LINE | said)
    assert (flow.operation, flow.depth) == (operation, depth)
    assert "hunter2" not in str(flow)


def test_two_requests_of_one_instant_are_two(tmp_path: Path) -> None:
    told = flows(tmp_path, LINE, LINE, LINE)
    assert (len({flow.event_id for flow in told}), sum(flow.bytes for flow in told)) == (3, 3 * 5_132)


def test_a_killed_reader_tells_every_line_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "PIECE_BYTES_MAX", 1_000)
    (tmp_path / "a.log").write_text("".join(json.dumps(LINE | {"received": 100 + n}) + "\n" for n in range(40)))
    told: dict[str, int] = {}
    for after in (1, 3, 2, 100):
        batches = read(tmp_path).batches(lambda: False, follow=False)
        for _ in range(after):
            told |= {flow["event_id"]: flow["bytes"] for flow in map(json.loads, next(batches, []))}
    assert sorted(told.values()) == [100 + n for n in range(40)]


def test_iis_says_its_columns_and_only_the_clients_port_is_missing(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text(IIS)
    (flow,) = flows(tmp_path)
    assert (flow.account, flow.bytes, flow.bytes_back, flow.objects[0].names) == ("PLANT\\svc_mes", 9_041, 312, ["/mes/api/orders"])
    assert (flow.source.port, flow.application, flow.start) == (0, "extract/1.4 (x)", "2026-04-07T10:42:08Z")
    assert read(tmp_path).counters()["relay_log_unreadable"] == 0


def test_lines_behind_what_syslog_writes_are_read_and_others_are_counted(tmp_path: Path) -> None:
    told = flows(
        tmp_path, f"<134>Apr  7 10:42:08 lb haproxy[7]: {json.dumps(LINE)}", LINE | {"client": "proxy"}, "{", LINE | {"client_port": 70_000}
    )
    assert len(told) == 1
    (tmp_path / "place").unlink()
    log = read(tmp_path)
    list(log.batches(lambda: False, follow=False))
    assert log.counters()["relay_log_unreadable"] == 3


def test_another_format_is_refused_with_where_to_look(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text(
        "1795329334.401    300 127.0.0.1 TCP_TUNNEL/200 152 CONNECT 127.0.0.1:18080 - HIER_DIRECT/127.0.0.1 -\n"
    )
    with pytest.raises(FeedError, match="neither JSON lines nor W3C"):
        read(tmp_path)


def test_a_firewalls_translation_is_a_transfer_of_the_client_inside_to_where_it_was_translated(tmp_path: Path) -> None:
    place = {"client": "10.30.0.20", "client_port": 50_001, "relay": "10.30.0.1", "relay_port": 8_443}
    when = {"time": "2026-04-07T10:42:08.123Z", "received": 5_132, "sent": 90_221}
    changed, same = flows(tmp_path, place | when | {"target": "10.20.1.30:443"}, place | when | {"client_port": 50_002})
    assert (changed.operation, changed.depth, changed.seen_by, changed.account) == ("transfer", "sizes", "proxy-log", None)
    assert (changed.source.address, changed.source.port, changed.bytes, changed.bytes_back) == ("10.30.0.20", 50_001, 5_132, 90_221)
    assert [(name.name, name.port, name.by) for name in changed.destination.names] == [("10.20.1.30", 443, "connect")]
    assert (same.destination.names, same.bytes) == ([], 5_132)


def test_behind_a_translation_the_connection_is_told_with_the_client_before_it(tmp_path: Path) -> None:
    place = {"client": "10.30.0.20", "client_port": 50_001, "relay": "203.0.113.10", "relay_port": 443}
    more = {"time": "2026-04-07T10:42:08.123Z", "received": 5_132, "sent": 90_221, "outside": "192.0.2.9", "outside_port": 61_001}
    inside, outside = flows(tmp_path, place | more)
    assert (inside.source.address, inside.operation, inside.bytes) == ("10.30.0.20", "transfer", 5_132)
    assert (outside.source.address, outside.source.port, outside.destination.address) == ("192.0.2.9", 61_001, "203.0.113.10")
    assert (outside.on_behalf_of, outside.operation, outside.bytes) == ("10.30.0.20:50001", "connect", 0)
    (tmp_path / "place").unlink()
    _, translated = flows(tmp_path, place | more | {"target": "10.20.1.30:8443"})
    assert (translated.destination.address, translated.destination.port) == ("10.20.1.30", 8_443)
    (tmp_path / "place").unlink()
    assert len(flows(tmp_path, place | more | {"target": "press.plant.example:8443"})) == 2
