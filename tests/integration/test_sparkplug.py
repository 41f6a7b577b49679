"""Hops of Sparkplug and PubSub are judged by the values that their publishers counted, through a real Mosquitto."""

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from examples.plant import pubsub, servers
from examples.plant.clients import Login, MqttSession
from examples.plant.ledger import Ledger
from examples.plant.network import Network, network
from examples.plant.record import recording
from examples.plant.sparkplug import EdgeNode, Table, Value
from examples.plant.watched import Json, replay, stored_flows
from tests.integration.declared import HEAD

ADDRESSES = {"edge": "10.10.1.10", "uns": "10.30.0.10", "ml": "10.40.8.40"}
PASSWORD = "only-for-this-test"
PORT = 1883
EDGES = ("within", "beyond", "tabled", "named", "packed", "raw")
LIMIT = 500
DECLARATION = (
    HEAD
    + """\
unlisted: critical
classes:
  telemetry: {{sensitivity: internal, transit: any, keep_max: 2y, off_site: approved}}
zones:
  cell-1: {{level: 2, nets: [{edge}/32]}}
  idmz: {{level: 3.5, nets: [{uns}/32]}}
  analytics: {{level: 4, nets: [{ml}/32]}}
assets:
  edge-l1: {{zone: cell-1, kind: gateway, at: {edge}}}
  uns: {{zone: idmz, kind: mqtt, at: "{uns}:{port}"}}
  ml: {{zone: analytics, kind: ml, at: {ml}}}
data:
  tags: {{class: telemetry, in: [uns], topics: ["spBv1.0/north/#", "opcua/uadp/data/#"]}}
accounts:
  svc_ml: {{kind: service, owner: ml-team, from: [ml], auth: password}}
{accounts}
conduits:
  c-edge: {{from: cell-1, to: idmz, agent: tap-demo, sees: decoded}}
  c-ml: {{from: idmz, to: analytics, agent: tap-demo, sees: decoded}}
  c-up: {{from: analytics, to: idmz, agent: tap-demo, sees: decoded}}
hops:
  commands:
    {{who: svc_ml, from: ml, to: uns, via: c-up, may: [publish], what: [tags], why: setpoints, limit: {limit} values / 1h, keep: 1d,
     approved: {{by: h.keller, ticket: CHG-3}}}}
{hops}
"""
)
ACCOUNT = "  svc_{name}: {{kind: service, owner: ot-data, from: [edge-l1], auth: password}}\n"
HOP = """  publish-{name}:
    {{who: svc_{name}, from: edge-l1, to: uns, via: c-edge, may: [publish], what: [tags], without: ["*.Operator"],
     why: unified namespace, limit: {limit} values / 1h, keep: 24h, approved: {{by: h.keller, ticket: CHG-2}}}}
"""


@dataclass
class Day:
    """What was published, and what a replay of it told."""

    place: Network
    capture: Path
    declaration: Path
    ledger: dict[str, int] = field(default_factory=dict)
    flows: list[Json] = field(default_factory=list)
    findings: list[Json] = field(default_factory=list)

    def of(self, name: str, operation: str = "publish") -> list[Json]:
        return [flow for flow in self.flows if (flow["account"], flow["operation"]) == (f"svc_{name}", operation)]

    def told(self, name: str) -> list[Json]:
        """Findings about an account; that its password went in clear is another test's."""
        return [one for one in self.findings if one["who"] == f"svc_{name}" and one["verdict"] != "secret-in-clear"]

    def verdicts(self, name: str, operation: str = "publish") -> set[str]:
        return {flow["judgement"]["verdict"] for flow in self.of(name, operation)}


@pytest.fixture(scope="module")
def day(namespaces: bool) -> Iterator[Day]:
    # Its path is open to the broker's unprivileged user, which pytest's folders are not.
    with tempfile.TemporaryDirectory(prefix="hopwatch-sparkplug-") as name:
        Path(name).chmod(0o755)
        yield lived(Path(name), namespaces)


def lived(folder: Path, namespaces: bool) -> Day:
    accounts = [f"svc_{name}" for name in (*EDGES, "ml")]
    with network(ADDRESSES, namespaces=namespaces, kernel_chooses="ml") as place, servers.processes(folder) as held:
        uns, port = place.hosts["uns"], place.port(PORT)
        servers.mosquitto(held, uns, port, dict.fromkeys(accounts, PASSWORD))
        said = {name: place.hosts[name].address for name in ADDRESSES}
        said |= {"accounts": "".join(ACCOUNT.format(name=name) for name in EDGES)}
        said |= {"hops": "".join(HOP.format(name=name, limit=LIMIT) for name in EDGES)}
        declaration = folder / "plant.yaml"
        declaration.write_text(DECLARATION.format(port=port, limit=LIMIT, **said), encoding="utf-8")
        found = Day(place, folder / "day.pcap.gz", declaration)

        def session(host: str, account: str) -> MqttSession:
            here = place.hosts[host]
            login = Login(account, PASSWORD, uns.address, port)
            return here.call(lambda: MqttSession(login, Ledger(), here.local_address(), account))

        with recording(place, found.capture, level=1):
            for name in EDGES:
                found.ledger[name] = published(session("edge", f"svc_{name}"), name)
            host = session("ml", "svc_ml")
            payload, values = EdgeNode("north", "within").payload({"Setpoint": 4.5})
            host.publish(["spBv1.0/north/DCMD/within/robot"], payload, 1, values=values)
            found.ledger["ml"] = host.close().values
    watch, _ = replay([found.capture], declaration, folder / "store.db", "--agent", "tap-demo")
    assert not [line for line in watch.errors if "UNSIGNED" not in line], watch.errors
    found.flows, found.findings = stored_flows(folder / "store.db"), [event for _, event in watch.findings().values()]
    return found


def published(edge: MqttSession, name: str) -> int:
    """The same shape of day for each edge node, with the one difference that it is named after; the values it counted."""
    node = EdgeNode("north", name)
    payload, values = node.birth({f"Tag/{number}": float(number) for number in range(20)})
    edge.publish([node.topic("DBIRTH", "robot")], payload, 1, values=values)
    tags: dict[str, Value] = {f"Tag/{number}": 1.0 for number in range(10)}
    for number in range(40 if name == "within" else 60 if name == "beyond" else 5):
        payload, values = node.data(tags | {"Tag/10": float(number)} if number % 2 else tags)
        edge.publish([node.topic("DDATA", "robot")], payload, 1, values=values)
    if name == "tabled":
        rows = Table(["part", "scrap", "shift"], [[f"P-{number}", 1.0, "early"] for number in range(200)])
        payload, values = node.payload({"Scrap": rows})
        edge.publish([node.topic("DDATA", "robot")], payload, 1, values=values)
    elif name == "named":
        for verb, (payload, values) in (("DBIRTH", node.birth({"Operator": "j.doe"})), ("DDATA", node.data({"Operator": "k.roe"}))):
            edge.publish([node.topic(verb, "panel")], payload, 1, values=values)
    elif name == "packed":
        payload, _ = node.payload({"algorithm": "GZIP"})
        edge.publish([node.topic("DDATA", "robot")], payload + b"\x22\x12SPBV1.0_COMPRESSED\x2a\x40" + bytes(64), 1)
    elif name == "raw":
        payload, _ = pubsub.uadp_message([[1.0] * 30], encoding="raw")
        edge.publish([pubsub.topic("uadp", "data", "press-1", "fast", "state")], payload, 1)
    return edge.close().values


def test_values_of_every_account_are_those_that_its_publisher_counted(day: Day) -> None:
    seen = {name: sum(flow["values"] for flow in day.flows if flow["account"] == f"svc_{name}") for name in day.ledger}
    assert seen == day.ledger


def test_a_hop_within_its_limit_of_values_is_quiet_and_one_beyond_it_is_found(day: Day) -> None:
    assert day.ledger["within"] <= LIMIT < day.ledger["beyond"]
    assert day.verdicts("within") == {"declared"}
    assert "over-limit" in day.verdicts("beyond")
    (finding,) = day.told("beyond")
    assert (finding["verdict"], finding["nearest_hop"]) == ("over-limit", "publish-beyond")
    assert day.told("within") == []


def test_a_table_in_one_message_counts_against_the_limit(day: Day) -> None:
    assert sum(flow["messages"] for flow in day.of("tabled")) < sum(flow["messages"] for flow in day.of("within"))
    assert "over-limit" in day.verdicts("tabled")


def test_a_metric_that_the_hop_leaves_out_is_found_by_its_name(day: Day) -> None:
    (finding,) = day.told("named")
    assert finding["verdict"] == "undeclared-data"
    sets = [part for flow in day.of("named") for part in flow["objects"] if "/DDATA/" in part["names"][0]]
    assert ["Operator"] in [part["columns"] for part in sets]  # by its alias
    assert any("Operator" in str(entry["observed"]) for entry in finding["differences"])


@pytest.mark.parametrize("name", ["packed", "raw"])
def test_a_payload_that_nobody_can_count_is_never_within_a_limit(day: Day, name: str) -> None:
    unread = [flow for flow in day.of(name) if flow["completeness"]["state"] == "lossy"]
    assert unread
    assert {flow["judgement"]["checked"]["how_much"] for flow in unread} == {"unknown"}
    assert "declared" not in {flow["judgement"]["verdict"] for flow in unread}


def test_a_command_of_a_model_is_a_write_that_reaches_the_plant(day: Day) -> None:
    (command,) = day.of("ml", "write")
    assert (command["values"], command["objects"][0]["columns"]) == (1, ["Setpoint"])
    assert day.verdicts("ml", "write") == {"unapproved-operation"}
    (finding,) = [one for one in day.findings if one["verdict"] == "write-back"]
    assert (finding["source"], finding["destination"], finding["severity"]) == ("ml", "uns", "critical")


def test_nothing_of_a_payload_is_in_an_event(day: Day) -> None:
    said = json.dumps([day.flows, day.findings])
    assert "j.doe" not in said
    assert "k.roe" not in said
