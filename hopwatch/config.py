"""Settings of `hopwatch`: one TOML file, the environment, and flags, the later stronger.

``hopwatch.toml`` in the current directory is read if it is there, another file with ``--config`` or ``HOPWATCH_CONFIG``.
Every key of the file is also a variable: ``store`` is ``HOPWATCH_STORE``. A key nobody knows is an error: a misspelt
``inteface`` that is silently ignored would leave a plant unwatched.

The commands share the file: each takes the keys it knows. The table ``[kafka]`` is read by ``hopwatch.bus.connection``,
``[alerts]`` by ``alerts.settings``.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, cast

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, InitSettingsSource, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from agent.segments import EXPORT_BYTES_MAX
from agent.spool import SPOOL_BYTES_MAX
from agent.vault import Vault, VaultError
from alerts import VARIABLES as ALERTS_VARIABLES
from hopwatch.bus.connection import VARIABLES as KAFKA_VARIABLES
from hopwatch.bus.connection import BrokerError, Connection, connection, secret_in
from hopwatch.bus.embedded import LOG_BYTES_MAX
from hopwatch.store.embedded import STORE_BYTES_MAX

if TYPE_CHECKING:
    from alerts.settings import AlertsSettings
    from dashboards.console.settings import ConsoleSettings
    from hopwatch.metrics import Figures

PREFIX = "HOPWATCH_"
FILE = Path("hopwatch.toml")
KAFKA = "kafka"
VAULT = "vault"
ALERTS = "alerts"
PGPASSWORD = "PGPASSWORD"
CONSOLE = "console"
NO_STORE = "none"  # Said in place of a store's file where nothing is to be kept.
CONFIG = "CONFIG"  # HOPWATCH_CONFIG names the file, so it is read before there are settings.


class ConfigError(Exception):
    """The configuration file, a variable or a flag is wrong; the message is one line that names it."""


class ProgramSettings(BaseSettings):
    """What every program that runs on is told; the names are the keys of the file."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", env_ignore_empty=True)

    duration: float | None = Field(None, gt=0, description="seconds to run, or to listen")
    metrics: str | None = Field(None, description="where figures for Prometheus are served, 127.0.0.1:9464; nowhere by default")
    postgres_password_file: Path | None = Field(None, description="the file that holds the password of the PostgreSQL database")


class CaptureSettings(ProgramSettings):
    """What every command that listens is told."""

    interfaces: Annotated[list[str], NoDecode] = Field([], description="interfaces to listen on, passively")
    agent: str = Field("hopwatch", min_length=1, description="the name of this agent in events")
    tap: str | None = Field(None, description="the tap's name in events; by default interface and file give it")
    bpf: str | None = Field(None, description="capture filter in pcap-filter(7) syntax")
    snaplen: int = Field(262_144, ge=96, le=262_144, description="bytes kept of a packet")
    vlans_equal: Annotated[list[str], NoDecode] = Field([], description="pairs of VLANs that are one network, 120=220; also vni:7=vni:9")
    tap_of: Annotated[list[str], NoDecode] = Field([], description="interfaces and the taps they belong to, eth3=cell-2")
    verify_checksums: bool = Field(False, description="drop segments whose checksum is wrong (not behind checksum offload)")
    feeds: Annotated[list[str], NoDecode] = Field([], description="sources beside packets, postgresql-log:mes-db-log=10.20.1.21:5432=PATH")
    plugins: Annotated[list[str], NoDecode] = Field([], description="slow-path decoders, modbus or package.module:Class")
    feeds_state: Path = Field(Path("hopwatch.feed"), description="where the place in each of them is kept: PATH.KIND.FEED.…")

    @field_validator("interfaces", "vlans_equal", "tap_of", "feeds", "plugins", mode="before")
    @classmethod
    def _separated(cls, value: object) -> object:
        return _items(value)


class JudgingSettings(ProgramSettings):
    """What every command that judges is told."""

    approvers: Path | None = Field(None, description="the keys whose signature approves a declaration")
    at: date | None = Field(None, description="the day expiries are judged for; by default that of the packets")
    table_sizes: Path | None = Field(None, description="a CSV file of asset, table and rows: how large tables are")
    questions: bool = Field(True, description="ask what no single window shows, too: bulk, new accounts, lineage, silence")
    locations: Annotated[list[Path], NoDecode] = Field([], description="files in the MaxMind DB format: country or operator of an address")

    @field_validator("locations", mode="before")
    @classmethod
    def _named(cls, value: object) -> object:
        return _items(value)


class Settings(CaptureSettings, JudgingSettings):
    """What `hopwatch watch` is told."""

    declaration: Path | None = Field(None, description="the plant's declared architecture, plant.yaml")
    store: str = Field("hopwatch.db", min_length=1, description="the store's file, or none")
    store_bytes_max: int = Field(STORE_BYTES_MAX, ge=1 << 17, description="bound of the store's file")
    key: Path | None = Field(None, description="the key of the pseudonyms; by default beside the store, STORE.key")
    log_bytes_max: int = Field(LOG_BYTES_MAX, ge=1 << 16, description="bound of the log between sensor and engine")


class AgentSettings(CaptureSettings):
    """What `hopwatch agent` is told."""

    plant: str | None = Field(None, min_length=1, description="the plant this agent's events belong to")
    spool: Path = Field(Path("hopwatch.spool"), description="the file in which events wait for the broker")
    spool_bytes_max: int = Field(SPOOL_BYTES_MAX, ge=1 << 18, description="bound of the spool's file")
    export: Path | None = Field(None, description="the folder segments are written to, instead of publishing")
    export_bytes_max: int = Field(EXPORT_BYTES_MAX, ge=1 << 16, description="bound of what lies in that folder")
    signing_key: Path | None = Field(None, description="the Ed25519 key that signs segments, PEM or OpenSSH")
    signers: Path | None = Field(None, description="the keys whose signature an imported segment must bear")
    shards: int = Field(1, ge=1, le=64, description="shards the plant's events are split into, as every agent and detector must say")


class ScaleSettings(JudgingSettings):
    """What `hopwatch detect` and `hopwatch store` are told."""

    postgres: SecretStr | None = Field(None, description="the PostgreSQL database, as a URI or a connection string")
    key: Path | None = Field(None, description="the key of the pseudonyms, the same for all that use the database")
    keep: str = Field("", description="how many days records are kept, flows=30,persons=7,class:process_ip=14; what is not named stays")
    group: str | None = Field(None, min_length=1, max_length=200, description="the consumer group")
    verdicts: bool = Field(True, description="keep what was said of each flow beside it, as `hopwatch store` keeps the flows")
    declaration: Path | None = Field(None, description="judge by this file only")


EVERY = (Settings, AgentSettings, ScaleSettings)
"""What the one file may hold: a command passes over the keys of another."""

Chosen = TypeVar("Chosen", bound=ProgramSettings)


@contextlib.contextmanager
def served(where: str | None, *figures: Figures) -> Iterator[None]:
    """The figures for Prometheus, as long as the context lasts; nowhere, if nothing is said.

    Raises:
        ConfigError: the address is wrong or taken.
    """
    if where is None:
        yield
        return
    # What a command has no use for is loaded by no command: figures here, below the rooms of alerts and of the console.
    from hopwatch.metrics import MetricsError, serve

    try:
        server, thread = serve(where, *figures)
    except MetricsError as error:
        raise ConfigError(f"--metrics {error}") from None
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _items(value: object) -> object:
    """A variable holds a list as ``eth1,eth2``."""
    return [item.strip() for item in value.split(",") if item.strip()] if isinstance(value, str) else value


def settings(flags: Mapping[str, Any], config: Path | None = None) -> Settings:  # Any: values of argparse.
    """What holds for `hopwatch watch`, see ``chosen``."""
    return chosen(Settings, flags, config)


def chosen(model: type[Chosen], flags: Mapping[str, Any], config: Path | None = None) -> Chosen:  # Any: values of argparse.
    """The settings that hold: flags that were given (not None), then the environment, then the file, then defaults.

    Raises:
        ConfigError: a key is unknown (the nearest known one is named), a value is wrong, or the file cannot be read.
    """
    known = list(dict.fromkeys(name for each in EVERY for name in each.model_fields))
    variables = [PREFIX + name.upper() for name in (*known, CONFIG)]
    # The variables of destinations are known to whoever reads their tables.
    said = (name for name in os.environ if name.startswith(PREFIX) and not name.startswith(ALERTS_VARIABLES))
    _refuse_unknown("environment", said, (*variables, *KAFKA_VARIABLES))
    path = _path(config)
    values = _file(path) if path else {}
    values.pop(KAFKA, None)
    values.pop(VAULT, None)
    values.pop(ALERTS, None)
    values.pop(CONSOLE, None)
    _refuse_unknown(str(path), values, known)
    values = {name: value for name, value in values.items() if name in model.model_fields}
    given = {name: value for name, value in flags.items() if value is not None and name in model.model_fields}

    class Sourced(model):  # type: ignore[valid-type,misc]  # A settings class is told its sources by a subclass only.
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, env_settings, InitSettingsSource(settings_cls, values)

    try:
        made = cast(Chosen, Sourced(**given))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        name = str(first["loc"][0])
        if name in given:
            origin = "--" + name.replace("_", "-")
        elif os.environ.get(PREFIX + name.upper()):
            origin = PREFIX + name.upper()
        else:
            origin = f"{path} {name}"
        raise ConfigError(f"{origin}: {first['msg'].lower()}, got {first['input']!r}") from None
    if made.postgres_password_file is not None:
        _let_in(made.postgres_password_file)
    return made


def _let_in(path: Path) -> None:
    """Every room opens connections of its own, and libpq looks here for each that names no password (libpq 34.15).

    What a process adds to its environment later is not in /proc/PID/environ; an address with the password would be in messages.
    """
    try:
        os.environ[PGPASSWORD] = secret_in(path)
    except ValueError as error:
        raise ConfigError(f"postgres_password_file {error}") from None


def kafka(
    flags: Mapping[str, Any], config: Path | None = None, secrets: Mapping[str, str] | None = None
) -> Connection:  # Any: values of argparse.
    """How the Kafka cluster is reached: the table ``[kafka]`` of the same file, the environment, flags of the same names.

    ``secrets`` are what a vault says, by the names of the settings; they are stronger than the environment.

    Raises:
        ConfigError: no cluster is named, a key is unknown, or a value is wrong.
    """
    table = _table(KAFKA, config, Connection.model_fields)
    _refuse_unknown("environment", (name for name in os.environ if name.startswith(f"{PREFIX}KAFKA_")), KAFKA_VARIABLES)
    try:
        given = {name: value for name, value in flags.items() if name in Connection.model_fields}
        variables = dict(os.environ) | {f"{PREFIX}KAFKA_{name.upper()}": secret for name, secret in (secrets or {}).items()}
        return connection(table, given, variables)
    except BrokerError as error:
        raise ConfigError(str(error)) from None


def vault(config: Path | None = None) -> Vault | None:
    """Where secrets are kept, if the file has a table ``[vault]``.

    Raises:
        ConfigError: a key is unknown or a value is wrong.
    """
    table = _table(VAULT, config, Vault.model_fields)
    if not table:
        return None
    try:
        return Vault(**table)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise ConfigError(f"{_path(config)} [{VAULT}] {'.'.join(map(str, first['loc']))}: {first['msg'].lower()}") from None


def alerts(config: Path | None = None) -> AlertsSettings:
    """The table ``[alerts]``: where alerts go. A secret comes from a file that a setting names, a variable
    (``HOPWATCH_ALERTS_SIEM_TOKEN``) or the vault of ``[vault]`` (``alerts_siem_token``), the last the strongest.

    Raises:
        ConfigError: a key is unknown, a value is wrong, or the vault cannot be asked.
    """
    from alerts.settings import SettingsError, alerts_settings, vault_names

    path = _path(config)
    table = _file(path).get(ALERTS, {}) if path else {}
    if not isinstance(table, dict):
        raise ConfigError(f"{path} {ALERTS}: expected a table, [{ALERTS}]")
    names, source = vault_names(table), vault(config)
    try:
        # A vault that has none of them is one for something else.
        held = source.held(names) if source is not None and names else {}
        return alerts_settings(table, str(path or FILE), os.environ, held)
    except (SettingsError, VaultError) as error:
        raise ConfigError(str(error)) from None


def console(flags: Mapping[str, Any], config: Path | None = None) -> ConsoleSettings:  # Any: values of argparse.
    """What holds for the console: the table ``[console]`` of the same file, flags of the same names stronger.

    Raises:
        ConfigError: a key is unknown or a value is wrong.
    """
    from dashboards.console.settings import ConsoleSettings

    table = _table(CONSOLE, config, ConsoleSettings.model_fields)
    try:
        return ConsoleSettings(**table | {name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        raise ConfigError(f"[{CONSOLE}] {'.'.join(map(str, first['loc']))}: {first['msg'].lower()}, got {first['input']!r}") from None


def _table(name: str, config: Path | None, known: Iterable[str]) -> dict[str, Any]:  # Any: TOML values.
    path = _path(config)
    table = _file(path).get(name, {}) if path else {}
    if not isinstance(table, dict):
        raise ConfigError(f"{path} {name}: expected a table, [{name}]")
    _refuse_unknown(f"{path} [{name}]", table, known)
    return table


def _path(config: Path | None) -> Path | None:
    """The configuration file that was named, or the one that is there."""
    named = config or (Path(os.environ[PREFIX + CONFIG]) if os.environ.get(PREFIX + CONFIG) else None)
    return named or (FILE if FILE.exists() else None)


def written(config: Path | None = None) -> dict[str, Any]:  # Any: TOML values.
    """What stands in the configuration file, tables and all, as it stands there; empty if there is none.

    Raises:
        ConfigError: it cannot be read.
    """
    path = _path(config)
    return _file(path) if path else {}


def nearest(name: str, known: Iterable[str]) -> str:
    """`` (did you mean X?)`` for a misspelt name, else the list of known ones."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, 1, 0.6)
    return f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"


def _refuse_unknown(place: str, names: Iterable[str], known: Iterable[str]) -> None:
    known = list(known)
    for name in names:
        if name not in known:
            raise ConfigError(f"{place}: unknown key {name}: {nearest(name, known)}")


def _file(path: Path) -> dict[str, Any]:  # Any: TOML values.
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
