"""The one implementation of windows, as a collector that reads no packets uses it."""

import json

import pytest

from hopwatch import events
from hopwatch_wire import Windows

START_NS = 1_775_558_528_000_000_000
CLIENT, SERVER = ("10.30.0.20", 50_001), ("10.20.1.21", 5432)


def test_observations_of_a_server_log_become_flows_of_the_contract() -> None:
    windows = Windows("north", "mes-db-log")
    connection = windows.open(CLIENT, SERVER, START_NS, protocol="postgresql", opened_by="client")
    windows.identify(connection, START_NS, account="svc_mw", application="quality-extract/3", account_from="server-log")
    windows.add(connection, START_NS, "select", "server", names=["quality.inspection"], columns=["lot"], rows=200, messages=1, bytes=900)
    windows.add(connection, START_NS + 10, "select", "server", names=["quality.inspection"], columns=["lot"], rows=12, bytes_back=40)
    windows.close(connection, START_NS + 20)
    (flow,) = [events.parse(line) for line in windows.take()]
    assert isinstance(flow, events.Flow)
    assert (flow.rows, flow.messages, flow.bytes, flow.bytes_back) == (212, 1, 900, 40)
    assert (flow.account, flow.account_from, flow.seen_by, flow.depth) == ("svc_mw", "server-log", "server-log", "server-log")
    assert (flow.source.address, flow.destination.address, flow.opened_by) == (SERVER[0], CLIENT[0], "destination")


def test_a_second_without_observations_ends_the_window() -> None:
    windows = Windows("north", "mes-db-log")
    connection = windows.open(CLIENT, SERVER, START_NS, protocol="postgresql")
    windows.add(connection, START_NS, "select", "server", rows=1)
    windows.advance(START_NS + 999_999_999)
    assert windows.take() == []
    windows.advance(START_NS + 1_000_000_000)
    assert [json.loads(line)["rows"] for line in windows.take()] == [1]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"operation": "steal"}, 'operation "steal", expected one of connect'),
        ({"data_from": "left"}, "side \"left\", expected 'client' or 'server'"),
    ],
)
def test_a_word_that_is_not_in_the_contract_is_refused_by_name(wrong: dict[str, str], message: str) -> None:
    windows = Windows("north", "mes-db-log")
    connection = windows.open(CLIENT, SERVER, START_NS, protocol="postgresql")
    said = {"operation": "select", "data_from": "server"} | wrong
    with pytest.raises(ValueError, match="expected") as refused:
        windows.add(connection, START_NS, said["operation"], said["data_from"], rows=1)
    assert message in str(refused.value)


def test_a_closed_connection_is_refused_and_nothing_is_lost() -> None:
    windows = Windows("north", "mes-db-log")
    connection = windows.open(CLIENT, SERVER, START_NS, protocol="postgresql")
    windows.add(connection, START_NS, "select", "server", rows=1)
    windows.close(connection, START_NS)
    with pytest.raises(RuntimeError, match="not open"):
        windows.add(connection, START_NS, "select", "server", rows=1)
    assert len(windows.take()) == 1


def test_what_another_sensor_says_bears_its_names_its_condition_and_that_amounts_are_near_the_truth() -> None:
    windows = Windows("north", "zeek-idmz")
    windows.answered("10.40.9.77", "203.0.113.5", "files.lake.example", START_NS, 60)
    connection = windows.open(("10.40.9.77", 51_512), ("203.0.113.5", 443), START_NS, depth="sizes", seen_by="sensor", opened_by="client")
    windows.named(connection, START_NS, "lake.example", "sni")
    windows.describe(connection, START_NS, transport="tls1.3", one_sided=True, encrypted=True)
    windows.add(connection, START_NS, "transfer", "client", bytes=900, bytes_back=80)
    windows.estimated(connection, START_NS, "transfer", "client")
    windows.close(connection, START_NS)
    (flow,) = map(json.loads, windows.take())
    names = [{"name": "files.lake.example", "by": "dns"}, {"name": "lake.example", "by": "sni"}]
    assert (flow["destination"]["names"], flow["protocol"], flow["depth"], flow["seen_by"]) == (names, None, "sizes", "sensor")
    assert (flow["completeness"]["state"], flow["completeness"]["estimated"], flow["protection"]["transport"]) == (
        "encrypted",
        True,
        "tls1.3",
    )
    assert (flow["bytes"], flow["bytes_back"]) == (900, 80)
