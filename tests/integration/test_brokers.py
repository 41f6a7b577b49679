"""MQTT over TLS is decided from a real Mosquitto's own log, and the broker's own client says what it was shown and what it was not."""

import json
import ssl
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from collectors.feed import Told
from collectors.mqtt_broker import MqttBroker
from examples.plant import servers
from examples.plant.network import Host, Network, network
from examples.plant.record import recording
from examples.plant.watched import Json, replay, stored_flows
from hopwatch.events import Flow, Loss, parse
from tests.integration.declared import HEAD

ADDRESSES = {"uns": "10.30.0.10", "edge-l1": "10.10.1.10", "ml": "10.40.8.40"}
PASSWORD = "only-for-this-test"
TIMEOUT_S = 20.0
DECLARATION = (
    HEAD
    + """\
unlisted: critical
classes:
  telemetry: {{sensitivity: confidential, transit: tls1.2, keep_max: 2y, off_site: approved}}
zones:
  cell-1: {{level: 1, nets: [{edge_l1}/32]}}
  idmz: {{level: 3.5, nets: [{uns}/32]}}
  analytics: {{level: 4, nets: [{ml}/32]}}
assets:
  uns: {{zone: idmz, kind: mqtt, at: "{uns}:{port}"}}
  edge-l1: {{zone: cell-1, kind: gateway, at: {edge_l1}}}
  ml: {{zone: analytics, kind: ml, at: {ml}}}
data:
  tags: {{class: telemetry, in: [uns], topics: ["north/#"]}}
accounts:
  svc_edge: {{kind: service, owner: ot-data, from: [edge-l1], auth: scram-sha-256}}
  svc_ml: {{kind: service, owner: ml-team, from: [ml], auth: scram-sha-256}}
  old_edge: {{kind: service, owner: ot-data, from: [edge-l1], auth: scram-sha-256}}
  old_ml: {{kind: service, owner: ml-team, from: [ml], auth: scram-sha-256}}
conduits:
  c-edge: {{from: cell-1, to: idmz, agent: tap-demo, sees: server-log, feed: uns-log}}
  c-ml: {{from: idmz, to: analytics, agent: tap-demo, sees: server-log, feed: uns-log}}
hops:
  publish-uns:
    {{who: svc_edge, from: edge-l1, to: uns, via: c-edge, may: [publish], what: [tags], why: one namespace, limit: 40 MiB / 1h, keep: 24h,
     approved: {{by: a.ruiz, ticket: CHG-2}}}}
  ml-features:
    {{who: svc_ml, from: uns, to: ml, via: c-ml, may: [subscribe], what: [tags], why: OEE forecast, limit: 40 MiB / 1h, keep: 24h,
     approved: {{by: a.ruiz, ticket: CHG-3}}}}
"""
)

Ledger = Counter[tuple[str, str, str]]
"""Account, operation and topic: how many messages, and under the topic with ``/bytes`` behind it how many bytes of payload."""


def client(user: str, ca: Path | None) -> mqtt.Client:
    made = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"{user}-1", protocol=mqtt.MQTTv311)
    made.username_pw_set(user, PASSWORD)
    if ca is not None:
        made.tls_set(str(ca), cert_reqs=ssl.CERT_REQUIRED)
        made.tls_insecure_set(True)  # The certificate names the host, the test dials its address.
    return made


def until(done: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not done():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def listening(user: str, at: tuple[str, int], ca: Path | None, ledger: Ledger) -> mqtt.Client:
    """A client that is subscribed and counts what it gets."""
    ready: list[object] = []
    made = client(user, ca)
    made.on_connect = lambda *_: made.subscribe([("north/#", 1)])
    made.on_subscribe = lambda *_: ready.append(True)

    def count(_: object, __: object, message: mqtt.MQTTMessage) -> None:
        ledger[(user, "subscribe", message.topic)] += 1
        ledger[(user, "subscribe", f"{message.topic}/bytes")] += len(message.payload)

    made.on_message = count
    made.connect(*at)
    made.loop_start()
    until(lambda: bool(ready), "subscribed")
    return made


def publish(user: str, at: tuple[str, int], ca: Path | None, ledger: Ledger, messages: int) -> None:
    made = client(user, ca)
    made.connect(*at)
    made.loop_start()
    sent = []
    for turn in range(messages):
        topic, payload = f"north/line{turn % 3}/telemetry", b"x" * (turn % 50)
        sent.append(made.publish(topic, payload, qos=turn % 3))
        ledger[(user, "publish", topic)] += 1
        ledger[(user, "publish", f"{topic}/bytes")] += len(payload)
    for one in sent:
        one.wait_for_publish(TIMEOUT_S)
    made.disconnect()
    made.loop_stop()


def shared(host: Host, ca: Path | None, at: tuple[str, int], publisher: Host, users: tuple[str, str], messages: int) -> Ledger:
    """What one account published and another got, as both counted."""
    ledger: Ledger = Counter()
    receiver = host.call(lambda: listening(users[1], at, ca, ledger))
    publisher.call(lambda: publish(users[0], at, ca, ledger, messages))

    def received() -> int:
        return sum(count for (user, _, topic), count in ledger.items() if user == users[1] and not topic.endswith("/bytes"))

    until(lambda: received() >= messages, "everything received")
    receiver.disconnect()
    receiver.loop_stop()
    return ledger


@dataclass
class Day:
    """What clients did over TLS and in clear."""

    place: Network
    capture: Path
    log: Path
    declaration: Path
    address: str
    port: int
    ledger: Ledger = field(default_factory=Counter)


@pytest.fixture(scope="module")
def day(namespaces: bool) -> Iterator[Day]:
    # Its path is open to the broker's unprivileged user, which pytest's folders are not.
    with tempfile.TemporaryDirectory(prefix="hopwatch-mqtt-") as name:
        Path(name).chmod(0o755)
        yield from lived(Path(name), namespaces)


def lived(folder: Path, namespaces: bool) -> Iterator[Day]:
    with network(ADDRESSES, namespaces=namespaces, kernel_chooses="ml") as place, servers.processes(folder) as held:
        uns = place.hosts["uns"]
        port, clear = place.port(8883), place.port(1884)
        certificate, key = servers.self_signed(folder, "uns")
        log = folder / "mosquitto" / "mosquitto.log"
        more = ["log_type all", f"log_dest file {log}", "log_timestamp_format %Y-%m-%dT%H:%M:%S%z"]
        more += [f"certfile {certificate}", f"keyfile {key}", f"listener {clear} {uns.address}"]
        users = dict.fromkeys(("svc_edge", "svc_ml", "old_edge", "old_ml"), PASSWORD)
        servers.mosquitto(held, uns, port, users, more=more)
        said = {name.replace("-", "_"): place.hosts[name].address for name in ADDRESSES}
        declaration = folder / "plant.yaml"
        declaration.write_text(DECLARATION.format(port=port, **said), encoding="utf-8")
        found = Day(place, folder / "day.pcap.gz", log, declaration, uns.address, port)
        ml, edge = place.hosts["ml"], place.hosts["edge-l1"]
        with recording(place, found.capture, level=1):
            found.ledger += shared(ml, certificate, (uns.address, port), edge, ("svc_edge", "svc_ml"), 600)
            found.ledger += shared(ml, None, (uns.address, clear), edge, ("old_edge", "old_ml"), 90)
        yield found


def watch(day: Day, folder: Path, *more: str) -> list[Json]:
    """The flows of the capture, and of the log if it is named, each with its judgement."""
    store = folder / "store.db"
    watched, _ = replay([day.capture], day.declaration, store, "--agent", "tap-demo", *more)
    assert not [line for line in watched.errors if "UNSIGNED" not in line], watched.errors
    return stored_flows(store)


@pytest.fixture(scope="module")
def flows(day: Day, tmp_path_factory: pytest.TempPathFactory) -> list[Json]:
    folder = tmp_path_factory.mktemp("both")
    source = f"mosquitto-log:uns-log={day.address}:{day.port}={day.log}?tls={day.port}"
    return watch(day, folder, "--feed", source, "--feeds-state", str(folder / "place"))


def counted(flows: list[Json], seen_by: str, *, size: bool = True) -> Ledger:
    found: Ledger = Counter()
    for flow in flows:
        for part in flow["objects"] if flow["seen_by"] == seen_by else ():
            if part["messages"]:
                (topic,) = part["names"]
                found[(flow["account"], flow["operation"], topic)] += part["messages"]
                found[(flow["account"], flow["operation"], f"{topic}/bytes")] += part["bytes"] if size else 0
    return +found


def test_the_log_counts_the_messages_and_bytes_that_clients_count(day: Day, flows: list[Json]) -> None:
    assert counted(flows, "server-log") == day.ledger


def test_in_clear_the_tap_counts_the_messages_that_the_log_counts(flows: list[Json]) -> None:
    by_log, by_tap = (
        {key: count for key, count in counted(flows, seen_by, size=False).items() if key[0].startswith("old_")}
        for seen_by in ("server-log", "tap")
    )
    assert by_log == by_tap
    assert len(by_tap) == 6


def test_the_two_views_are_of_one_connection(flows: list[Json]) -> None:
    by_log, by_tap = ({flow["connection"] for flow in flows if flow["seen_by"] == seen_by} for seen_by in ("server-log", "tap"))
    assert len(by_log) == 4
    assert by_log == by_tap


def verdicts(flows: list[Json], seen_by: str, account: str | None, operation: str) -> set[str]:
    told = [flow for flow in flows if (flow["seen_by"], flow["account"], flow["operation"]) == (seen_by, account, operation)]
    return {flow["judgement"]["verdict"] for flow in told}


def test_an_encrypted_conduit_is_decided_from_the_brokers_log_and_blind_without_it(day: Day, flows: list[Json], tmp_path: Path) -> None:
    assert verdicts(flows, "server-log", "svc_edge", "publish") == {"declared"}
    assert verdicts(flows, "server-log", "svc_ml", "subscribe") == {"declared"}
    assert "declared" not in verdicts(flows, "tap", None, "transfer")
    unread = watch(day, tmp_path)
    assert verdicts(unread, "tap", None, "transfer") == {"blind"}


def test_no_password_or_payload_is_in_an_event(flows: list[Json]) -> None:
    said = json.dumps(flows)
    assert PASSWORD not in said
    assert "xxxx" not in said


# The broker's own client.


@dataclass
class Monitor:
    """The collector, read by turns until it is stopped or killed."""

    feed: MqttBroker
    lines: list[bytes] = field(default_factory=list)
    stopping: bool = False
    thread: threading.Thread | None = None

    def start(self) -> "Monitor":
        def read() -> None:
            for batch in self.feed.batches(lambda: self.stopping, follow=True):
                self.lines += batch

        self.thread = threading.Thread(target=read, daemon=True)
        self.thread.start()
        until(lambda: self.feed.lives, "the monitor is subscribed")
        return self

    def stop(self) -> list[bytes]:
        self.stopping = True
        assert self.thread is not None
        self.thread.join(TIMEOUT_S)
        return self.lines

    def counter(self, name: str) -> int:
        return self.feed.counters().get(f"mqtt_broker_{name}", 0)


def administered(at: tuple[str, int], ca: Path, *commands: dict[str, Any]) -> None:
    """Commands of the administrator to the plugin, and its answer to all of them."""
    answers: list[bytes] = []
    made = client("admin", ca)
    made.on_connect = lambda *_: made.subscribe("$CONTROL/dynamic-security/v1/response")
    made.on_subscribe = lambda *_: made.publish("$CONTROL/dynamic-security/v1", json.dumps({"commands": commands}))
    made.on_message = lambda _, __, message: answers.append(message.payload)
    made.connect(*at)
    made.loop_start()
    until(lambda: bool(answers), "the plugin answers")
    made.disconnect()
    made.loop_stop()
    assert b'"error"' not in answers[0], answers[0]


def allowed(*topics: str) -> list[dict[str, Any]]:
    kinds = ("publishClientSend", "publishClientReceive", "subscribePattern")
    return [{"acltype": kind, "topic": topic, "priority": 0, "allow": True} for topic in topics for kind in kinds]


def role(name: str, *topics: str) -> dict[str, Any]:
    return {"command": "createRole", "rolename": name, "acls": allowed(*topics)}


def account(name: str, *roles: str) -> dict[str, Any]:
    return {"command": "createClient", "username": name, "password": PASSWORD, "roles": [{"rolename": one} for one in roles]}


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[tuple[tuple[str, int], Path, str]]:
    """A broker over TLS whose accounts are those of the plugin; its address, its authority, and how the monitor is told of it."""
    with tempfile.TemporaryDirectory(prefix="hopwatch-mqtt-") as name, servers.processes(Path(name)) as held:
        folder = Path(name)
        folder.chmod(0o755)
        with network({"uns": ADDRESSES["uns"]}, namespaces=False, kernel_chooses="uns") as place:
            host, port = place.hosts["uns"], place.port(8883)
            certificate, key = servers.self_signed(folder, host.address, address=True)
            made = servers.private_folder(folder / "accounts") / "dynamic-security.json"
            servers.run(["mosquitto_ctrl", "dynsec", "init", made, "admin", PASSWORD])
            (plugin,) = Path("/usr/lib").glob("*/mosquitto_dynamic_security.so")
            more = [f"certfile {certificate}", f"keyfile {key}", "sys_interval 1", f"plugin {plugin}", f"plugin_opt_config_file {made}"]
            servers.mosquitto(held, host, port, {}, more=[*more, "per_listener_settings false"])
            at = (host.address, port)
            roles = [role("all", "#", "$SYS/#", "$CONTROL/#"), role("line", "north/#")]
            users = [account("hopwatch", "all"), account("svc_edge", "line"), account("few", "line")]
            administered(at, certificate, *roles, *users)
            secret = tmp_path / "password"
            secret.touch(mode=0o600)
            secret.write_text(PASSWORD)
            yield at, certificate, f"mqtts://{at[0]}:{at[1]}?ca={certificate}&password_file={secret}&user="


def monitor(tmp_path: Path, said: str) -> Monitor:
    return Monitor(MqttBroker.of(Told.of(f"mqtt-broker:uns={said}", "agent"), "demo", tmp_path / "place")).start()


def messages(lines: Sequence[bytes]) -> Counter[str]:
    found: Counter[str] = Counter()
    for event in map(parse, lines):
        for part in event.objects if isinstance(event, Flow) else ():
            if part.messages and not part.names[0].startswith("$"):
                found[part.names[0]] += part.messages
                found[f"{part.names[0]}/bytes"] += part.bytes
    return found


def published(ledger: Ledger) -> Counter[str]:
    return Counter({topic: count for (_, _, topic), count in ledger.items()})


def test_a_metered_subscription_counts_what_was_published_and_says_what_it_was_not_shown(
    secured: tuple[tuple[str, int], Path, str], tmp_path: Path
) -> None:
    at, ca, said = secured
    ledger: Ledger = Counter()
    whole = monitor(tmp_path, f"{said}hopwatch")
    until(lambda: whole.counter("hidden") == 0 and whole.feed._coverage.base is not None, "the broker's counts")
    publish("svc_edge", at, ca, ledger, 500)
    until(lambda: whole.counter("messages") >= 500, "everything seen")
    time.sleep(2.5)  # Two of the broker's own reports.
    lines = whole.stop()
    assert messages(lines) == published(ledger)
    assert whole.counter("hidden") == 0
    assert {(flow.account, flow.protection.transport) for flow in map(parse, lines) if isinstance(flow, Flow)} == {("hopwatch", "tls1.3")}
    (tmp_path / "place").unlink()
    part = monitor(tmp_path, f"{said}hopwatch&filter=north/line0/#")
    publish("svc_edge", at, ca, Counter(), 3)  # A broker says its counts when they change.
    until(lambda: part.feed._coverage.base is not None, "the broker's counts")
    publish("svc_edge", at, ca, Counter(), 300)
    # Mosquitto 2.0.11 leaves messages of QoS 2, those of line 2, out of its count.
    until(lambda: part.counter("hidden") >= 100, "what was not shown")
    part.stop()
    assert (part.counter("messages"), part.counter("hidden")) == (101, 100)


def test_a_killed_monitor_says_what_it_did_not_hear_and_doubles_nothing(secured: tuple[tuple[str, int], Path, str], tmp_path: Path) -> None:
    at, ca, said = secured
    ledger: Ledger = Counter()
    first = monitor(tmp_path, f"{said}hopwatch")
    publish("svc_edge", at, ca, ledger, 200)
    until(lambda: first.counter("messages") >= 200, "everything seen")
    time.sleep(2.5)  # Until the place is written down behind them.
    # Killed: nothing of its last words is heard.
    lines = list(first.lines)
    first.stop()
    state = json.loads((tmp_path / "place").read_text())
    publish("svc_edge", at, ca, Counter(), 50)
    again = monitor(tmp_path, f"{said}hopwatch")
    publish("svc_edge", at, ca, ledger, 200)
    until(lambda: again.counter("messages") >= 200, "everything seen")
    lines += again.stop()
    assert messages(lines) == published(ledger)
    assert len({event.event_id for event in map(parse, lines) if isinstance(event, Flow)}) == sum(
        isinstance(event, Flow) for event in map(parse, lines)
    )
    (loss,) = [event for event in map(parse, lines) if isinstance(event, Loss)]
    assert loss.events
    assert state["until_ns"] < time.time_ns()


def test_accounts_made_on_the_broker_are_told_and_a_refused_monitor_is_said(
    secured: tuple[tuple[str, int], Path, str], tmp_path: Path
) -> None:
    at, ca, said = secured
    one = monitor(tmp_path, f"{said}hopwatch&dynsec=10")
    until(lambda: one.counter("listings") == 1, "the roles are listed")
    one.stop()
    administered(at, ca, account("intruder", "all"), {"command": "addClientRole", "username": "few", "rolename": "all"})
    again = monitor(tmp_path, f"{said}hopwatch&dynsec=10")
    until(lambda: again.counter("changes") == 2, "the changes are told")
    admin = [flow for flow in map(parse, again.stop()) if isinstance(flow, Flow) and flow.operation == "admin"]
    assert [(part.names, part.columns) for flow in admin for part in flow.objects] == [
        (["account:few"], ["grant:all"]),
        (["account:intruder"], ["create", "grant:all"]),
    ]
    assert {flow.account for flow in admin} == {None}
    refused = MqttBroker.of(Told.of(f"mqtt-broker:uns={said}nobody", "agent"), "demo", tmp_path / "other")
    stopping: list[bool] = []
    turns = refused.batches(lambda: bool(stopping), follow=True)
    until(lambda: next(turns) is not None and refused.counters().get("mqtt_broker_refused", 0) > 0, "the broker refuses")
    assert not refused.lives
    assert "Not authorized" in refused.example
    stopping.append(True)
    assert PASSWORD not in b"".join(line for batch in turns for line in batch).decode()
