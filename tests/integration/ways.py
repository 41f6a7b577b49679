"""Every way a driver moves data, each as one function that works on the plant and says what its client counted exactly."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from examples.plant import clients, pubsub, sparkplug
from examples.plant.clients import MqttSession
from examples.plant.day import Plant
from examples.plant.ledger import Entry, Ledger
from examples.plant.opcua_server import node_ids
from examples.plant.watched import Json, Watch

GENEALOGY = "select * from mes.genealogy"
OEE = "north/line1/oee/availability"
# Long enough that a Publish answer, a Read answer and a HistoryRead answer need several chunks or segments.
NODES = node_ids()


@dataclass(frozen=True, slots=True)
class Counted:
    """The connections of one way, and which amounts its clients know exactly."""

    entries: Sequence[Entry]
    compared: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Watched:
    """What a live watch made of the work: what each way counted, the store's flows, and the watch's own output."""

    counted: dict[str, Counted]
    flows: list[Json]
    watch: Watch
    exit_code: int


@dataclass(frozen=True, slots=True)
class Recorded:
    """The approved day as a capture, with the declaration that approves it and what the clients counted."""

    capture: Path
    declaration: Path
    ledger: Ledger


Way = Callable[[Plant], Counted]
ROWS = ("rows", "bytes")
ROWS_AND_STATEMENTS = ("rows", "messages", "bytes")


def _mes(work: Callable[[Plant, clients.Login], Entry], compared: tuple[str, ...] = ROWS_AND_STATEMENTS) -> Way:
    """A way of svc_mes on mes-app (libpq)."""

    def way(plant: Plant) -> Counted:
        login = plant.login("svc_mes", "mes-db", "mes-app/7.2")
        return Counted([plant.host("mes-app").call(lambda: work(plant, login))], compared)

    return way


def _mw(work: Callable[[Plant, clients.Login, clients.Bound], Entry], compared: tuple[str, ...] = ROWS) -> Way:
    """A way of svc_mw on mw (asyncpg)."""

    def way(plant: Plant) -> Counted:
        login, host = plant.login("svc_mw", "mes-db", "quality-extract/1.4"), plant.host("mw")
        return Counted([host.call(lambda: work(plant, login, host.local_address()))], compared)

    return way


def _hist(work: Callable[[Plant, clients.Login, clients.Bound], Entry]) -> Way:
    """A way of svc_hist on historian (asyncua)."""

    def way(plant: Plant) -> Counted:
        login, host = plant.login("svc_hist", "opc-l1", "historian"), plant.host("historian")
        return Counted([host.call(lambda: work(plant, login, host.local_address()))], ("values", "bytes"))

    return way


def _mqtt(qos: int, version: int) -> Way:
    """One publisher and one subscriber; both count publishes."""

    def way(plant: Plant) -> Counted:
        def session(host: str, account: str, name: str) -> MqttSession:
            here, login = plant.host(host), plant.login(account, "uns")
            return here.call(lambda: MqttSession(login, plant.ledger, here.local_address(), f"{name}-{version}-{qos}", version=version))

        subscriber = session("ml", "svc_ml", "ml")
        subscriber.subscribe("north/+/oee/#", qos=qos)
        publisher = session("opc-l1", "svc_edge", "edge")
        publisher.publish([OEE] * 137, b'{"oee":0.81}', qos)
        subscriber.wait_for(137)
        return Counted([publisher.close(), subscriber.close()], ("messages", "bytes"))

    return way


TABLE = sparkplug.Table(["part", "scrap"], [[f"P-{number}", float(number)] for number in range(40)])
PUMP = sparkplug.Template("Pump", {"rpm": 1400.0, "seal": sparkplug.Template("Seal", {"wear": 0.1})}, {"size": 3.0})


def _sparkplug(version: int) -> Way:
    """An edge node with a device; its host counts what it reads out of what arrives, and sends a command back."""

    def way(plant: Plant) -> Counted:
        def session(host: str, account: str, name: str) -> MqttSession:
            here, login = plant.host(host), plant.login(account, "uns")
            return here.call(lambda: MqttSession(login, plant.ledger, here.local_address(), f"{name}-spb-{version}", version=version))

        # Longer than a payload that waits for its names, and than a segment.
        tags: dict[str, sparkplug.Value] = {f"Tag/{number:04}": float(number) for number in range(2000)}
        device: dict[str, sparkplug.Value] = {"Temperature": 21.5, "Scrap": TABLE, "Pump": PUMP, "Photo": bytes(70_000), "Idle": None}
        node = sparkplug.EdgeNode("north", f"press-{version}")
        edge, host = session("opc-l1", "svc_edge", "edge"), session("ml", "svc_ml", "host")
        edge.values_of = host.values_of = sparkplug.values_of
        host.subscribe("spBv1.0/north/+/+/#", qos=1)
        edge.subscribe("spBv1.0/north/NCMD/#", qos=1)
        said = [
            ("NBIRTH", None, node.birth({"bdSeq": 0, "Node Control/Rebirth": False})),
            ("DBIRTH", "robot", node.birth(device)),
            ("DBIRTH", "line", node.birth(tags)),
            *(("DDATA", "robot", node.data({"Temperature": float(number), "Pump": PUMP})) for number in range(60)),
            ("DDATA", "line", node.data(tags)),
            ("DDATA", "robot", node.data({"Scrap": TABLE})),
            ("DDEATH", "line", node.payload({})),
            ("NDEATH", None, node.payload({"bdSeq": 0})),
        ]
        for verb, name, (payload, values) in said:
            edge.publish([node.topic(verb, name)], payload, qos=len(payload) % 2, values=values)
        host.wait_for(len(said))
        payload, values = node.payload({"Node Control/Rebirth": True})
        host.publish([node.topic("NCMD")], payload, qos=1, values=values)
        # It is delivered to both: the edge node, and the host's own subscription.
        edge.wait_for(len(said) + 1)
        host.wait_for(len(said) + 2)
        return Counted([edge.close(), host.close()], ("values", "messages", "bytes"))

    return way


def _pubsub(plant: Plant) -> Counted:
    """Both mappings of OPC UA PubSub, with headers and without, and an action."""
    here, login = plant.host("opc-l1"), plant.login("svc_edge", "uns")
    edge = here.call(lambda: MqttSession(login, plant.ledger, here.local_address(), "edge-pubsub"))
    fields = {f"Field{number}": {"Type": 11, "Body": float(number)} for number in range(50)}
    numbers = [float(number) for number in range(300)]
    json_topic, uadp_topic = pubsub.topic("json", "data", "press-1", "fast"), pubsub.topic("uadp", "data", "press-1", "fast", "state")
    said = [
        (json_topic, *pubsub.json_message([fields, {"Speed": 3, "Steps": [{"a": 1}, 2]}])),
        (json_topic, *pubsub.json_message([fields, fields], network=False)),
        (json_topic, *pubsub.json_message([fields], network=False, dataset=False, single=True)),
        # Longer than a payload that waits for its names.
        (json_topic, *pubsub.json_message([fields] * 60)),
        (uadp_topic, *pubsub.uadp_message([numbers] * 9)),
        (uadp_topic, *pubsub.uadp_message([numbers, numbers[:7]], encoding="value")),
        (uadp_topic, *pubsub.uadp_message([numbers[:5]], encoding="delta")),
        (uadp_topic, *pubsub.uadp_message([numbers, numbers[:3]], header=False)),
        (uadp_topic, pubsub.uadp_keep_alive(), 0),
        (pubsub.topic("json", "action-request", "press-1", "do"), *pubsub.json_message([{"Setpoint": 5}], kind="ua-action-request")),
    ]
    for topic, payload, values in said:
        edge.publish([topic] * 3, payload, qos=1, values=values)
    return Counted([edge.close()], ("values", "messages", "bytes"))


def _rows(count: int) -> list[tuple[int, str]]:
    return [(number, f"line{number % 2}") for number in range(200_000, 200_000 + count)]


WAYS: dict[str, Way] = {
    "plain SELECT": _mes(lambda plant, login: clients.select(login, plant.ledger, GENEALOGY)),
    "SELECT with parameters": _mes(lambda plant, login: clients.select(login, plant.ledger, f"{GENEALOGY} where id > %s", (7,))),
    "SELECT of nothing": _mes(lambda plant, login: clients.select(login, plant.ledger, f"{GENEALOGY} where id < 0")),
    "server-side cursor": _mes(lambda plant, login: clients.select_by_cursor(login, plant.ledger, GENEALOGY, 97), ROWS),
    "prepared statement": _mes(
        lambda plant, login: clients.select_prepared(login, plant.ledger, f"{GENEALOGY} where parent = %s", [(n,) for n in range(40)])
    ),
    "pipelined statements": _mes(
        lambda plant, login: clients.select_pipelined(login, plant.ledger, f"{GENEALOGY} where parent = %s", [(n,) for n in range(40)])
    ),
    "COPY out as text": _mes(lambda plant, login: clients.copy_out(login, plant.ledger, "copy mes.genealogy to stdout")),
    "COPY out as CSV with header": _mes(
        lambda plant, login: clients.copy_out(login, plant.ledger, "copy mes.genealogy to stdout (format csv, header)")
    ),
    "COPY out as binary": _mes(lambda plant, login: clients.copy_out(login, plant.ledger, "copy mes.genealogy to stdout (format binary)")),
    "COPY in as text": _mes(
        lambda plant, login: clients.copy_in(login, plant.ledger, "copy mes.work_order (id, line) from stdin", _rows(811))
    ),
    "COPY in as CSV with header": _mes(
        lambda plant, login: clients.copy_in_csv(
            login, plant.ledger, "copy mes.work_order (id, line) from stdin (format csv, header)", _rows(812)
        )
    ),
    "COPY in as binary": _mes(
        lambda plant, login: clients.copy_in(
            login, plant.ledger, "copy mes.work_order (id, line) from stdin (format binary)", _rows(813), ["int4", "text"]
        )
    ),
    "INSERT": _mes(
        lambda plant, login: clients.change(login, plant.ledger, "insert into mes.work_order (id, line) values (%s, %s)", _rows(31))
    ),
    "UPDATE": _mes(
        lambda plant, login: clients.change(login, plant.ledger, "update mes.work_order set quantity = %s where id > 200000", [(1,), (2,)])
    ),
    "portal in pages (partial Execute)": _mw(
        lambda plant, login, bound: clients.select_partial(login, plant.ledger, bound, "select * from quality.inspection", 73)
    ),
    "COPY by asyncpg": _mw(
        lambda plant, login, bound: clients.copy_out_asyncpg(login, plant.ledger, bound, "select * from quality.inspection", "binary")
    ),
    "OPC UA Read": _hist(lambda plant, login, bound: clients.opcua_read(login, plant.ledger, bound, NODES, times=7)),
    "OPC UA Read in chunks": _hist(lambda plant, login, bound: clients.opcua_read(login, plant.ledger, bound, NODES * 220)),
    "OPC UA HistoryRead": _hist(lambda plant, login, bound: clients.opcua_history(login, plant.ledger, bound, NODES)),
    "OPC UA HistoryRead in chunks": _hist(lambda plant, login, bound: clients.opcua_history_at_once(login, plant.ledger, bound, NODES)),
    "OPC UA subscription": _hist(lambda plant, login, bound: clients.opcua_subscribe(login, plant.ledger, bound, NODES, seconds=1.5)),
    "OPC UA Write": _hist(lambda plant, login, bound: clients.opcua_write(login, plant.ledger, bound, NODES[:5], 2.0)),
    **{f"MQTT 3.1.1, QoS {qos}": _mqtt(qos, 4) for qos in (0, 1, 2)},
    **{f"MQTT 5.0, QoS {qos}": _mqtt(qos, 5) for qos in (0, 1, 2)},
    "Sparkplug over MQTT 3.1.1": _sparkplug(4),
    "Sparkplug over MQTT 5.0": _sparkplug(5),
    "OPC UA PubSub over MQTT": _pubsub,
}
