"""Who may not get in or not write is told why in one line, loses nothing, and delivers everything once it may."""

import json
import re
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from confluent_kafka.admin import AclOperation

from agent.pump import Pump
from agent.spool import Spool
from examples.authority import Authority
from examples.broker import Cluster
from hopwatch.bus.connection import Connection
from hopwatch.bus.kafka import Publisher
from tests.bus.real import allow, held, make_topics

EVENTS = 50
WAIT_S = 30.0


def by_password(broker: Cluster, prefix: str, folder: Path, *, account: str = "agent-north", password: str | None = None) -> Connection:
    """SASL_SSL, SCRAM-SHA-512: a password in a file, the plant's authority."""
    secret = folder / f"{account}.password"
    secret.write_text(password or broker.passwords[account])
    return Connection(
        bootstrap_servers=broker.bootstrap_scram,
        security_protocol="SASL_SSL",
        sasl_username=account,
        sasl_password_file=secret,
        ca_file=broker.authority.certificate,
        topic_prefix=prefix,
    )


def by_certificate(
    broker: Cluster, prefix: str, folder: Path, *, issuer: Authority | None = None, ended: timedelta | None = None
) -> Connection:
    """SSL with a certificate of the client, whose CN is the account."""
    issued = (issuer or broker.authority).issue("agent-north", ended=ended)
    return Connection(
        bootstrap_servers=broker.bootstrap_mtls,
        security_protocol="SSL",
        ca_file=broker.authority.certificate,
        certificate_file=issued.certificate,
        key_file=issued.key,
        topic_prefix=prefix,
    )


def flow(number: int, plant: str = "north") -> bytes:
    return json.dumps({"kind": "flow", "event_id": f"{plant}-{number}", "plant": plant, "connection": "c", "number": number}).encode()


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    opened = Spool(tmp_path / "spool")
    opened.append([flow(number) for number in range(EVENTS)], once=False)
    yield opened
    opened.close()


def step_until(pump: Pump, condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {WAIT_S:.0f} s: {what}; the cluster said: {pump.trouble}"
        pump.step(0.1)


def arrived(broker: Cluster, prefix: str) -> list[int]:
    return [json.loads(value)["number"] for _, value, _ in held(broker, f"{prefix}hopwatch.flow.v1")]


def refused(case: str, broker: Cluster, prefix: str, folder: Path) -> tuple[Connection, str]:
    """How the agent is set up wrongly, and the words it must hear."""
    match case:
        case "wrong password":
            return by_password(broker, prefix, folder, password="placeholder"), r"(?i)authentication"
        case "unknown authority of the broker":
            other = Authority(folder, "other")
            return by_password(broker, prefix, folder).model_copy(update={"ca_file": other.certificate}), r"certificate verify failed"
        case "broker under another name":
            known = by_password(broker, prefix, folder)
            elsewhere = known.bootstrap_servers.replace(broker.host.address, "localhost")
            return known.model_copy(update={"bootstrap_servers": elsewhere}), r"certificate verify failed"
        case "unknown authority of the client":
            return by_certificate(broker, prefix, folder, issuer=Authority(folder, "other")), r"(?i)certificate"
        case "expired certificate":
            return by_certificate(broker, prefix, folder, ended=timedelta(hours=1)), r"(?i)certificate"
        case "no certificate":
            bare = {"certificate_file": None, "key_file": None}
            return by_certificate(broker, prefix, folder).model_copy(update=bare), r"(?i)certificate"
        case "right to another plant's topics":
            allow(broker, "agent-south", AclOperation.WRITE, f"south.{prefix}")
            return by_password(broker, prefix, folder, account="agent-south"), r"^TOPIC_AUTHORIZATION_FAILED: "
    assert case == "no right at all"
    return by_password(broker, prefix, folder, account="stranger"), r"^CLUSTER_AUTHORIZATION_FAILED: "


CASES = (
    "wrong password", "unknown authority of the broker", "broker under another name",
    "unknown authority of the client", "expired certificate", "no certificate",
    "right to another plant's topics", "no right at all",
)  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_agent_that_is_refused_says_why_keeps_every_event_and_delivers_each_once_when_let_in(
    broker: Cluster, prefix: str, tmp_path: Path, spool: Spool, case: str
) -> None:
    make_topics(broker, prefix, ["flow"])
    allow(broker, "agent-north", AclOperation.WRITE, prefix)
    wrong, words = refused(case, broker, prefix, tmp_path)
    pump = Pump(spool, lambda: Publisher(wrong, speaker="agents/north"), time.monotonic)
    try:
        step_until(pump, lambda: pump.trouble is not None, "a word of the refusal")
        for _ in range(5):
            pump.step(0.1)
        assert pump.trouble is not None
        assert re.search(words, pump.trouble), pump.trouble
        assert "\n" not in pump.trouble
        assert "placeholder" not in pump.trouble
        assert spool.waiting() == EVENTS
        assert arrived(broker, prefix) == []
        shown = wrong.security_protocol == "SSL"
        right = by_certificate(broker, prefix, tmp_path) if shown else by_password(broker, prefix, tmp_path)
        pump.renew(lambda: Publisher(right, speaker="agents/north"))
        step_until(pump, lambda: spool.waiting() == 0, "everything is delivered")
        assert arrived(broker, prefix) == list(range(EVENTS))
    finally:
        pump.close(1.0)
