"""docker-compose.yml's broker: what it starts works with the real one (no container is needed; tests/deploy has the rest)."""

import os
import secrets
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from ruamel.yaml import YAML

from examples.broker import HERE, JARS, LOGGING, ROOT, STARTED, free_ports, shared

COMPOSE: Mapping[str, Any] = YAML(typ="safe").load(ROOT / "docker-compose.yml")  # Any: YAML values
SERVICES: Mapping[str, Any] = COMPOSE["services"]  # Any: as above
READY_S = 120.0


def test_broker_is_the_one_the_tests_run_against() -> None:
    tested = next(path.name for path in JARS.glob("kafka_2.13-*.jar")).removeprefix("kafka_2.13-").removesuffix(".jar")
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{tested}"


def test_its_command_starts_a_broker_that_lets_in_admin_and_nobody_else_and_again_on_the_same_data(tmp_path: Path) -> None:
    host, network, inside, quorum = free_ports(HERE, 4)
    secret = secrets.token_hex(24)
    (tmp_path / "kafka-admin").write_text(secret + "\n")
    properties = (ROOT / "deploy" / "kafka" / "server.properties").read_text()
    for written, here in (("9092", host), ("9094", network), ("9095", inside), ("9093", quorum)):
        properties = properties.replace(f":{written}", f":{here}")
    (tmp_path / "server.properties").write_text(properties.replace("/var/lib/kafka/data", str(tmp_path / "data")))
    quick = " ".join(["-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", *shared()])
    tool = f"java {quick} -Dlog4j2.configurationFile={LOGGING} -cp '{JARS.resolve()}/*'"
    script = SERVICES["kafka"]["command"][-1].replace("$$", "$")
    for there, here in (
        ("/opt/kafka/bin/kafka-storage.sh", f"{tool} kafka.tools.StorageTool"),
        ("/opt/kafka/bin/kafka-server-start.sh", f"{tool} kafka.Kafka"),
        ("/etc/hopwatch/server.properties", str(tmp_path / "server.properties")),
        ("/run/secrets/kafka-admin", str(tmp_path / "kafka-admin")),
        ("/tmp/format", str(tmp_path / "format")),
    ):
        assert there in script
        script = script.replace(there, here)
    environment = {"PATH": os.environ["PATH"], "CLUSTER_ID": SERVICES["kafka"]["environment"]["CLUSTER_ID"]}
    for formatted in (False, True):
        log = (tmp_path / "log").open("wb")
        process = subprocess.Popen(["bash", "-euc", script], stdout=log, stderr=log, env=environment, start_new_session=True)
        try:
            deadline = time.monotonic() + READY_S
            while STARTED not in (tmp_path / "log").read_bytes():
                assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()[-2000:]
                time.sleep(0.1)
            assert secret not in (tmp_path / "log").read_text()
            assert not (tmp_path / "format").exists()
            assert topics(host, secret) == set()
            if not formatted:
                with pytest.raises(KafkaException):
                    topics(host, "wrong", timeout_s=2.0)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            log.close()


def topics(port: int, password: str, timeout_s: float = 15.0) -> set[str]:
    """The cluster's topics, seen by admin."""
    client = AdminClient(
        {
            "bootstrap.servers": f"127.0.0.1:{port}",
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": "admin",
            "sasl.password": password,
            "log_level": 0,
        }
    )
    return set(client.list_topics(timeout=timeout_s).topics)
