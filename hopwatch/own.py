"""What hopwatch's own programs move by their settings, for ``declared draft self``.

One file serves all programs of a host, so that is what is drafted for: what the agent publishes, what detectors read and publish, what the
store and the detectors write, where alerts go, who looks at the console. Only names and addresses are read, no secret is opened.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from hopwatch.config import KAFKA, PREFIX, ConfigError, written
from hopwatch.declared.model import Endpoint
from hopwatch.declared.own import Move

_PORTS: Final = {"https": 443, "http": 80, "udp": 514, "tcp": 601, "tls": 6514, "smtp": 587, "smtps": 465}
_LOGINS: Final = {"SCRAM-SHA-256": "scram-sha-256", "SCRAM-SHA-512": "scram-sha-256", "PLAIN": "password"}
"""As a declaration has them; it knows one name for all of SCRAM."""

Json = Mapping[str, Any]  # Any: TOML values.


def moves(config: Path | None = None) -> list[Move]:
    """Every movement of the settings that hold on this host.

    Raises:
        ConfigError: the file cannot be read, or an address is none.
    """
    said = written(config)
    try:
        return [*_bus(said), *_database(said), *_alerts(said), *_console(said), *_vault(said)]
    except (ValueError, AttributeError, TypeError) as error:
        raise ConfigError(f"declared draft self: {error}") from None


def _bus(said: Json) -> Iterator[Move]:
    table = dict(said.get(KAFKA) or {})
    for name in ("bootstrap_servers", "sasl_username", "sasl_mechanism", "certificate_file", "topic_prefix"):
        table[name] = os.environ.get(f"{PREFIX}KAFKA_{name.upper()}") or table.get(name)
    at = tuple(server.strip() for server in str(table["bootstrap_servers"] or "").split(",") if server.strip() and not _here(server))
    if not at:
        return
    who = str(table["sasl_username"]) if table["sasl_username"] else None
    login = _LOGINS.get(str(table["sasl_mechanism"] or "SCRAM-SHA-512"), "password") if who else ""
    auth = login or ("certificate" if table["certificate_file"] else "none")
    topics = f'topics: ["{table["topic_prefix"] or ""}hopwatch.*"]'
    for name, out, may, why in (
        ("publishes", True, "publish", "windows of the agent, findings of the detectors, alerts and decisions"),
        ("reads", False, "subscribe", "windows and declarations for detectors and the store"),
    ):
        yield Move(name, "kafka", "kafka", at, out, who, auth, (may,), "hopwatch-events", topics, why)


def _database(said: Json) -> Iterator[Move]:
    address = os.environ.get(f"{PREFIX}POSTGRES") or said.get("postgres") or os.environ.get(f"{PREFIX}STORE") or said.get("store")
    if not isinstance(address, str) or not ("=" in address or address.startswith(("postgresql://", "postgres://"))):
        return
    # The client of PostgreSQL is loaded by who needs it.
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    try:
        parts = conninfo_to_dict(address)
    except ProgrammingError:
        # Its message quotes the address, which may hold a password.
        raise ConfigError("declared draft self: postgres: expected a URI or a connection string") from None
    hosts = str(parts.get("host") or "").split(",")
    ports = str(parts.get("port") or "5432").split(",")
    at = tuple(
        _place(host, int(ports[min(number, len(ports) - 1)]))
        for number, host in enumerate(hosts)
        if host and not host.startswith("/") and not _here(host)
    )
    if not at:
        return
    who = str(parts["user"]) if parts.get("user") else None
    for name, out, may, why in (
        ("keeps", True, ("copy", "insert", "update", "delete", "ddl"), "windows, findings and alerts for as long as they may be kept"),
        ("looks-up", False, ("select",), "what the store holds, for detectors, alerts and the console"),
    ):
        tables = 'tables: ["public.*", "grafana.*"]'
        yield Move(name, "hopwatch-db", "postgresql", at, out, who, "scram-sha-256", may, "hopwatch-store", tables, why)


def _alerts(said: Json) -> Iterator[Move]:
    for name, of in ((said.get("alerts") or {}).get("destinations") or {}).items():
        if of.get("kind") in ("kafka", "file"):
            continue  # The broker's is drafted already, and a file stays here.
        yield from _web(
            f"tells-{name}", str(name), "soc", str(of.get("address", "")), str(of.get("kind", "")), f"alerts for {name}", _login(of)
        )


def _login(of: Json) -> str:
    if of.get("certificate_file"):
        return "certificate"
    if of.get("username"):
        return "password"
    return "token" if of.get("token_file") or of.get("kind") == "splunk" else "none"


def _console(said: Json) -> Iterator[Move]:
    table = said.get("console") or {}
    host, _, port = str(table.get("address") or "").rpartition(":")
    if host and not _here(host):
        paths, why = 'paths: ["*"]', "the console, to those who look at it"
        yield Move(
            "shows",
            "console-users",
            "desk",
            (),
            True,
            None,
            "certificate",
            ("transfer",),
            "hopwatch-console",
            paths,
            f"{why} (port {port})",
        )
    if table.get("oidc_issuer"):
        yield from _web(
            "asks-who", "identity-provider", "identity", str(table["oidc_issuer"]), "https", "who signs in at the console", "token"
        )


def _vault(said: Json) -> Iterator[Move]:
    address = (said.get("vault") or {}).get("address")
    if address:
        yield from _web("fetches-secrets", "vault", "vault", str(address), "https", "its own passwords", "token", out=False)


def _web(name: str, other: str, kind: str, address: str, by: str, why: str, auth: str, *, out: bool = True) -> Iterator[Move]:
    try:
        url = urlsplit(address)
        host, port = url.hostname, url.port or _PORTS.get(url.scheme, 443)
    except ValueError:
        host = None
    if host is None:
        # The address is not quoted, as a password may stand in it.
        raise ConfigError(f"declared draft self: the address of {other}: expected one such as https://10.30.0.70:8200")
    if _here(host):
        return
    at = (_place(host, port),)
    # What is encrypted, and what no decoder reads, is seen by its size.
    may = ("put" if out else "get",) if url.scheme == "http" else ("transfer",)
    yield Move(name, other, kind, at, out, None, auth, may, f"hopwatch-{name}", 'paths: ["*"]', f"{why} ({by})")


def _here(place: str) -> bool:
    """Whether nothing of it leaves this host."""
    endpoint = Endpoint.parse(place.strip())
    return endpoint.host == "localhost" or (endpoint.address is not None and endpoint.address.is_loopback)


def _place(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
