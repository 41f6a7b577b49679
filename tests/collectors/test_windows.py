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
