"""Oracle's own client, python-oracledb in its thin mode, works with a stand-in of a server (tests/data/tns) across the tap.

What hopwatch makes of the frames equals what the client counted; over TLS it is said to be unreadable.
"""

import importlib.util
import json
import ssl
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from collectors import packets
from examples.plant import servers
from examples.plant.network import network
from examples.plant.record import recording
from examples.plant.watched import Json

DATA = Path(__file__).parents[1] / "data" / "tns"
ADDRESSES = {"mes-db": "10.20.1.21", "mw": "10.30.0.20"}
SCENARIOS = ("queries", "queries-12-1", "queries-23", "small-unit", "changes", "errors", "lobs", "nested", "login-fails", "refused")


def module(name: str) -> ModuleType:
    """A program that lies beside the recordings it makes."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, DATA / f"{name}.py")
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@dataclass(frozen=True, slots=True)
class Seen:
    """What the client counted in each scenario, and the flows of its connections."""

    ledgers: dict[str, dict[str, int]]
    flows: dict[str, list[Json]]


@pytest.fixture(scope="module")
def seen(namespaces: bool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    folder = tmp_path_factory.mktemp("oracle")
    stand_in, client = module("server"), module("record")
    certificate, key = servers.self_signed(folder, "mes-db")
    for_server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for_server.load_cert_chain(certificate, key)
    for_client = ssl.create_default_context(cafile=str(certificate))
    for_client.check_hostname = False
    ledgers: dict[str, dict[str, int]] = {}
    ports: dict[int, str] = {}
    capture = folder / "oracle.pcap.gz"
    with network(ADDRESSES, namespaces=namespaces, kernel_chooses="mw") as net:
        db, mw = net.hosts["mes-db"], net.hosts["mw"]

        def work(name: str, act: object, **settings: object) -> None:
            server = db.call(lambda: stand_in.Server(client.ANSWERS, client.SECRET, address=db.address, **settings))
            ports[server.port] = name
            ledgers[name] = mw.call(lambda: act((db.address, server.port)))  # type: ignore[operator]
            server.close()
            assert not server.failures, server.failures

        def encrypted(at: tuple[str, int]) -> dict[str, int]:
            secured = {"protocol": "tcps", "ssl_context": for_client, "ssl_server_dn_match": False}
            with client.connected(at, **secured) as connection, connection.cursor() as cursor:
                return {"select": len(cursor.execute(client.QUERY).fetchall())}

        with recording(net, capture):
            for name in SCENARIOS:
                act, settings = client.SCENARIOS[name]
                work(name, act, **settings)
            work("encrypted", encrypted, tls=for_server)
    sensor = packets.sensor("demo", "tap-demo", conversations=True)
    flows: dict[str, list[Json]] = {name: [] for name in ledgers}
    for batch in packets.from_files(sensor, [str(capture)]):
        for event in map(json.loads, batch):
            name = ports.get(event.get("source", {}).get("port"), ports.get(event.get("destination", {}).get("port")))
            if event["kind"] == "flow" and name is not None:
                flows[name].append(event)
    yield Seen(ledgers, flows)


def rows(flows: list[Json]) -> dict[str, int]:
    counted: Counter[str] = Counter()
    for flow in flows:
        counted[flow["operation"]] += flow["rows"]
    return {operation: number for operation, number in counted.items() if number}


def test_rows_are_those_that_the_client_counted(seen: Seen) -> None:
    for name in SCENARIOS:
        assert rows(seen.flows[name]) == seen.ledgers[name], name
        assert {flow["completeness"]["state"] for flow in seen.flows[name]} == {"complete"}, name


def test_who_is_the_account_of_the_login_and_the_program_of_the_connect_data(seen: Seen) -> None:
    for name in ("queries", "changes"):
        who = {(flow["protocol"], flow["account"], flow["account_from"], flow["application"]) for flow in seen.flows[name]}
        assert who == {("tns", "SVC_MES", "startup", "loader")}, name


def test_a_refusal_and_a_wrong_password_are_refused(seen: Seen) -> None:
    for name in ("refused", "login-fails"):
        assert sum(flow["messages"] for flow in seen.flows[name] if flow["operation"] == "refused") == 1, name


def test_over_tls_the_bytes_are_counted_and_nothing_is_claimed_to_be_read(seen: Seen) -> None:
    flows = seen.flows["encrypted"]
    assert seen.ledgers["encrypted"] == {"select": 110} and rows(flows) == {}
    assert {(flow["depth"], flow["completeness"]["state"], flow["account"]) for flow in flows} == {("sizes", "encrypted", None)}
    assert sum(flow["bytes"] + flow["bytes_back"] for flow in flows) > 4000
