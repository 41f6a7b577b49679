"""What tests need of a real broker beside the product's own door: topics, accounts' rights, and what a topic holds."""

from collections.abc import Iterable, Mapping

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)

from examples.broker import Cluster
from hopwatch.bus.connection import Connection
from hopwatch.bus.topics import TOPICS, topic_name

WAIT_S = 30.0


def admin(broker: Cluster) -> AdminClient:
    """Who comes in the clear may do everything."""
    return AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0})


def make_topics(broker: Cluster, prefix: str, kinds: Iterable[str] = tuple(TOPICS), partitions: int = 2) -> None:
    """The topics of these kinds, as the product wants them but for the number of partitions."""
    copies = min(3, len(broker.nodes))
    wanted = [
        NewTopic(topic_name(kind, prefix), min(partitions, TOPICS[kind].partitions), copies, config=TOPICS[kind].config()) for kind in kinds
    ]
    client = admin(broker)  # Its end ends what it was asked.
    for made in client.create_topics(wanted, operation_timeout=WAIT_S).values():
        made.result(WAIT_S)


def allow(broker: Cluster, account: str, operation: AclOperation, prefix: str, kind: ResourceType = ResourceType.TOPIC) -> None:
    """Let the account do this to everything whose name begins so."""
    right = AclBinding(kind, prefix, ResourcePatternType.PREFIXED, f"User:{account}", "*", operation, AclPermissionType.ALLOW)
    client = admin(broker)
    for made in client.create_acls([right]).values():
        made.result(WAIT_S)


def clear(broker: Cluster, prefix: str = "") -> Connection:
    """How the product reaches the broker in the clear."""
    return Connection(bootstrap_servers=broker.bootstrap, topic_prefix=prefix)


def held(broker: Cluster, topic: str) -> list[tuple[bytes, bytes, Mapping[str, bytes]]]:
    """Every message of the topic, key, value and headers, partition by partition."""
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "tests", "enable.auto.commit": False, "log_level": 0})
    found = []
    try:
        for number in consumer.list_topics(topic, timeout=WAIT_S).topics[topic].partitions:
            _, end = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=WAIT_S)
            consumer.assign([TopicPartition(topic, number, 0)])
            while end and consumer.position([TopicPartition(topic, number)])[0].offset < end:
                for message in consumer.consume(1_000, 1.0):
                    assert message.error() is None, message.error()
                    said = {name: value if isinstance(value, bytes) else b"" for name, value in message.headers() or []}
                    found.append((message.key() or b"", message.value() or b"", said))
    finally:
        consumer.close()
    return found
