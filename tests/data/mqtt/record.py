"""Records Mosquitto with paho-mqtt through a TCP proxy, one file a case, and beside it what the client counted.

A line of ``NAME.txt`` is ``> HEX`` (client) or ``< HEX`` (broker); ``NAME.json`` holds the client's own ledger: messages
published and received by topic. The user, password and payloads are made up.
Usage, from the repository's root: python -m tests.data.mqtt.record DIRECTORY [payloads|tahu]   (only those whose values are
counted; only that of tahu.js)
"""

from __future__ import annotations

import json
import pathlib
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties


class Proxy:
    """Passes one connection on and keeps what each side said, in the order in which it passed."""

    def __init__(self, broker_port: int) -> None:
        self.lines: list[str] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.serve, args=(broker_port,), daemon=True)]
        self.threads[0].start()

    def serve(self, broker_port: int) -> None:
        near, _ = self.listener.accept()
        far = socket.create_connection(("127.0.0.1", broker_port))
        both = [threading.Thread(target=self.pass_on, args=args, daemon=True) for args in ((near, far, ">"), (far, near, "<"))]
        for thread in both:
            thread.start()
        for thread in both:
            thread.join()

    def pass_on(self, source: socket.socket, sink: socket.socket, mark: str) -> None:
        while data := source.recv(65536):
            with self.lock:
                self.lines.append(f"{mark} {data.hex()}")
                sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def wait(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "the broker did not do it"
        time.sleep(0.01)


class Broker:
    def __enter__(self) -> Broker:
        self.directory = tempfile.TemporaryDirectory()
        where = pathlib.Path(self.directory.name)
        where.chmod(0o777)
        self.port, self.web_port = free_port(), free_port()
        passwords = where / "passwords"
        subprocess.run(["mosquitto_passwd", "-c", "-b", str(passwords), "svc_edge", "not-a-secret"], check=True)
        passwords.chmod(0o644)
        acl = where / "acl"
        acl.write_text("topic readwrite #\nuser svc_edge\ntopic readwrite #\ntopic readwrite $CONTROL/#\n")
        acl.chmod(0o644)
        configuration = where / "mosquitto.conf"
        configuration.write_text(
            f"listener {self.port} 127.0.0.1\nlistener {self.web_port} 127.0.0.1\nprotocol websockets\n"
            f"allow_anonymous true\npassword_file {passwords}\nmax_topic_alias 10\nacl_file {acl}\n"
        )
        self.process = subprocess.Popen(["mosquitto", "-c", str(configuration)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        def listens() -> bool:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
            except OSError:
                return False
            return True

        wait(listens)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait()
        self.directory.cleanup()


def record(into: pathlib.Path, broker: Broker, name: str, protocol: int, transport: str = "tcp", password: str = "not-a-secret") -> None:
    """One client that subscribes to what it publishes, with every quality of service and a long message."""
    proxy = Proxy(broker.web_port if transport == "websockets" else broker.port)
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=f"edge-{name}", protocol=protocol, transport=transport)
    client.username_pw_set("svc_edge", password)
    published: Counter[str] = Counter()
    received: Counter[str] = Counter()
    granted: list[int] = []
    refused: list[str] = []
    subscribed = threading.Event()

    def on_message(_client: Any, _data: Any, message: Any) -> None:
        received[message.topic] += 1

    def on_subscribe(_client: Any, _data: Any, _id: int, codes: list[Any], _properties: Any) -> None:
        granted.extend(code.value for code in codes)
        subscribed.set()

    def on_connect(_client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            refused.append(str(reason))

    client.on_message, client.on_subscribe, client.on_connect = on_message, on_subscribe, on_connect
    five: dict[str, Any] = {}
    if protocol == mqtt.MQTTv5:
        properties = Properties(PacketTypes.CONNECT)
        properties.TopicAliasMaximum = 10
        five["properties"] = properties
    client.connect("127.0.0.1", proxy.port, **five)
    client.loop_start()
    wait(lambda: client.is_connected() or bool(refused))
    if not refused:
        filters = [("line/+/state", 2), ("$share/mes/line/+/order", 1)] if protocol == mqtt.MQTTv5 else [("line/#", 2)]
        client.subscribe(filters)
        assert subscribed.wait(10)
        for number in range(12):
            topic, qos = ("line/1/state", "line/1/order", "line/1/recipe")[number % 3], number % 3
            payload = b"x" * (3000 if number == 5 else 20 + number)
            more: dict[str, Any] = {}
            wire_topic = topic
            if protocol == mqtt.MQTTv5:
                alias = Properties(PacketTypes.PUBLISH)
                alias.TopicAlias = number % 3 + 1
                alias.UserProperty = ("unit", "press-1")
                more["properties"] = alias
                wire_topic = topic if published[topic] == 0 else ""
            client.publish(wire_topic, payload, qos=qos, retain=number == 0, **more).wait_for_publish(10)
            published[topic] += 1
        wanted = 12 if protocol != mqtt.MQTTv5 else 8
        wait(lambda: received.total() >= wanted)
        command = {
            "commands": [
                {
                    "command": "createClient",
                    "username": "eve",
                    "password": "swordfish",
                    "roles": [{"rolename": "admin"}],
                },
                {"command": "addClientRole", "username": "svc_edge", "rolename": "admin"},
                {"command": "listClients"},
            ]
        }
        client.publish("$CONTROL/dynamic-security/v1", json.dumps(command), qos=1).wait_for_publish(10)
        client.unsubscribe(filters[0][0])
        time.sleep(0.1)
        client.disconnect()
    client.loop_stop()
    wait(lambda: bool(proxy.lines))
    time.sleep(0.1)
    (into / f"{name}.txt").write_text("\n".join(proxy.lines) + "\n")
    ledger = {"published": dict(published), "received": dict(received), "granted": granted, "refused": refused}
    (into / f"{name}.json").write_text(json.dumps(ledger, indent=1, sort_keys=True) + "\n")


def record_payloads(into: pathlib.Path, broker: Broker, name: str, filters: list[str], messages: list[tuple[str, bytes, int]]) -> None:
    """One client that subscribes to the payloads that it publishes; their values as their writer counts them."""
    proxy = Proxy(broker.port)
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=f"edge-{name}")
    client.username_pw_set("svc_edge", "not-a-secret")
    received: list[str] = []
    subscribed = threading.Event()
    client.on_message = lambda _client, _data, message: received.append(message.topic)
    client.on_subscribe = lambda *_: subscribed.set()
    client.connect("127.0.0.1", proxy.port)
    client.loop_start()
    wait(client.is_connected)
    client.subscribe([(one, 1) for one in filters])
    assert subscribed.wait(10)
    values: Counter[str] = Counter()
    for number, (topic, payload, count) in enumerate(messages):
        client.publish(topic, payload, qos=number % 2).wait_for_publish(10)
        values[topic] += count
        wait(lambda number=number: len(received) > number)
    client.disconnect()
    client.loop_stop()
    time.sleep(0.1)
    (into / f"{name}.txt").write_text("\n".join(proxy.lines) + "\n")
    ledger = {"messages": dict(Counter(topic for topic, _, _ in messages)), "values": dict(values)}
    (into / f"{name}.json").write_text(json.dumps(ledger, indent=1, sort_keys=True) + "\n")


def record_tahu(into: pathlib.Path, broker: Broker) -> None:
    """sparkplug-client's own edge node; NODE_PATH says where npm has put it."""
    proxy = Proxy(broker.port)
    script = pathlib.Path(__file__).with_name("tahu.js")
    ran = subprocess.run(["node", str(script), str(proxy.port), "not-a-secret"], check=True, capture_output=True, text=True, timeout=30)
    (into / "tahu.txt").write_text("\n".join(proxy.lines) + "\n")
    (into / "tahu.json").write_text(json.dumps(json.loads(ran.stdout), indent=1, sort_keys=True) + "\n")


def sparkplug_messages() -> list[tuple[str, bytes, int]]:
    """One edge node with a device, from its birth to its death."""
    node = sparkplug.EdgeNode("north", "press-1")
    table = sparkplug.Table(["part", "scrap"], [["swordfish", 1.0], ["P-2", 0.0], ["P-3", 4.0]])
    pump = sparkplug.Template("Pump", {"rpm": 1400.0, "seal": sparkplug.Template("Seal", {"wear": 0.1, "fitted": True})}, {"size": 3.0})
    device = {
        "Temperature": 21.5,
        "Recipe/Step": 4,
        "Operator": "swordfish",
        "Scrap": table,
        "Pump": pump,
        "Photo": bytes(300),
        "Idle": None,
    }
    many = {f"Tag/{number}": float(number) for number in range(60)}
    said = [
        ("NBIRTH", None, node.birth({"bdSeq": 3, "Node Control/Rebirth": False})),
        ("DBIRTH", "robot", node.birth(device)),
        ("DDATA", "robot", node.data({"Temperature": 21.75})),
        ("DDATA", "robot", node.data({"Temperature": 22.0, "Operator": "swordfish", "Scrap": table})),
        ("DDATA", "robot", node.data({"Pump": pump, "Photo": bytes(300), "Idle": None})),
        ("DBIRTH", "line", node.birth(many)),
        ("DDATA", "line", node.data({"Tag/7": 1.0, "Tag/8": 2.0})),
        ("DDATA", "line", node.data(many)),
        ("NCMD", None, node.payload({"Node Control/Rebirth": True})),
        ("DCMD", "robot", node.payload({"Recipe/Step": 5})),
        ("DDEATH", "robot", node.payload({})),
        ("NDEATH", None, node.payload({"bdSeq": 3})),
    ]
    messages = [(node.topic(verb, device), payload, count) for verb, device, (payload, count) in said]
    return [*messages, ("spBv1.0/STATE/host", b'{"online": true, "timestamp": 1775000000000}', 0)]


def pubsub_messages() -> list[tuple[str, bytes, int]]:
    """Key frames, delta frames, keep-alives and actions in both mappings, with their headers and without."""
    state = {"Temperature": {"Type": 11, "Body": 21.5}, "Operator": "swordfish", "Steps": [1, 2, {"a": "b"}]}
    json_topic, uadp_topic = pubsub.topic("json", "data", "press-1", "group"), pubsub.topic("uadp", "data", "press-1", "group", "writer")
    values = [1.0, 2.0, 3.0]
    said = [
        (json_topic, *pubsub.json_message([state, {"Speed": 3}])),
        (json_topic, *pubsub.json_message([state, {"Speed": 3}], network=False)),
        (json_topic, *pubsub.json_message([state], network=False, single=True)),
        (json_topic, *pubsub.json_message([state], network=False, dataset=False, single=True)),
        (json_topic, *pubsub.json_message([state, {"Speed": 3}], dataset=False)),
        (
            json_topic,
            json.dumps({"MessageType": "ua-data", "Messages": [{"DataSetWriterId": 1, "MessageType": "ua-keepalive"}]}).encode(),
            0,
        ),
        (uadp_topic, *pubsub.uadp_message([values, values])),
        (uadp_topic, *pubsub.uadp_message([values], encoding="value")),
        (uadp_topic, *pubsub.uadp_message([values, [4.0]], encoding="delta")),
        (uadp_topic, pubsub.uadp_keep_alive(), 0),
    ]
    action = pubsub.json_message([{"Setpoint": 5}], kind="ua-action-request")
    metadata = json.dumps({"MessageType": "ua-metadata", "MetaData": {"Name": "state", "Fields": [{"Name": "Temperature"}]}}).encode()
    more = [
        (pubsub.topic("json", "action-request", "press-1", "group", "writer"), *action),
        (pubsub.topic("json", "metadata", "press-1", "group", "writer"), metadata, 0),
    ]
    return [*said, *more]


if __name__ == "__main__":
    from examples.plant import pubsub, sparkplug

    directory = pathlib.Path(sys.argv[1])
    wanted = set(sys.argv[2:])
    with Broker() as running:
        if not wanted:
            record(directory, running, "v311", mqtt.MQTTv311)
            record(directory, running, "v5", mqtt.MQTTv5)
            record(directory, running, "refused", mqtt.MQTTv5, password="wrong-word")
            record(directory, running, "websocket", mqtt.MQTTv311, transport="websockets")
        if wanted <= {"payloads"}:
            record_payloads(directory, running, "sparkplug", ["spBv1.0/#"], sparkplug_messages())
            record_payloads(directory, running, "pubsub", ["opcua/#"], pubsub_messages())
        if wanted <= {"tahu"}:
            record_tahu(directory, running)
