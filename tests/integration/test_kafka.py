"""The door to Kafka, at a real broker: what is acknowledged is there, once and in order, whatever the broker does meanwhile."""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from examples.broker import Cluster as Broker
from examples.broker import kafka
from hopwatch.bus.admin import Cluster
from hopwatch.bus.connection import BrokerError, Connection
from hopwatch.bus.kafka import Gap, Partition, Publisher, Reader, Received, Reports, Subscriber
from hopwatch.bus.topics import MESSAGE_BYTES_MAX, TOGETHER
from hopwatch.cli import main

PATIENCE_S = 30.0


@pytest.fixture
def connection(broker: Broker, prefix: str) -> Connection:
    """Topics of this test alone."""
    there = Connection(bootstrap_servers=broker.bootstrap, topic_prefix=prefix)
    cluster = Cluster(there)
    cluster.create(cluster.wanted(partitions=4))
    return there


@pytest.fixture
def publisher(connection: Connection) -> Iterator[Publisher[int]]:
    made: Publisher[int] = Publisher(connection, speaker="agents/test", silent_s=1.0)
    yield made
    made.close(1.0)


def line(number: int, size: int = 100) -> bytes:
    return json.dumps({"kind": "flow", "event_id": f"{number:032x}", "end": "2026-04-07T10:42:08Z", "pad": "x" * size}).encode()


def send(publisher: Publisher[int], first: int, count: int, plant: str = "north", *, size: int = 100) -> Reports[int]:
    """Send so many events, wait for room, and tell what was reported meanwhile."""
    total: Reports[int] = Reports()
    for number in range(first, first + count):
        while not publisher.send("flow", plant, f"{number:032x}", line(number, size), number):
            add(total, publisher.poll(0.1))
    return total


def add(total: Reports[int], more: Reports[int]) -> None:
    total.acknowledged += more.acknowledged
    total.failed += more.failed
    total.stalls += more.stalls


def reported(publisher: Publisher[int], count: int, total: Reports[int] | None = None) -> Reports[int]:
    """Wait until so many events are reported, one way or the other."""
    total = total or Reports()
    until = time.monotonic() + PATIENCE_S
    while len(total.acknowledged) + len(total.failed) < count:
        assert time.monotonic() < until, (len(total.acknowledged), total.failed[:3], publisher.counters(), publisher.trouble)
        add(total, publisher.poll(0.1))
    return total


def everything(connection: Connection, kind: str = "flow") -> list[Received]:
    """All of a topic."""
    found: list[Received] = []
    until = time.monotonic() + PATIENCE_S
    with closing(Reader(connection, kind)) as reader:
        while not reader.caught_up:
            assert time.monotonic() < until, reader.trouble
            found += reader.poll(0.2)
    return found


def numbers(messages: list[Received]) -> list[int]:
    return [int(message.headers()["ce_id"], 16) for message in messages]


def once(values: list[int]) -> list[int]:
    return list(dict.fromkeys(values))


def processor_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


# Publishing


def test_acknowledged_events_are_there_once_in_the_order_of_their_key(connection: Connection) -> None:
    # As patient as it is in use: what is taken back from a broker that is merely slow comes twice.
    publisher: Publisher[int] = Publisher(connection, speaker="agents/test")
    total = send(publisher, 0, 500, "north")
    add(total, send(publisher, 500, 500, "south"))
    reported(publisher, 1_000, total)
    assert sorted(total.acknowledged) == list(range(1_000))
    assert not total.failed
    found = everything(connection)
    for plant, expected in (("north", range(500)), ("south", range(500, 1_000))):
        assert numbers([message for message in found if message.key == plant.encode()]) == list(expected)
        assert len({message.partition for message in found if message.key == plant.encode()}) == 1
    assert found[0].value == line(numbers(found[:1])[0])
    assert found[0].headers()["ce_type"] == b"hopwatch.flow.v1"
    assert publisher.counters()["in_flight"] == publisher.counters()["in_flight_bytes"] == 0
    publisher.close()


def test_flows_losses_and_heartbeats_of_a_plant_have_one_partition_number(connection: Connection) -> None:
    publisher: Publisher[int] = Publisher(connection, speaker="agents/test")
    plants = [f"plant-{number}" for number in range(8)]
    for kind in TOGETHER:
        for plant in plants:
            assert publisher.send(kind, plant, "1", b"{}", 0)
    reported(publisher, len(plants) * len(TOGETHER))
    publisher.close()
    found = [message for kind in TOGETHER for message in everything(connection, kind)]
    where = {plant: {message.partition.number for message in found if message.key == plant.encode()} for plant in plants}
    assert all(len(one) == 1 for one in where.values()), where
    assert len(set.union(*where.values())) > 1


FLOW = b'{"source":{"address":"10.0.0.1","port":1},"destination":{"address":"10.0.0.2","port":2}}'


def test_a_split_plant_sends_its_losses_to_every_shard_and_tells_the_token_once(connection: Connection) -> None:
    publisher: Publisher[int] = Publisher(connection, speaker="agents/test", shards=3)
    assert publisher.send("loss", "north", "1", b"{}", 7)
    assert publisher.send("flow", "north", "2", FLOW, 8)
    assert sorted(reported(publisher, 2).acknowledged) == [7, 8]
    publisher.close()
    assert sorted(message.key for message in everything(connection, "loss")) == [b"north/0", b"north/1", b"north/2"]


def test_what_is_in_flight_is_bounded_by_messages_and_by_bytes(connection: Connection, broker: Broker) -> None:
    by_messages: Publisher[int] = Publisher(connection, speaker="agents/test", messages_max=10)
    by_bytes: Publisher[int] = Publisher(connection, speaker="agents/test", bytes_max=10_000)
    broker.pause(1)
    try:
        assert [by_messages.send("flow", "north", "1", b"{}", number) for number in range(12)] == [True] * 10 + [False] * 2
        assert [by_bytes.send("flow", "north", "1", b"x" * 4_000, number) for number in range(4)] == [True, True, False, False]
        assert by_messages.counters()["refused"] == by_bytes.counters()["refused"] == 2
        assert by_bytes.counters()["in_flight_bytes"] == 8_000
    finally:
        broker.resume(1)
    assert reported(by_messages, 10).acknowledged == list(range(10))
    assert by_messages.send("flow", "north", "1", b"{}", 10)
    by_messages.close()
    by_bytes.close()


def test_an_event_no_broker_takes_fails_for_good_and_the_others_go_on(publisher: Publisher[int]) -> None:
    assert publisher.send("flow", "north", "1", b"x" * (MESSAGE_BYTES_MAX + 1), 1)
    assert publisher.send("flow", "north", "2", b"{}", 2)
    told = reported(publisher, 2)
    assert told.acknowledged == [2]
    assert [(failure.token, failure.lasting) for failure in told.failed] == [(1, True)]
    assert "xxx" not in told.failed[0].reason


def test_killed_broker_loses_nothing_and_order_holds(connection: Connection, broker: Broker, publisher: Publisher[int]) -> None:
    total = send(publisher, 0, 300)
    broker.kill(1)
    try:
        add(total, send(publisher, 300, 300))
        assert publisher.poll(0.2).failed == []
    finally:
        broker.start(1)
    reported(publisher, 600, total)
    assert not total.failed
    assert once(numbers(everything(connection))) == sorted(total.acknowledged) == list(range(600))


def test_silent_broker_costs_no_processor_and_loses_nothing(connection: Connection, broker: Broker, publisher: Publisher[int]) -> None:
    total = reported(publisher, 1, send(publisher, 0, 1))
    broker.pause(1)
    try:
        add(total, send(publisher, 1, 3_000, size=2_000))
        until = time.monotonic() + PATIENCE_S
        # On a busy machine something may have been withdrawn before the broker fell silent.
        while not (publisher.away and publisher.counters()["withdrawn"]) and time.monotonic() < until:
            add(total, publisher.poll(0.1))
        assert publisher.away
        add(total, publisher.poll(1.0))
        before, quiet_s = processor_s(), 2.0
        until = time.monotonic() + quiet_s
        while time.monotonic() < until:
            add(total, publisher.poll(0.2))
        assert (processor_s() - before) / quiet_s < 0.2
        assert publisher.counters()["held"] == 2_999
    finally:
        broker.resume(1)
    reported(publisher, 3_001, total)
    assert not publisher.away
    assert not total.failed
    assert once(numbers(everything(connection))) == sorted(total.acknowledged) == list(range(3_001))


def test_a_partition_that_waits_while_others_are_answered_is_a_stall(connection: Connection) -> None:
    """What is not there does not answer either: one topic is missing, and the client waits for it to appear."""
    publisher: Publisher[int] = Publisher(connection, speaker="agents/test", stall_s=0.5, silent_s=60.0)
    elsewhere = Connection(**{**connection.model_dump(), "topic_prefix": f"{connection.topic_prefix}none."})
    publisher._connection = elsewhere
    assert publisher.send("finding", "north", "1", b"{}", 1)
    publisher._connection = connection
    until, found = time.monotonic() + PATIENCE_S, Reports[int]()
    while not found.stalls and time.monotonic() < until:
        assert publisher.send("flow", "north", "2", b"{}", 2)
        add(found, publisher.poll(0.1))
    assert [(stall.key, stall.waiting) for stall in found.stalls] == [("north", 1)]
    assert found.stalls[0].topic == f"{elsewhere.topic_prefix}hopwatch.finding.v1"
    assert not publisher.away
    publisher.close(0.1)


@pytest.mark.long
def test_one_silent_broker_of_two_holds_up_its_own_keys_only(tmp_path: Path) -> None:
    """Each partition has one copy, and the quorum is gone with the broker: nothing moves elsewhere."""
    with kafka(tmp_path / "cluster", brokers=2) as cluster:
        there = Connection(bootstrap_servers=cluster.bootstrap)
        administrator = Cluster(there)
        administrator.create(administrator.wanted(partitions=2, replication=1))
        until = time.monotonic() + PATIENCE_S
        while administrator.differences(administrator.wanted(partitions=2, replication=1)):
            assert time.monotonic() < until, "the brokers tell one another what topics there are"
        leaders = administrator._metadata().topics["hopwatch.flow.v1"].partitions
        # A new client is numbered by any broker, out of a block that the quorum gave it: each has one while there is a quorum.
        for number in range(8):
            early: Publisher[int] = Publisher(there, speaker="agents/early")
            reported(early, 1, send(early, number, 1, "early"))
            early.close()
        publisher: Publisher[int] = Publisher(there, speaker="agents/test", silent_s=1.0, stall_s=2.0)
        plants = [f"plant-{number}" for number in range(8)]
        total = Reports[int]()
        for number, plant in enumerate(plants):
            add(total, send(publisher, number, 1, plant))
        reported(publisher, len(plants), total)
        where = {
            plant: leaders[lane.partition].leader for plant in plants for lane in [publisher._lanes["hopwatch.flow.v1", plant.encode()]]
        }
        lost, well = (next(plant for plant in plants if where[plant] == number) for number in (2, 1))
        cluster.pause(2)
        try:
            stalls, until = [], time.monotonic() + PATIENCE_S
            add(total, send(publisher, 100, 2_000, lost, size=2_000))
            number = 10_000
            while not stalls:
                assert time.monotonic() < until
                add(total, send(publisher, number, 1, well))
                number += 1
                told = publisher.poll(0.1)
                stalls += told.stalls
                add(total, told)
            assert {(stall.key, stall.partition) for stall in stalls} == {
                (lost, publisher._lanes["hopwatch.flow.v1", lost.encode()].partition)
            }
            # The new client may ask the silent broker first; who sends nothing that is answered is away.
            while publisher.away or not publisher.counters()["held"]:
                assert time.monotonic() < until
                add(total, send(publisher, number, 1, well))
                number += 1
                add(total, publisher.poll(0.1))
            before, quiet_s = processor_s(), 3.0
            until = time.monotonic() + quiet_s
            while time.monotonic() < until:
                add(total, send(publisher, number, 1, well))
                number += 1
                add(total, publisher.poll(0.1))
            assert (processor_s() - before) / quiet_s < 0.3
            assert number - 10_000 - len([token for token in total.acknowledged if token >= 10_000]) < 10
            assert publisher.counters()["held"] == 1_999
        finally:
            cluster.resume(2)
        reported(publisher, len(plants) + 2_000 + number - 10_000, total)
        publisher.close()
        found = everything(there)
        for plant, expected in ((lost, range(100, 2_100)), (well, range(10_000, number))):
            mine = [message for message in found if message.key == plant.encode()]
            assert [each for each in once(numbers(mine)) if each >= 100] == list(expected)


# Reading

BOTH = pytest.mark.parametrize("protocol", ["consumer", "classic"])
"""That of Kafka 4 (KIP-848), and that of the brokers before it."""


class Member:
    """A subscriber and what it was told."""

    def __init__(self, connection: Connection, group: str, offsets: Mapping[int, int] | None = None) -> None:
        self.told: list[tuple[str, int]] = []
        self.lost: list[bool] = []
        self.found: list[Received] = []
        self.offsets = offsets or {}
        self.subscriber = Subscriber(connection, group=group, kinds=TOGETHER, on_assigned=self.assigned, on_revoked=self.revoked)

    def assigned(self, partitions: list[Partition]) -> dict[Partition, int]:
        self.told.append(("assigned", len(partitions)))
        return {one: self.offsets[one.number] for one in partitions if one.number in self.offsets and one.topic.endswith("flow.v1")}

    def revoked(self, partitions: list[Partition], lost: bool) -> None:
        self.told.append(("revoked", len(partitions)))
        self.lost.append(lost)

    def poll(self) -> None:
        self.found += self.subscriber.poll(0.1)


def wait(members: list[Member], done: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < until, [(one.told, one.subscriber.counters(), one.subscriber.trouble) for one in members]
        for one in members:
            one.poll()


@BOTH
def test_reading_begins_at_the_callers_offset_not_at_the_committed_one(
    connection: Connection, publisher: Publisher[int], prefix: str, protocol: str
) -> None:
    reported(publisher, 50, send(publisher, 0, 50))
    connection = connection.model_copy(update={"group_protocol": protocol})
    first = Member(connection, prefix)
    wait([first], lambda: len(first.found) == 50)
    place = first.found[0].partition
    first.subscriber.commit({place: 50})
    assert first.subscriber.lag()[place] == 0
    first.subscriber.close()
    again = Member(connection, prefix, {place.number: 20})
    wait([again], lambda: len(again.found) >= 30)
    assert [message.offset for message in again.found] == list(range(20, 50))
    again.subscriber.close()


def test_members_share_partitions_so_that_a_plant_stays_together(connection: Connection, prefix: str) -> None:
    one = Member(connection, prefix)
    wait([one], lambda: len(one.subscriber.assigned()) == 12)
    two = Member(connection, prefix)
    wait([one, two], lambda: len(one.subscriber.assigned()) == len(two.subscriber.assigned()) == 6)
    mine, other = ({partition.number for partition in member.subscriber.assigned()} for member in (one, two))
    assert mine.isdisjoint(other)
    assert mine | other == {0, 1, 2, 3}
    two.subscriber.close()
    wait([one], lambda: len(one.subscriber.assigned()) == 12)
    assert two.told[-1] == ("revoked", 6)
    assert not any(one.lost)
    one.subscriber.close()
    one.subscriber.close()


@BOTH
def test_an_offset_that_was_deleted_is_a_gap_with_its_size(
    connection: Connection, publisher: Publisher[int], prefix: str, protocol: str
) -> None:
    reported(publisher, 30, send(publisher, 0, 30))
    place = everything(connection)[0].partition
    delete_before(connection, place, 12)
    connection = connection.model_copy(update={"group_protocol": protocol})
    member = Member(connection, prefix, {place.number: 5})
    wait([member], lambda: len(member.found) == 18)
    assert Gap(place, 5, 12) in member.subscriber.gaps()
    assert member.subscriber.counters()["lost"] == 7
    assert member.subscriber.gaps() == []
    member.subscriber.close()


def delete_before(connection: Connection, place: Partition, offset: int) -> None:
    from confluent_kafka import TopicPartition

    client = Cluster(connection)._client
    for future in client.delete_records([TopicPartition(*place, offset)]).values():
        future.result()


def test_a_message_is_read_when_it_comes_not_when_the_wait_is_over(connection: Connection, publisher: Publisher[int], prefix: str) -> None:
    member = Member(connection, prefix)
    wait([member], lambda: len(member.subscriber.assigned()) == 12)
    reported(publisher, 1, send(publisher, 0, 1))
    before = time.monotonic()
    assert len(member.subscriber.poll(PATIENCE_S)) == 1
    assert time.monotonic() - before < PATIENCE_S / 2
    member.subscriber.close()


def test_paused_partitions_give_nothing_until_resumed(connection: Connection, publisher: Publisher[int], prefix: str) -> None:
    member = Member(connection, prefix)
    wait([member], lambda: len(member.subscriber.assigned()) == 12)
    member.subscriber.pause(member.subscriber.assigned())
    reported(publisher, 5, send(publisher, 0, 5))
    assert member.subscriber.poll(1.0) == []
    member.subscriber.resume(member.subscriber.assigned())
    wait([member], lambda: len(member.found) == 5)
    place = member.found[0].partition
    member.subscriber.seek(place, 3)
    wait([member], lambda: len(member.found) == 7)
    assert numbers(member.found[5:]) == [3, 4]
    member.subscriber.close()


UNCLOSED = """
import sys
from hopwatch.bus.connection import Connection
from hopwatch.bus.kafka import Subscriber
where = Connection(bootstrap_servers=sys.argv[1], topic_prefix=sys.argv[2])
revoked = lambda partitions, lost: print("revoked")
member = lambda: Subscriber(where, group=sys.argv[2], kinds=["flow"], on_assigned=lambda partitions: {}, on_revoked=revoked)
one = member()
while len(one.assigned()) != 4:
    one.poll(0.1)
two = member()
while len(one.assigned()) != 2:
    one.poll(0.1)
raise SystemExit(3)
"""


def test_a_process_that_ends_without_closing_ends(connection: Connection, prefix: str) -> None:
    command = [sys.executable, "-c", UNCLOSED, connection.bootstrap_servers, prefix]
    ended = subprocess.run(command, check=False, capture_output=True, timeout=PATIENCE_S)
    # What is printed is the partitions handed to the second member; at the end nobody is asked.
    assert (ended.returncode, ended.stdout) == (3, b"revoked\n")


def test_failing_lookup_of_offsets_leaves_the_poll_and_nothing_is_read(
    connection: Connection, publisher: Publisher[int], prefix: str
) -> None:
    reported(publisher, 5, send(publisher, 0, 5))

    def fail(partitions: list[Partition]) -> dict[Partition, int]:
        raise ValueError("the database is away")

    subscriber = Subscriber(connection, group=prefix, kinds=TOGETHER, on_assigned=fail, on_revoked=lambda partitions, lost: None)
    found: list[Received] = []
    with pytest.raises(ValueError, match="the database is away"):
        while True:
            found += subscriber.poll(0.2)
    assert found + subscriber.poll(1.0) == []
    subscriber.close()


def test_absent_broker_is_no_exception(prefix: str) -> None:
    nowhere = Connection(bootstrap_servers="127.0.0.1:1", topic_prefix=prefix)
    member = Member(nowhere, prefix)
    publisher: Publisher[int] = Publisher(nowhere, speaker="agents/test")
    reader = Reader(nowhere, "declared")
    assert publisher.send("flow", "north", "1", b"{}", 1)
    assert (member.subscriber.poll(0.5), publisher.poll(0.2).failed, reader.poll(0.2)) == ([], [], [])
    assert publisher.trouble is not None
    member.subscriber.close()
    publisher.close(0.1)
    reader.close()


def test_a_rejected_message_keeps_its_bytes_and_says_where_it_was(connection: Connection, publisher: Publisher[int]) -> None:
    assert publisher.send("flow", "north", "1", b"\xff not json", 1)
    reported(publisher, 1)
    bad = everything(connection)[0]
    assert publisher.reject(bad, "line: json_invalid\nat column 1", 2)
    reported(publisher, 1)
    [kept] = everything(connection, "rejected")
    assert (kept.key, kept.value) == (b"north", b"\xff not json")
    said = kept.headers()
    assert said["ce_reason"] == b"line: json_invalid at column 1"
    assert (said["ce_fromtopic"].decode(), said["ce_frompartition"], said["ce_fromoffset"]) == (
        bad.partition.topic,
        b"%d" % bad.partition.number,
        b"0",
    )


# Topics


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(["topics", *arguments])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_topics_are_created_once_and_checked_setting_by_setting(broker: Broker, prefix: str, capsys: pytest.CaptureFixture[str]) -> None:
    where = ("--bootstrap-servers", broker.bootstrap, "--topic-prefix", prefix)
    status, out, _ = run(capsys, "check", *where)
    assert (status, out.count("not there")) == (1, 8)
    status, out, _ = run(capsys, "create", *where, "--partitions", "2")
    assert (status, out.count("created ")) == (0, 8)
    assert run(capsys, "create", *where, "--partitions", "2")[1].count("exists ") == 8
    assert run(capsys, "check", *where, "--partitions", "2")[0] == 0
    status, out, _ = run(capsys, "check", *where, "--json")
    differences: list[dict[str, Any]] = [json.loads(text) for text in out.splitlines()]
    assert status == 1
    assert {(one["topic"], one["setting"], one["wanted"], one["actual"]) for one in differences} == {
        (f"{prefix}hopwatch.{kind}.v1", "partitions", "12", "2") for kind in TOGETHER
    }
    change(broker, f"{prefix}hopwatch.declared.v1", "cleanup.policy", "delete")
    assert f"{prefix}hopwatch.declared.v1: cleanup.policy is delete, expected compact" in run(capsys, "check", *where)[1]


def change(broker: Broker, topic: str, setting: str, value: str) -> None:
    from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource  # type: ignore[attr-defined]

    resource_ = ConfigResource(
        ConfigResource.Type.TOPIC, topic, incremental_configs=[ConfigEntry(setting, value, incremental_operation=AlterConfigOpType.SET)]
    )
    client = AdminClient({"bootstrap.servers": broker.bootstrap})
    for future in client.incremental_alter_configs([resource_]).values():
        future.result()


def test_topics_of_an_absent_cluster_end_with_2_and_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "check", "--bootstrap-servers", "127.0.0.1:1")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "127.0.0.1:1" in err


def test_more_copies_than_brokers_are_refused(connection: Connection) -> None:
    with pytest.raises(BrokerError, match="the cluster has 1 broker"):
        Cluster(connection).wanted(replication=3)
