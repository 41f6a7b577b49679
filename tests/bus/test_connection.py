"""The settings of a Kafka cluster: where they come from, what contradicts itself, and that no secret is ever said."""

from pathlib import Path

import pytest

from hopwatch.bus.connection import BrokerError, Connection, connection
from hopwatch.config import ConfigError, kafka, settings

PASSWORD = "sesame-7f"


def test_flags_are_stronger_than_the_environment_and_that_than_the_file() -> None:
    configured = {"bootstrap_servers": "file:1", "topic_prefix": "file."}
    environment = {"HOPWATCH_KAFKA_BOOTSTRAP_SERVERS": "variable:2", "HOPWATCH_KAFKA_TOPIC_PREFIX": ""}
    assert connection(configured, {}, environment).bootstrap_servers == "variable:2"
    assert connection(configured, {}, environment).topic_prefix == "file."
    assert connection(configured, {"bootstrap_servers": "flag:3"}, environment).bootstrap_servers == "flag:3"


def test_the_password_comes_from_a_file_or_the_environment_and_is_never_shown(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text(PASSWORD + "\n", encoding="utf-8")
    given = {"bootstrap_servers": "a:1", "security_protocol": "SASL_SSL", "sasl_username": "agent"}
    by_file = connection({**given, "sasl_password_file": str(path)}, environment={})
    by_variable = connection(given, environment={"HOPWATCH_KAFKA_SASL_PASSWORD": PASSWORD})
    assert by_file.client()["sasl.password"] == by_variable.client()["sasl.password"] == PASSWORD
    assert PASSWORD not in f"{by_variable!r}{by_variable}{by_variable.model_dump_json()}"


@pytest.mark.parametrize("place", ["configuration", "flags"])
def test_a_password_in_the_configuration_or_a_flag_is_refused_without_quoting_it(place: str) -> None:
    layers = ({"sasl_password": PASSWORD}, {}) if place == "configuration" else ({}, {"sasl_password": PASSWORD})
    with pytest.raises(BrokerError, match="HOPWATCH_KAFKA_SASL_PASSWORD") as refused:
        connection(*layers, environment={"HOPWATCH_KAFKA_BOOTSTRAP_SERVERS": "a:1"})
    assert PASSWORD not in str(refused.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "no Kafka cluster is named"),
        ({"bootstrap_servers": "broker"}, "expected host:port"),
        ({"bootstrap_servers": "broker:0"}, "expected host:port"),
        ({"bootstrap_servers": "a:1,"}, "expected host:port"),
        ({"bootstrap_servers": "a:1", "security_protocol": "SASL_SSL"}, "needs sasl_username"),
        ({"bootstrap_servers": "a:1", "security_protocol": "TLS"}, "security_protocol"),
        ({"bootstrap_servers": "a:1", "sasl_username": "agent"}, "needs security_protocol"),
        ({"bootstrap_servers": "a:1", "ca_file": "ca.pem"}, "need security_protocol"),
        ({"bootstrap_servers": "a:1", "security_protocol": "SSL", "key_file": "key.pem"}, "need one another"),
        ({"bootstrap_servers": "a:1", "topic_prefix": "north site."}, "topic_prefix"),
        ({"bootstrap_servers": "a:1", "compression": "zstd"}, "compression"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(given: dict[str, str], said: str) -> None:
    with pytest.raises(BrokerError, match=said) as refused:
        connection(given, environment={})
    assert "\n" not in str(refused.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "ca.pem"
    with pytest.raises(BrokerError, match=r"ca\.pem"):
        Connection(bootstrap_servers="a:1", security_protocol="SSL", ca_file=missing).client()
    empty = tmp_path / "password"
    empty.touch()
    with pytest.raises(BrokerError, match="holds 0 bytes"):
        Connection(bootstrap_servers="a:1", security_protocol="SASL_SSL", sasl_username="agent", sasl_password_file=empty).client()


def test_the_configuration_file_has_a_table_that_watch_leaves_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "hopwatch.toml"
    path.write_text('agent = "tap"\n[kafka]\nbootstrap_servers = "a:1"\n', encoding="utf-8")
    monkeypatch.setenv("HOPWATCH_KAFKA_TOPIC_PREFIX", "north.")
    assert settings({}, path).agent == "tap"
    assert (kafka({}, path).bootstrap_servers, kafka({}, path).topic_prefix) == ("a:1", "north.")
    path.write_text('[kafka]\nbootstrap_server = "a:1"\n', encoding="utf-8")
    with pytest.raises(ConfigError, match="did you mean bootstrap_servers"):
        kafka({}, path)
