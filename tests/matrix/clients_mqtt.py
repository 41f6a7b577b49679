"""MQTT's clients of the table in Python and from Debian: paho and Mosquitto's programs."""

import json
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from examples.plant import pubsub, sparkplug
from examples.plant import servers as plant
from tests.matrix.ledger import Moved
from tests.matrix.servers import ACCOUNT, PLACEHOLDER, Server

Ledger = list[Moved]
Verb = Callable[[Server], Ledger]
TOPIC = "north/line1/oee/availability"
WAIT_S = 15.0
MESSAGES = 50


class Session:
    """One paho client; counts publishes acknowledged (QoS 0: handed to the kernel) and publishes that arrived."""

    def __init__(self, server: Server, name: str, *, protocol: int = 4, websocket: bool = False) -> None:
        self.sent = self.arrived = 0
        self.retained = 0
        self.lock = threading.Lock()
        self.ready, self.answered = threading.Event(), threading.Event()
        options: dict[str, Any] = {} if protocol == 5 else {"clean_session": True}
        transport: Any = "websockets" if websocket else "tcp"
        self.client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=name, protocol=MQTTProtocolVersion(protocol), transport=transport, **options
        )
        self.client.username_pw_set(ACCOUNT, PLACEHOLDER)
        self.client.max_inflight_messages_set(10)
        self.client.on_connect = lambda *_: self.ready.set()
        self.client.on_subscribe = lambda *_: self.answered.set()
        self.client.on_message = self._on_message
        self.client.connect(server.address, server.facts["websocket"] if websocket else server.port)
        self.client.loop_start()
        if not self.ready.wait(WAIT_S):
            raise TimeoutError("no CONNACK")

    def _on_message(self, client: object, data: object, message: mqtt.MQTTMessage) -> None:
        with self.lock:
            self.arrived += 1
            self.retained += message.retain

    def subscribe(self, topic: str, qos: int = 0, **options: Any) -> None:
        self.answered.clear()
        self.client.subscribe(topic, qos, **options)
        if not self.answered.wait(WAIT_S):
            raise TimeoutError(f"no SUBACK for {topic}")

    def publish(self, topics: Sequence[str], qos: int, *, retain: bool = False, properties: Sequence[Properties | None] = ()) -> None:
        infos = [
            self.client.publish(topic, b'{"oee":0.81}', qos, retain, properties[number] if properties else None)
            for number, topic in enumerate(topics)
        ]
        for info in infos:
            info.wait_for_publish(WAIT_S)
            if not info.is_published():
                raise TimeoutError("a publish was not acknowledged")
        self.sent += len(infos)

    def wait_for(self, messages: int) -> None:
        deadline = time.monotonic() + WAIT_S
        while self.arrived < messages:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.arrived} of {messages} publishes arrived")
            time.sleep(0.01)
        time.sleep(0.05)  # One more than expected would be as wrong.

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def _told(*sessions: Session) -> Ledger:
    return [
        Moved(ACCOUNT, "publish", messages=sum(session.sent for session in sessions)),
        Moved(ACCOUNT, "subscribe", messages=sum(session.arrived for session in sessions)),
    ]


def _pair(qos: int, protocol: int, *, websocket: bool = False) -> Verb:
    def run(server: Server) -> Ledger:
        subscriber = Session(server, f"sub-{protocol}-{qos}", protocol=protocol, websocket=websocket)
        publisher = Session(server, f"pub-{protocol}-{qos}", protocol=protocol, websocket=websocket)
        topic = f"{TOPIC}/{protocol}/{qos}/{int(websocket)}"
        subscriber.subscribe(topic, qos)
        publisher.publish([topic] * MESSAGES, qos)
        subscriber.wait_for(MESSAGES)
        publisher.close()
        subscriber.close()
        return _told(publisher, subscriber)

    return run


def retained(server: Server) -> Ledger:
    """Retained messages, and a wildcard subscription to which the broker replays them."""
    topics = [f"north/line{line}/state" for line in range(20)]
    publisher = Session(server, "retains")
    publisher.publish(topics, 1, retain=True)
    late = Session(server, "comes-late")
    late.subscribe("north/+/state", 1)
    late.wait_for(20)
    publisher.publish(topics[:5], 1, retain=True)
    late.wait_for(25)
    assert late.retained == 20
    late.close()
    for topic in topics:
        publisher.client.publish(topic, b"", 1, True).wait_for_publish(WAIT_S)
        publisher.sent += 1
    publisher.close()
    return _told(publisher, late)


def shared(server: Server) -> Ledger:
    """Two members of one group: each message goes to one of them."""
    members = [Session(server, f"member-{number}", protocol=5) for number in range(2)]
    for member in members:
        member.subscribe("$share/readers/north/shared/#", options=SubscribeOptions(qos=1))
    publisher = Session(server, "pub-shared", protocol=5)
    publisher.publish([f"north/shared/{number}" for number in range(MESSAGES)], 1)
    deadline = time.monotonic() + WAIT_S
    while sum(member.arrived for member in members) < MESSAGES and time.monotonic() < deadline:
        time.sleep(0.01)
    for session in (*members, publisher):
        session.close()
    return _told(publisher, *members)


def aliases(server: Server) -> Ledger:
    """A topic said once with an alias, then the alias alone (OASIS MQTT 5.0, 3.3.2.3.4)."""
    subscriber = Session(server, "sub-alias", protocol=5)
    subscriber.subscribe("north/alias/#", 0)
    publisher = Session(server, "pub-alias", protocol=5)
    properties = Properties(PacketTypes.PUBLISH)
    properties.TopicAlias = 3
    publisher.publish(["north/alias/first", *[""] * (MESSAGES - 1)], 0, properties=[properties] * MESSAGES)
    subscriber.wait_for(MESSAGES)
    publisher.close()
    subscriber.close()
    return _told(publisher, subscriber)


def _payloads(server: Server, name: str, filters: str, said: Sequence[tuple[str, bytes, int]], commands: frozenset[str]) -> Ledger:
    """Messages whose writer counts their values, published by one client and delivered to another."""
    subscriber, publisher = Session(server, f"sub-{name}"), Session(server, f"pub-{name}")
    subscriber.subscribe(filters, 1)
    for number, (topic, payload, _) in enumerate(said):
        publisher.client.publish(topic, payload, number % 2).wait_for_publish(WAIT_S)
    subscriber.wait_for(len(said))
    publisher.close()
    subscriber.close()
    written = [values for topic, _, values in said if topic in commands]
    values = sum(values for _, _, values in said)
    return [
        Moved(ACCOUNT, "write", values=sum(written), messages=len(written)),
        Moved(ACCOUNT, "publish", values=values - sum(written), messages=len(said) - len(written)),
        Moved(ACCOUNT, "subscribe", values=values, messages=subscriber.arrived),
    ]


def sparkplug_b(server: Server) -> Ledger:
    """Births, data by aliases alone, a table, a template, commands and deaths (Eclipse Sparkplug 3.0.0)."""
    node = sparkplug.EdgeNode("matrix", "press-1")
    table = sparkplug.Table(["part", "scrap"], [["P-1", 1.0], ["P-2", 2.0]])
    pump = sparkplug.Template("Pump", {"rpm": 1.0, "seal": sparkplug.Template("Seal", {"wear": 0.1})}, {"size": 3.0})
    device: dict[str, sparkplug.Value] = {"Temperature": 21.5, "Scrap": table, "Pump": pump, "Photo": bytes(400), "Idle": None}
    written = [
        ("NBIRTH", None, node.birth({"bdSeq": 0})),
        ("DBIRTH", "robot", node.birth(device)),
        ("DDATA", "robot", node.data({"Temperature": 22.0})),
        ("DDATA", "robot", node.data({"Scrap": table, "Pump": pump})),
        ("NCMD", None, node.payload({"Node Control/Rebirth": True})),
        ("DCMD", "robot", node.payload({"Temperature": 20.0, "Idle": 1})),
        ("DDEATH", "robot", node.payload({})),
        ("NDEATH", None, node.payload({"bdSeq": 0})),
    ]
    said = [(node.topic(verb, device_name), payload, values) for verb, device_name, (payload, values) in written]
    return _payloads(server, "sparkplug", "spBv1.0/matrix/#", said, frozenset({node.topic("NCMD"), node.topic("DCMD", "robot")}))


def pubsub_messages(server: Server) -> Ledger:
    """JSON with its headers and without, UADP in each of its encodings, an action (OPC 10000-14)."""
    fields = {"Temperature": {"Value": 21.5}, "Steps": [1, {"a": "b"}]}
    json_topic, uadp_topic = pubsub.topic("json", "data", "matrix", "fast"), pubsub.topic("uadp", "data", "matrix", "fast", "state")
    action = pubsub.topic("json", "action-request", "matrix")
    said = [
        (json_topic, *pubsub.json_message([fields, {"Speed": 3}])),
        (json_topic, *pubsub.json_message([fields], network=False, dataset=False, single=True)),
        (uadp_topic, *pubsub.uadp_message([[1.0, 2.0], [3.0]])),
        (uadp_topic, *pubsub.uadp_message([[1.0, 2.0]], encoding="value")),
        (uadp_topic, *pubsub.uadp_message([[1.0], [2.0]], encoding="delta")),
        (uadp_topic, *pubsub.uadp_message([[1.0, 2.0]], header=False)),
        (uadp_topic, pubsub.uadp_keep_alive(), 0),
        (action, *pubsub.json_message([{"Setpoint": 5}], kind="ua-action-request")),
    ]
    return _payloads(server, "pubsub", "opcua/+/+/matrix/#", said, frozenset({action}))


def administration(server: Server) -> Ledger:
    """Accounts through Mosquitto's dynamic-security topic: one message may hold several commands."""
    session = Session(server, "administers")
    session.subscribe("$CONTROL/dynamic-security/#")
    commands = [
        {"command": "createClient", "username": "contractor", "password": PLACEHOLDER},
        {"command": "createRole", "rolename": "reads"},
        {"command": "addClientRole", "username": "contractor", "rolename": "reads"},
        {"command": "setClientPassword", "username": "contractor", "password": PLACEHOLDER},
        {"command": "deleteClient", "username": "contractor"},
        {"command": "deleteRole", "rolename": "reads"},
    ]
    for group in (commands[:1], commands[1:4], commands[4:]):
        payload = json.dumps({"commands": group})
        session.client.publish("$CONTROL/dynamic-security/v1", payload, 1).wait_for_publish(WAIT_S)
    session.wait_for(3)
    session.close()
    return [Moved(ACCOUNT, "admin", messages=3), Moved(ACCOUNT, "subscribe", messages=session.arrived)]


def _versions_of(protocol: int) -> dict[str, Verb]:
    name = {4: "3.1.1", 5: "5.0"}[protocol]
    return {f"publish and subscribe, {name}, QoS {qos}": _pair(qos, protocol) for qos in (0, 1, 2)}


PAHO: dict[str, Verb] = {
    **_versions_of(4),
    **_versions_of(5),
    "retained, wildcard replay": retained,
    "shared subscription": shared,
    "topic alias": aliases,
    "Sparkplug B": sparkplug_b,
    "OPC UA PubSub": pubsub_messages,
    "WebSocket": _pair(1, 4, websocket=True),
    "account administration": administration,
}


# -- Mosquitto's programs ---------------------------------------------------------------------------------------------


def _program(server: Server, name: str, *arguments: str) -> list[str]:
    path = plant.program(name)
    if path is None:
        raise plant.PlantError(f"{name} (mosquitto-clients) is not installed")
    return [path, "-h", server.address, "-p", str(server.port), "-u", ACCOUNT, "-P", PLACEHOLDER, *arguments]


def _programs(qos: int, protocol: str, *, retain: bool = False) -> Verb:
    """mosquitto_sub counts the lines it prints, mosquitto_pub the lines it was given."""

    def run(server: Server) -> Ledger:
        topic = f"north/programs/{protocol}/{qos}/{retain}"
        send = _program(server, "mosquitto_pub", "-t", topic, "-q", str(qos), "-V", protocol, "-l", *(["-r"] if retain else []))
        receive = _program(
            server, "mosquitto_sub", "-t", "north/programs/#" if retain else topic, "-q", str(qos), "-V", protocol, "-W", "5"
        )
        # mosquitto_sub 2.0.11 loses count of its receive maximum of 20 with QoS 2 and ends its connection.
        several = 15 if (qos, protocol) == (2, "mqttv5") else MESSAGES
        count = 1 if retain else several
        lines = "".join(f"{number}\n" for number in range(several))
        if retain:
            subprocess.run(send, input=lines, text=True, check=True, timeout=20)
        with subprocess.Popen(["stdbuf", "-oL", *receive, "-d", "-C", str(count)], stdout=subprocess.PIPE, text=True) as subscriber:
            assert subscriber.stdout is not None
            printed = 0
            for line in subscriber.stdout:
                if line.startswith("Subscribed") and not retain:
                    subprocess.run(send, input=lines, text=True, check=True, timeout=20)
                printed += line.strip().isdigit()
        if retain:
            subprocess.run([*send[:-2], "-r", "-n"], check=True, timeout=20)
        sent = several + int(retain)
        return [Moved(ACCOUNT, "publish", messages=sent), Moved(ACCOUNT, "subscribe", messages=printed)]

    return run


def control(server: Server) -> Ledger:
    """mosquitto_ctrl dynsec: one message a command, and the broker's answer to it."""
    commands = (["createRole", "audits"], ["addRoleACL", "audits", "subscribePattern", "north/#", "allow"], ["deleteRole", "audits"])
    for command in commands:
        path = plant.program("mosquitto_ctrl")
        where = ["-h", server.address, "-p", str(server.port), "-u", ACCOUNT, "-P", PLACEHOLDER]
        subprocess.run([str(path), *where, "dynsec", *command], check=True, capture_output=True, timeout=20)
    return [Moved(ACCOUNT, "admin", messages=len(commands)), Moved(ACCOUNT, "subscribe", messages=len(commands))]


def bridge(server: Server) -> Ledger:
    """A second Mosquitto on the client's host, joined to the server: what is published at either goes to the other.

    The clients of the bridge are on its own loopback, where no tap listens; so what passes the tap is the bridge, and two
    programs at the server itself.
    """
    daemon, out, back = plant.program("mosquitto"), 30, 20
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="bridge-") as name:
        folder = Path(name)
        plant.give_away(folder)
        configuration = plant.private_file(
            folder / "bridge.conf",
            f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nlog_type error\nconnection plant\n"
            f"address {server.address}:{server.port}\nremote_username {ACCOUNT}\nremote_password {PLACEHOLDER}\n"
            "remote_clientid bridge\nnotifications false\ncleansession true\n"
            # The topmost bit of the protocol level, which says that this is a bridge, is Mosquitto's own.
            f"try_private {'true' if server.name == 'Mosquitto' else 'false'}\n"
            "topic north/out/# out 1\ntopic north/in/# in 1\n",
        )
        process = subprocess.Popen([*plant.as_nobody(), str(daemon), "-c", str(configuration)], stdin=subprocess.DEVNULL)
        try:
            _until(lambda: plant.answers(("127.0.0.1", port)))
            local = ["-h", "127.0.0.1", "-p", str(port), "-V", "mqttv311", "-q", "1"]
            pub, sub = str(plant.program("mosquitto_pub")), ["stdbuf", "-oL", str(plant.program("mosquitto_sub"))]
            at_server = _program(server, "mosquitto_sub", "-t", "north/out/#", "-q", "1", "-d", "-C", str(out), "-W", "10")
            with (
                subprocess.Popen([*sub[:2], *at_server], stdout=subprocess.PIPE, text=True) as theirs,
                subprocess.Popen(
                    [*sub, *local, "-t", "north/in/#", "-d", "-C", str(back), "-W", "10"], stdout=subprocess.PIPE, text=True
                ) as ours,
            ):
                assert theirs.stdout is not None
                assert ours.stdout is not None
                for stream in (theirs.stdout, ours.stdout):
                    while not stream.readline().startswith("Subscribed"):
                        pass
                time.sleep(0.3)  # The bridge's own subscription is answered.
                lines = "".join(f"{number}\n" for number in range(out))
                subprocess.run([pub, *local, "-t", "north/out/1", "-l"], input=lines, text=True, check=True, timeout=20)
                given = _program(server, "mosquitto_pub", "-t", "north/in/1", "-q", "1", "-l")
                subprocess.run(given, input="".join(f"{number}\n" for number in range(back)), text=True, check=True, timeout=20)
                arrived = sum(line.strip().isdigit() for line in theirs.stdout)
                returned = sum(line.strip().isdigit() for line in ours.stdout)
        finally:
            process.terminate()
            process.wait(10)
    # Out by the bridge and to the subscriber at the server; in from the publisher at the server and to the bridge.
    return [Moved(ACCOUNT, "publish", messages=out + back), Moved(ACCOUNT, "subscribe", messages=arrived + returned)]


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError("the bridge does not answer")
        time.sleep(0.02)


PROGRAMS: dict[str, Verb] = {
    **{f"publish and subscribe, 3.1.1, QoS {qos}": _programs(qos, "mqttv311") for qos in (0, 1, 2)},
    **{f"publish and subscribe, 5.0, QoS {qos}": _programs(qos, "mqttv5") for qos in (0, 1, 2)},
    "retained, wildcard replay": _programs(1, "mqttv311", retain=True),
    "account administration": control,
    "bridge": bridge,
}


def versions() -> dict[str, str]:
    said = subprocess.run(["mosquitto_sub", "--help"], capture_output=True, text=True, check=False).stdout
    return {"paho (Python)": version("paho-mqtt"), "Mosquitto's programs": said.splitlines()[1].split()[2] if said else "?"}
