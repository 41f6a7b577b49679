"""What a cluster has of our topics, and what is missing: created, or named setting by setting; and who may do what with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # It exports them unsaid.
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ConfigResource,
    NewTopic,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from hopwatch.bus.connection import BrokerError, Connection
from hopwatch.bus.rights import Right
from hopwatch.bus.topics import TOGETHER, TOPICS, Topic, topic_name

TIMEOUT_S = 5.0
REPLICATION = 3
PARTITIONS_MAX = 1_024
SCRAM_ITERATIONS = 4_096  # The least RFC 7677 allows and what Kafka takes by default; the secrets are random, so more would guard nothing.


@dataclass(frozen=True, slots=True)
class Wanted:
    """One topic as it should be."""

    name: str
    topic: Topic
    partitions: int
    replication: int

    def settings(self) -> dict[str, str]:
        """Everything that is compared."""
        return {"partitions": str(self.partitions), "replication": str(self.replication), **self.topic.config(self.replication)}


@dataclass(frozen=True, slots=True)
class Difference:
    """One setting of one topic that is not as it should be; ``actual`` is None if the topic is not there."""

    topic: str
    setting: str
    wanted: str
    actual: str | None


class Cluster:
    """The cluster as its administrator sees it."""

    def __init__(self, connection: Connection, *, timeout_s: float = TIMEOUT_S) -> None:
        """Ready to ask.

        Raises:
            BrokerError: a setting is wrong or a file it names cannot be read.
        """
        self._connection, self._timeout_s = connection, timeout_s
        self._trouble: str | None = None
        settings: dict[str, Any] = {
            **connection.client(),
            "client.id": "hopwatch/admin",
            "log_level": 0,
            "error_cb": self._erred,
        }  # Any: a callback.
        try:
            self._client = AdminClient(settings)
        except KafkaException as error:
            raise BrokerError(f"kafka: {error.args[0].str()}") from None

    def wanted(self, *, partitions: int | None = None, replication: int | None = None) -> list[Wanted]:
        """Our topics for this cluster: ``partitions`` for those that detectors share, three copies where there are three brokers.

        Raises:
            BrokerError: the cluster cannot be reached, or has fewer brokers than ``replication``.
        """
        brokers = len(self._metadata().brokers)
        if replication is not None and replication > brokers:
            raise BrokerError(f"replication {replication}: the cluster has {brokers} broker{'s' * (brokers != 1)}")
        copies = replication or min(REPLICATION, brokers)
        return [
            Wanted(
                topic_name(kind, self._connection.topic_prefix),
                topic,
                partitions if partitions and kind in TOGETHER else topic.partitions,
                copies,
            )
            for kind, topic in TOPICS.items()
        ]

    def create(self, wanted: list[Wanted]) -> list[str]:
        """Create the topics that are not there and leave the others alone; returns the names of the new ones.

        Raises:
            BrokerError: the cluster cannot be reached or refuses one of them.
        """
        new = [NewTopic(one.name, one.partitions, one.replication, config=one.topic.config(one.replication)) for one in wanted]
        created = []
        for name, future in self._client.create_topics(new, operation_timeout=self._timeout_s, request_timeout=self._timeout_s).items():
            try:
                future.result()
                created.append(name)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise BrokerError(f"{name}: {self._said(error)}") from None
        return created

    def grant(self, account: str, rights: list[Right]) -> None:
        """Let the account do this; what it may do already, it still may.

        Raises:
            BrokerError: the cluster cannot be reached or refuses.
        """
        kinds = {"topic": ResourceType.TOPIC, "group": ResourceType.GROUP}
        operations = {"read": AclOperation.READ, "write": AclOperation.WRITE, "describe": AclOperation.DESCRIBE}
        bindings = [
            AclBinding(
                kinds[right.resource],
                right.name,
                ResourcePatternType.LITERAL,
                f"User:{account}",
                "*",
                operations[right.operation],
                AclPermissionType.ALLOW,
            )
            for right in rights
        ]
        for future in self._client.create_acls(bindings, request_timeout=self._timeout_s).values():
            self._asked(future.result)

    def set_password(self, account: str, password: str) -> None:
        """Make the account of SCRAM-SHA-512 (RFC 7677), or give it another password.

        Raises:
            BrokerError: the cluster cannot be reached or refuses.
        """
        how = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, SCRAM_ITERATIONS)
        wanted = UserScramCredentialUpsertion(account, how, password.encode())
        for future in self._client.alter_user_scram_credentials([wanted], request_timeout=self._timeout_s).values():
            self._asked(future.result)

    def differences(self, wanted: list[Wanted]) -> list[Difference]:
        """Every setting that is not as it should be, topic by topic.

        Raises:
            BrokerError: the cluster cannot be reached or refuses to tell.
        """
        there = self._metadata().topics
        present = [one for one in wanted if one.name in there]
        configs: dict[str, dict[str, str]] = {}
        if present:
            resources = [ConfigResource(ConfigResource.Type.TOPIC, one.name) for one in present]
            for resource, future in self._client.describe_configs(resources, request_timeout=self._timeout_s).items():
                configs[resource.name] = {name: entry.value for name, entry in self._asked(future.result).items()}
        found = []
        for one in wanted:
            if one.name not in there:
                found.append(Difference(one.name, "topic", "exists", None))
                continue
            about = there[one.name].partitions
            actual = {
                **configs[one.name],
                "partitions": str(len(about)),
                "replication": str(min((len(partition.replicas) for partition in about.values()), default=0)),
            }
            found += [
                Difference(one.name, setting, value, actual.get(setting, "unknown"))
                for setting, value in one.settings().items()
                if actual.get(setting) != value
            ]
        return found

    def _metadata(self) -> Any:  # Any: the stub knows no type of it.
        return self._asked(lambda: self._client.list_topics(timeout=self._timeout_s))

    def _asked(self, ask: Callable[[], Any]) -> Any:  # Any: what the client answers.
        try:
            return ask()
        except KafkaException as error:
            raise BrokerError(f"{self._connection.bootstrap_servers}: {self._said(error)}") from None

    def _said(self, error: KafkaException) -> str:
        """The error, and what the client said before it: a refused certificate is told only there."""
        said: str = error.args[0].str()
        return f"{said}: {self._trouble}" if self._trouble else said

    def _erred(self, error: KafkaError) -> None:
        if error.code() != KafkaError._ALL_BROKERS_DOWN:
            self._trouble = error.str()
