"""What a metered subscription says, and what it does not: with a broker that is only told of."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from collectors.dialled import HEARD_MAX, Heard, backoff, number, secret
from collectors.feed import FeedError, Told
from collectors.mqtt_broker import CONTROL, Connected, Gone, Item, Listed, Message, MqttBroker, Subscribed, changes, listed
from detectors.verdict import VerdictDetector
from hopwatch.declared.load import loads
from hopwatch.events import Flow, Loss, parse

NS = 10**9
BEGIN = 1_775_558_528 * NS
SECRET = "only-for-this-test"


class Broker:
    """Says what it is told to say, one batch at a time, and then asks to stop."""

    def __init__(self, tmp_path: Path, options: str = "") -> None:
        self.now_ns = BEGIN
        self.feed = MqttBroker(
            Told.of(f"mqtt-broker:broker=mqtt://10.10.5.3:1883?user=hopwatch{options}", "agent"),
            "north",
            tmp_path / "place",
            lambda: self.now_ns,
        )
        self.feed._dial = lambda: None  # type: ignore[method-assign]  # nothing is dialled here
        self.batches: Iterator[list[bytes]] | None = None
        self.stopping = False

    def says(self, *items: Item, after_ns: int = 2 * NS) -> list[bytes]:
        """What the feed says of them, handed over."""
        self.now_ns += after_ns
        for item in items:
            self.feed._heard.put(item)
        if self.batches is None:
            self.batches = self.feed.batches(lambda: self.stopping, follow=True, sleep=lambda _: None)
            return [*next(self.batches), *next(self.batches), *next(self.batches)]
        return [*next(self.batches), *next(self.batches)]

    def stops(self) -> list[bytes]:
        self.stopping = True
        assert self.batches is not None
        return [line for batch in self.batches for line in batch]

    def in_(self, time_ns: int, port: int = 50_001) -> list[Item]:
        return [Connected(time_ns, ("10.10.9.9", port), ("10.10.5.3", 1883), "tls1.3", "TLS_AES_256_GCM_SHA384"), Subscribed(time_ns, 0)]


def flows(lines: Sequence[bytes]) -> list[Flow]:
    return [event for event in map(parse, lines) if isinstance(event, Flow)]


def losses(lines: Sequence[bytes]) -> list[tuple[str, str]]:
    return [(event.start, event.end) for event in map(parse, lines) if isinstance(event, Loss)]


def said(time_ns: int, topic: str, size: int = 10, *, retained: bool = False, count: int | None = None) -> Message:
    return Message(time_ns, topic, size, retained, count)


def test_the_monitors_own_connection_is_told_with_every_topic_and_size(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    lines = broker.says(*broker.in_(BEGIN), said(BEGIN + 1, "line/1", 7), said(BEGIN + 2, "line/1", 8), said(BEGIN + 3, "line/2", 9))
    told = [flow for flow in flows([*lines, *broker.stops()]) if flow.messages]
    assert [(part.names, part.messages, part.bytes) for part in told[0].objects if part.messages] == [
        (["line/1"], 2, 15),
        (["line/2"], 1, 9),
    ]
    assert (told[0].account, told[0].account_from, told[0].operation, told[0].seen_by) == ("hopwatch", "startup", "subscribe", "broker")
    assert (told[0].source.address, told[0].destination.port, told[0].protection.transport) == ("10.10.5.3", 50_001, "tls1.3")


DECLARED = """
plant: north
version: 1
owner: ot-architecture@plant.example
approved: {by: h.keller, ticket: CHG-1, date: 2026-01-12}
review_by: 2036-01-12
timezone: Europe/Berlin
classes:
  production: {sensitivity: confidential, transit: tls1.2, keep_max: 2y, off_site: approved}
zones:
  idmz: {level: 3.5, nets: [10.10.5.0/24]}
  security: {level: 3.5, nets: [10.10.9.0/24]}
assets:
  uns: {zone: idmz, kind: mqtt, at: "10.10.5.3:1883"}
  monitor: {zone: security, kind: monitor, at: 10.10.9.9}
"""


def test_the_monitor_declared_as_its_page_says_is_declared_and_another_account_is_not(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/collectors/mqtt.md").read_text()
    said = page.partition("```yaml\n")[2].partition("```")[0].replace("feed: uns-monitor", "feed: broker").replace("CHG-…", "CHG-2")
    # This one has logged in without a password.
    watching = VerdictDetector(loads(DECLARED + said.replace("auth: scram-sha-256", "auth: none")))
    broker = Broker(tmp_path)
    lines = broker.says(*broker.in_(BEGIN), Message(BEGIN, "line/1", 10, False))
    moved = next(flow for flow in flows([*lines, *broker.stops()]) if flow.messages)
    assert [one.verdict for one in watching.observe(moved)] == ["declared"]
    other = watching.observe(replace(moved, account="svc_else", event_id="1" * 32, flow_id="2" * 32))
    assert [one.verdict for one in other] == ["undeclared-account"]


def test_what_the_broker_received_and_did_not_show_is_counted(tmp_path: Path) -> None:
    received = "$SYS/broker/publish/messages/received"
    broker = Broker(tmp_path)
    items = [said(BEGIN + 1, received, count=90, retained=True), said(BEGIN + 2, received, count=100)]
    items += [said(BEGIN + 3 + n, "line/1") for n in range(7)] + [said(BEGIN + 20, "old", retained=True)]
    broker.says(*broker.in_(BEGIN), *items, said(BEGIN + 30, received, count=110))
    counted = broker.feed.counters()
    assert (counted["mqtt_broker_messages"], counted["mqtt_broker_retained"], counted["mqtt_broker_hidden"]) == (7, 1, 3)


def test_a_broker_that_counts_anew_hides_nothing(tmp_path: Path) -> None:
    received = "$SYS/broker/publish/messages/received"
    broker = Broker(tmp_path)
    broker.says(*broker.in_(BEGIN), *(said(BEGIN + n, received, count=count) for n, count in enumerate((100, 100, 5, 5))))
    assert broker.feed.counters()["mqtt_broker_hidden"] == 0


def test_what_was_not_heard_between_two_connections_is_a_loss(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    lines = broker.says(*broker.in_(BEGIN), said(BEGIN + NS, "a"), Gone(BEGIN + 9 * NS))
    assert not broker.feed.lives
    assert losses(lines) == []
    lines = broker.says(*broker.in_(BEGIN + 20 * NS, 50_002))
    assert losses(lines) == [("2026-04-07T10:42:09Z", "2026-04-07T10:42:28Z")]
    assert broker.feed.lives


def test_a_killed_collector_says_how_long_nobody_heard_and_doubles_nothing(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    lines = broker.says(*broker.in_(BEGIN), said(BEGIN + NS, "a"))
    # Killed: what comes now is heard by nobody.
    broker.feed._heard.stopping.set()
    again = Broker(tmp_path)
    lines += again.says(*again.in_(BEGIN + 60 * NS, 50_002), said(BEGIN + 61 * NS, "a"))
    lines += again.stops()
    assert sum(flow.messages for flow in flows(lines)) == 2
    assert len({flow.event_id for flow in flows(lines)}) == len(flows(lines))
    assert losses(lines) == [("2026-04-07T10:42:09Z", "2026-04-07T10:43:08Z")]


def listing(clients: dict[str, list[str]], roles: Sequence[str] = ("reader", "writer"), acl: str = "line/#") -> dict[str, Any]:
    """As the plugin of Mosquitto 2.0.11 answers."""
    many = {
        "listClients": ("clients", [{"username": name, "roles": [{"rolename": role} for role in has]} for name, has in clients.items()]),
        "listGroups": ("groups", [{"groupname": "line", "roles": []}]),
        "listRoles": (
            "roles",
            [{"rolename": role, "acls": [{"acltype": "subscribePattern", "topic": acl, "allow": True}]} for role in roles],
        ),
    }
    return {"responses": [{"command": command, "data": {"totalCount": 1, what: found}} for command, (what, found) in many.items()]}


def heard(said_: dict[str, Any], time_ns: int) -> Listed:
    found = listed(said_)
    assert found is not None
    return Listed(time_ns, found)


def test_changes_of_accounts_are_told_in_the_words_of_the_contract(tmp_path: Path) -> None:
    before = listed(listing({"press": ["writer"], "old": []}))
    now = listed(listing({"press": ["reader"], "intruder": ["writer"]}, acl="#"))
    assert before is not None
    assert now is not None
    assert changes(before, now) == [
        ("account:intruder", ["create", "grant:writer"]),
        ("account:old", ["drop"]),
        ("account:press", ["grant:reader", "revoke:writer"]),
        ("role:reader", ["alter"]),
        ("role:writer", ["alter"]),
    ]
    assert changes(now, now) == []


def test_a_changed_listing_is_an_admin_of_nobody_at_the_broker_also_across_a_kill(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    assert [flow.operation for flow in flows(broker.says(*broker.in_(BEGIN), heard(listing({"press": []}), BEGIN)))] == [
        "connect",
        "subscribe",
    ]
    lines = broker.says(heard(listing({"press": [], "intruder": ["writer"]}), BEGIN + NS))
    (admin,) = [flow for flow in flows(lines) if flow.operation == "admin"]
    assert [(part.names, part.columns) for part in admin.objects] == [(["account:intruder"], ["create", "grant:writer"])]
    assert (admin.account, admin.source.address, admin.destination.address) == (None, "10.10.5.3", "10.10.5.3")
    # Killed before it could know that the change was handed over: the same event again.
    state = json.loads((tmp_path / "place").read_text())
    state["changes"] = [[BEGIN + NS, "10.10.5.3", [["account:intruder", ["create", "grant:writer"]]]]]
    (tmp_path / "place").write_text(json.dumps(state))
    again = Broker(tmp_path)
    assert admin.event_id in {flow.event_id for flow in flows(again.says())}
    lines = again.says(*again.in_(BEGIN + 5 * NS), heard(listing({"press": [], "intruder": ["writer"]}), BEGIN + 6 * NS))
    assert "admin" not in {flow.operation for flow in flows(lines)}


@pytest.mark.parametrize(
    "payload", [b"", b"[]", b"{}", b'{"responses": 7}', b'{"responses": [{"command": "listClients"}]}', b"[" * 50_000, b"\xff"]
)
def test_a_listing_that_cannot_be_read_is_counted_and_not_fatal(tmp_path: Path, payload: bytes) -> None:
    feed = Broker(tmp_path).feed
    feed._hear(f"{CONTROL}/response", payload, False)
    assert feed.unreadable == (0 if payload == b'{"responses": [{"command": "listClients"}]}' else 1)


def test_a_payload_is_kept_nowhere(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    broker.feed._hear("line/1", SECRET.encode(), False)
    lines = broker.says(*broker.in_(BEGIN), Message(BEGIN, "line/1", len(SECRET), False))
    assert SECRET not in repr(broker.feed._heard.take(9)) + b"".join(lines).decode() + (tmp_path / "place").read_text()


def test_hearing_waits_while_nobody_takes_and_ends_with_whoever_asked() -> None:
    heard_: Heard[int] = Heard()
    for one in range(HEARD_MAX):
        heard_.put(one)
    heard_.stopping.set()
    heard_.put(HEARD_MAX)
    assert heard_.take(HEARD_MAX + 9) == list(range(HEARD_MAX))


def test_attempts_come_slower_up_to_a_minute() -> None:
    assert [backoff(attempt) for attempt in (0, 1, 2, 5, 6, 10_000)] == [1.0, 2.0, 4.0, 32.0, 60.0, 60.0]


def told(options: str) -> Told:
    return Told.of(f"mqtt-broker:broker=mqtts://10.10.5.3:8883?{options}", "agent")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mqtt-broker:b=10.10.5.3:1883", "expected mqtts://HOST:PORT"),
        ("mqtt-broker:b=mqtts://u:p@10.10.5.3", "expected mqtts://HOST:PORT"),
        ("mqtt-broker:b=mqtts://h?qos=2", "unknown option 'qos'"),
        ("mqtt-broker:b=mqtts://h?dynsec=1", "dynsec=1, expected 10 to 86400"),
        ("mqtt-broker:b=mqtts://h?ca=/nowhere", "ca, cert or key: No such file"),
        ("mqtt-broker:b=mqtts://h?filter=,", "0 filters, expected 1 to 64"),
    ],
)
def test_what_cannot_be_dialled_is_refused_in_one_line(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(FeedError, match=expected):
        MqttBroker.of(Told.of(text, "agent"), "north", tmp_path / "place")


def test_a_password_stays_in_a_file_that_few_may_read_and_off_a_wire_that_all_may(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text(f"{SECRET}\n")
    path.chmod(0o604)
    with pytest.raises(FeedError, match="anyone may read it") as error:
        secret(told(f"password_file={path}"), "password_file")
    assert SECRET not in str(error.value)
    path.chmod(0o640)
    assert secret(told(f"password_file={path}"), "password_file") == SECRET
    with pytest.raises(FeedError, match="can be read by anyone"):
        MqttBroker.of(Told.of(f"mqtt-broker:b=mqtt://10.10.5.3?user=u&password_file={path}", "a"), "north", tmp_path / "place")
    path.write_text("")
    with pytest.raises(FeedError, match="expected one line"):
        secret(told(f"password_file={path}"), "password_file")


def test_a_broker_is_not_read_again(tmp_path: Path) -> None:
    with pytest.raises(FeedError, match="use -i"):
        next(Broker(tmp_path).feed.batches(lambda: True, follow=False))


def test_a_number_that_is_none_is_refused() -> None:
    assert number(told("version=4"), "version", 5, 3, 5) == 4
    never: Callable[[], int] = lambda: number(told("version=x"), "version", 5, 3, 5)  # noqa: E731
    with pytest.raises(FeedError, match="version=x, expected 3 to 5"):
        never()
