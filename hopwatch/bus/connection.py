"""How a Kafka cluster is reached: one model for every program that publishes, reads or administers.

The settings are the keys of the table ``[kafka]`` in ``hopwatch.toml``; each is also a variable, ``bootstrap_servers`` is
``HOPWATCH_KAFKA_BOOTSTRAP_SERVERS``, and a flag where the program has one; the later is the stronger. A password or the passphrase
of a key comes from the environment or from a file that a setting names, never from the configuration itself or a flag: both are
read by more people than a secret should be. A caller that has a secret from a vault sets the field by itself.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from hopwatch.bus import LogError

PREFIX = "HOPWATCH_KAFKA_"
SECRETS = ("sasl_password", "key_password")
SECRET_BYTES_MAX = 4_096

Value = str | int | float | bool


class BrokerError(LogError):
    """The cluster cannot be reached or refuses, or its settings are wrong; the message is one line for a person."""


class Connection(BaseModel):
    """What a program must know to reach a cluster and to be let in."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bootstrap_servers: str = Field(min_length=1, description="some brokers of the cluster, host:port,host:port")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field("PLAINTEXT", description="how they are spoken to")
    sasl_mechanism: Literal["SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN"] = Field("SCRAM-SHA-512", description="how the user proves itself")
    sasl_username: str | None = Field(None, description="the user, with SASL")
    sasl_password_file: Path | None = Field(None, description="the file that holds the user's password")
    sasl_password: SecretStr | None = Field(None, description="the password; from the environment or a vault only")
    ca_file: Path | None = Field(None, description="the authorities that sign the brokers' certificates, PEM")
    certificate_file: Path | None = Field(None, description="this program's certificate, PEM (mutual TLS)")
    key_file: Path | None = Field(None, description="the key of that certificate, PEM")
    key_password_file: Path | None = Field(None, description="the file that holds the key's passphrase")
    key_password: SecretStr | None = Field(None, description="the passphrase; from the environment or a vault only")
    topic_prefix: str = Field("", pattern=r"^[A-Za-z0-9._-]{0,128}$", description="stands before every topic's name")
    group_protocol: Literal["consumer", "classic"] = Field("consumer", description="classic for brokers before 4.0")

    @field_validator("bootstrap_servers")
    @classmethod
    def _servers(cls, value: str) -> str:
        for server in value.split(","):
            host, colon, port = server.strip().rpartition(":")
            if not (colon and host and port.isascii() and port.isdigit() and 0 < int(port) <= 65_535):
                raise ValueError("expected host:port,host:port")
        return ",".join(server.strip() for server in value.split(","))

    @model_validator(mode="after")
    def _whole(self) -> Connection:
        """What one setting needs of another."""
        sasl, tls = self.security_protocol.startswith("SASL"), self.security_protocol.endswith("SSL")
        if sasl and not (self.sasl_username and (self.sasl_password or self.sasl_password_file)):
            raise ValueError(f"{self.security_protocol} needs sasl_username and sasl_password_file (or {PREFIX}SASL_PASSWORD)")
        if not sasl and self.sasl_username:
            raise ValueError("sasl_username needs security_protocol SASL_SSL or SASL_PLAINTEXT")
        if not tls and (self.ca_file or self.certificate_file or self.key_file):
            raise ValueError("ca_file, certificate_file and key_file need security_protocol SSL or SASL_SSL")
        if bool(self.certificate_file) != bool(self.key_file):
            raise ValueError("certificate_file and key_file need one another")
        return self

    def client(self) -> dict[str, Value]:
        """The settings in librdkafka's words, secrets in clear: for a client, never for a log.

        Raises:
            BrokerError: a file that a setting names cannot be read.
        """
        said: dict[str, Value] = {"bootstrap.servers": self.bootstrap_servers, "security.protocol": self.security_protocol}
        if self.security_protocol.startswith("SASL"):
            said["sasl.mechanism"] = self.sasl_mechanism
            said["sasl.username"] = self.sasl_username or ""
            said["sasl.password"] = _secret(self.sasl_password, self.sasl_password_file, "sasl_password_file")
        files = {"ssl.ca.location": self.ca_file, "ssl.certificate.location": self.certificate_file, "ssl.key.location": self.key_file}
        for name, path in files.items():
            if path is not None:
                if not os.access(path, os.R_OK):
                    raise BrokerError(f"{path}: cannot be read, and {name} is needed to reach the brokers")
                said[name] = str(path)
        if self.key_password or self.key_password_file:
            said["ssl.key.password"] = _secret(self.key_password, self.key_password_file, "key_password_file")
        return said


VARIABLES = tuple(PREFIX + name.upper() for name in Connection.model_fields)


def connection(
    configured: Mapping[str, Any], flags: Mapping[str, Any] | None = None, environment: Mapping[str, str] | None = None
) -> Connection:  # Any: values of TOML and argparse.
    """The settings of the configuration, the environment and the flags, the later stronger; None is not given.

    Raises:
        BrokerError: a key is unknown, a value is wrong, or a secret stands where it must not.
    """
    variables = os.environ if environment is None else environment
    from_environment = {name.removeprefix(PREFIX).lower(): variables[name] for name in VARIABLES if variables.get(name)}
    values: dict[str, Any] = {}
    for place, layer in (("[kafka]", configured), ("environment", from_environment), ("flags", flags or {})):
        given = {name: value for name, value in layer.items() if value is not None}
        for secret in SECRETS:
            if secret in given and place != "environment":
                raise BrokerError(f"{place} {secret}: a secret comes from {PREFIX}{secret.upper()} or from the file of {secret}_file")
        values |= given
    if "bootstrap_servers" not in values:
        raise BrokerError(f"no Kafka cluster is named: bootstrap_servers in [kafka], {PREFIX}BOOTSTRAP_SERVERS, or --bootstrap-servers")
    try:
        return Connection(**values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise BrokerError(f"[kafka] {place}: {first['msg']}" if place else f"[kafka]: {first['msg']}") from None


def secret_in(path: Path) -> str:
    """The secret a file holds, without the line's end.

    Raises:
        ValueError: why it holds none; one line that names the file and quotes nothing.
    """
    try:
        with path.open("rb") as file:
            text = file.read(SECRET_BYTES_MAX + 1)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    if not text.strip() or len(text) > SECRET_BYTES_MAX:
        raise ValueError(f"{path}: holds {len(text)} bytes, expected 1 to {SECRET_BYTES_MAX}")
    try:
        return text.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: is no UTF-8 text") from None


def _secret(value: SecretStr | None, path: Path | None, setting: str) -> str:
    if value is not None:
        return value.get_secret_value()
    assert path is not None, "the model asks for one of the two"
    try:
        return secret_in(path)
    except ValueError as error:
        raise BrokerError(f"{setting} {error}") from None
