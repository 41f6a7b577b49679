"""The table ``[alerts]`` of the settings file, and a table ``[alerts.destinations.NAME]`` for each destination.

A secret (a token, a password, the key of a signature) stands in a file that a setting names, in the environment or in a vault, and
never in the settings themselves: those are read by more people than a secret should be.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, cast, get_args
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from alerts import VARIABLES
from alerts.delivery import DESTINATIONS_MAX
from hopwatch.bus.connection import secret_in
from hopwatch.events import SEVERITIES, Alert, Decision, Severity

NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,39}")
FILE_BYTES_MAX: Final = 64 << 20
"""Default size at which a destination's file is begun anew."""


class SettingsError(ValueError):
    """A setting of ``[alerts]`` is wrong; one line that names the table, the key and what was expected."""


class DestinationSettings(BaseModel):
    """What every kind of destination is told."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    SECRETS: ClassVar[tuple[str, ...]] = ()

    kind: str
    format: str = Field("event", min_length=1, description="how an alert is written, by name")
    min_severity: Severity = Field("info", description="the lowest severity that is told")
    verdicts: frozenset[str] = Field(frozenset(), description="only these verdicts; empty is all")
    plants: frozenset[str] = Field(frozenset(), description="only these plants; empty is all")
    notify_only: bool = Field(False, description="only what a person is to be told of, not every revision")
    decisions: bool = Field(False, description="what people decided, too")
    timeout_s: float = Field(10.0, gt=0, le=300, description="how long an answer is waited for")
    canary_s: float | None = Field(None, ge=10, description="a canary every so many seconds; by default that of [alerts]")

    def wants(self, event: Alert | Decision) -> bool:
        """Whether this destination is told of an event."""
        if self.plants and event.plant not in self.plants:
            return False
        if isinstance(event, Decision):
            return self.decisions
        if SEVERITIES.index(event.severity) < SEVERITIES.index(self.min_severity):
            return False
        if self.verdicts and event.finding.verdict not in self.verdicts:
            return False
        return event.notify or not self.notify_only


class _Tls(DestinationSettings):
    """What a destination that is reached through TLS is told."""

    ca_file: Path | None = Field(None, description="the authorities that sign its certificate, PEM; by default the system's")
    certificate_file: Path | None = Field(None, description="our certificate, PEM (mutual TLS)")
    key_file: Path | None = Field(None, description="the key of that certificate, PEM")
    key_password: SecretStr | None = None
    key_password_file: Path | None = Field(None, description="the file that holds the key's passphrase")

    @model_validator(mode="after")
    def _both(self) -> _Tls:
        if bool(self.certificate_file) != bool(self.key_file):
            raise ValueError("certificate_file and key_file need one another")
        return self


class SyslogSettings(_Tls):
    """Syslog (RFC 5424) by UDP (RFC 5426), TCP (RFC 6587) or TLS (RFC 5425)."""

    SECRETS: ClassVar[tuple[str, ...]] = ("key_password",)
    kind: Literal["syslog"]
    format: str = Field("syslog", min_length=1, description="syslog, syslog-cef or syslog-leef")
    decisions: Literal[False] = False
    address: str = Field(description="udp://HOST:514, tcp://HOST:601 or tls://HOST:6514")
    server_name: str | None = Field(None, description="the name its certificate must bear, if it is not the address's host")

    @field_validator("address")
    @classmethod
    def _address(cls, value: str) -> str:
        return _url(value, ("udp", "tcp", "tls"), port=True)


class WebhookSettings(_Tls):
    """An HTTP receiver, signed as Standard Webhooks has it."""

    SECRETS: ClassVar[tuple[str, ...]] = ("secret", "token", "key_password")
    kind: Literal["webhook"]
    address: str = Field(description="https://HOST/PATH")
    template: str | None = Field(None, description="a Jinja2 template of the body: the name of one that is shipped, or a file")
    settings: dict[str, str] = Field({}, description="what the template calls settings.NAME, such as a project")
    content_type: str = Field("application/json", description="of the body")
    secret: SecretStr | None = None
    secret_file: Path | None = Field(None, description="the file that holds the key of the signature; whsec_BASE64 or plain")
    token: SecretStr | None = None
    token_file: Path | None = Field(None, description="the file that holds a bearer token")
    proxy: str | None = Field(None, description="the HTTP proxy to go through")

    @field_validator("address", "proxy")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        return value and _url(value, ("https", "http"))


class SplunkSettings(_Tls):
    """Splunk's HTTP Event Collector."""

    SECRETS: ClassVar[tuple[str, ...]] = ("token", "key_password")
    kind: Literal["splunk"]
    format: str = Field("splunk", min_length=1, description="splunk, or another format inside its events")
    address: str = Field(description="https://HOST:8088")
    token: SecretStr | None = None
    token_file: Path | None = Field(None, description="the file that holds the token of the collector")
    index: str | None = Field(None, description="the index; by default the token's")
    source: str = Field("hopwatch", description="the source of the events")
    sourcetype: str = Field("hopwatch:alert", description="their source type")
    acknowledge: bool = Field(True, description="wait until the indexer says that it has them; the token must have it enabled")
    acknowledge_s: float = Field(120.0, gt=0, le=3600, description="how long, before they are sent again")
    proxy: str | None = Field(None, description="the HTTP proxy to go through")

    @field_validator("address", "proxy")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        return value and _url(value, ("https", "http"))


class AlertmanagerSettings(_Tls):
    """Prometheus Alertmanager."""

    SECRETS: ClassVar[tuple[str, ...]] = ("token", "key_password")
    kind: Literal["alertmanager"]
    format: Literal["alertmanager"] = "alertmanager"
    decisions: Literal[False] = False
    address: str = Field(description="https://HOST:9093")
    token: SecretStr | None = None
    token_file: Path | None = Field(None, description="the file that holds a bearer token")
    repeat_s: float = Field(60.0, ge=5, le=3600, description="how often what is firing is said again")
    proxy: str | None = Field(None, description="the HTTP proxy to go through")

    @field_validator("address", "proxy")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        return value and _url(value, ("https", "http"))


class MailSettings(_Tls):
    """E-mail, by TLS only."""

    SECRETS: ClassVar[tuple[str, ...]] = ("password", "key_password")
    kind: Literal["mail"]
    format: Literal["mail"] = "mail"
    decisions: Literal[False] = False
    notify_only: bool = True
    address: str = Field(description="smtp://HOST:587 (STARTTLS) or smtps://HOST:465")
    sender: str = Field(description="whom it comes from")
    recipients: list[str] = Field(min_length=1, max_length=100, description="whom it goes to")
    username: str | None = Field(None, description="the account at the mail server")
    password: SecretStr | None = None
    password_file: Path | None = Field(None, description="the file that holds its password")
    digest_s: float = Field(300.0, ge=0, le=86_400, description="how long alerts are gathered for one mail")
    urgent: Severity = Field("critical", description="an alert raised at this severity waits for no digest")

    @field_validator("address")
    @classmethod
    def _address(cls, value: str) -> str:
        return _url(value, ("smtp", "smtps"), port=True)

    @field_validator("sender", "recipients")
    @classmethod
    def _mailbox(cls, value: str | list[str]) -> str | list[str]:
        for one in [value] if isinstance(value, str) else value:
            if not re.fullmatch(r"[^\s@<>]+@[^\s@<>]+", one):
                raise ValueError("expected an address such as soc@plant.example")
        return value


class KafkaSettings(DestinationSettings):
    """The topics of alerts and decisions of the cluster in the table ``[kafka]``."""

    kind: Literal["kafka"]
    format: Literal["event"] = "event"
    decisions: bool = True


class FileSettings(DestinationSettings):
    """A file, a line an event."""

    kind: Literal["file"]
    decisions: bool = True
    address: Path = Field(description="the file")
    bytes_max: int = Field(FILE_BYTES_MAX, ge=1 << 12, description="size at which it is begun anew")
    keep: int = Field(5, ge=0, le=1000, description="how many earlier files stay, as FILE.1, FILE.2")


Settings = SyslogSettings | WebhookSettings | SplunkSettings | AlertmanagerSettings | MailSettings | KafkaSettings | FileSettings
KINDS: Final[dict[str, type[DestinationSettings]]] = {
    get_args(model.model_fields["kind"].annotation)[0]: model for model in get_args(Settings)
}


class AlertsSettings(BaseModel):
    """The table ``[alerts]``."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    canary_s: float | None = Field(None, ge=10, description="a canary to every destination, every so many seconds")
    metrics: str | None = Field(None, description="where figures for Prometheus are served, 127.0.0.1:9465; nowhere by default")
    console: str = Field("", description="where the console answers, https://HOST:PORT; alerts link to it")
    pages: str = Field(
        "", description="where this repository's files are read, https://HOST/PATH; alerts link to the page of their verdict"
    )
    destinations: dict[str, Any] = Field({}, description="where alerts go, by name")  # Any: Settings, each by its kind


def alerts_settings(
    table: Mapping[str, Any],  # Any: TOML values
    place: str,
    environment: Mapping[str, str],
    vault: Mapping[str, str] | None = None,
) -> AlertsSettings:
    """The settings of a table; ``place`` names its file. ``vault`` has secrets by their names, ``alerts_siem_token``.

    Raises:
        SettingsError: a key is unknown (the nearest known one is named), a value is wrong, or a secret is nowhere.
    """
    told = table.get("destinations", {})
    if not isinstance(told, dict):
        raise SettingsError(f"{place} [alerts] destinations: expected tables, [alerts.destinations.NAME]")
    if len(told) > DESTINATIONS_MAX:
        raise SettingsError(f"{place} [alerts.destinations]: {len(told)} destinations, expected at most {DESTINATIONS_MAX}")
    variables = dict(_variables(told))
    for name in environment:
        if name.startswith(VARIABLES) and name not in variables:
            raise SettingsError(f"environment: unknown key {name}: {_nearest(name, variables)}")
    made = {
        name: _destination(
            name,
            of,
            f"{place} [alerts.destinations.{name}]",
            {
                secret: environment[variable]
                for variable, (whose, secret) in variables.items()
                if whose == name and environment.get(variable)
            },
            {secret: value for secret in _secrets(of) if (value := (vault or {}).get(f"alerts_{name}_{secret}"))},
        )
        for name, of in told.items()
    }
    whole: AlertsSettings = _checked(AlertsSettings, dict(table) | {"destinations": made}, f"{place} [alerts]")
    return whole


def vault_names(table: Mapping[str, Any]) -> tuple[str, ...]:  # Any: TOML values
    """The secrets that a vault may hold for these destinations."""
    told = table.get("destinations", {})
    return tuple(f"alerts_{name}_{secret}" for name, of in told.items() for secret in _secrets(of)) if isinstance(told, dict) else ()


def _secrets(of: object) -> tuple[str, ...]:
    model = KINDS.get(str(of.get("kind"))) if isinstance(of, dict) else None
    return model.SECRETS if model else ()


def _variables(told: Mapping[str, object]) -> Iterable[tuple[str, tuple[str, str]]]:
    for name, of in told.items():
        for secret in _secrets(of):
            yield f"{VARIABLES}{name.upper().replace('-', '_')}_{secret.upper()}", (name, secret)


def _destination(name: str, of: object, place: str, environment: Mapping[str, str], vault: Mapping[str, str]) -> Settings:
    if not NAME.fullmatch(name):
        raise SettingsError(f"{place}: expected a name of at most 40 lower-case letters, digits and hyphens, beginning with a letter")
    if not isinstance(of, dict):
        raise SettingsError(f"{place}: expected a table")
    kind = of.get("kind")
    model = KINDS.get(kind) if isinstance(kind, str) else None
    if model is None:
        raise SettingsError(f"{place} kind: expected one of {', '.join(KINDS)}" + (f", got {kind!r}" if kind is not None else ""))
    values = dict(of)
    for secret in model.SECRETS:
        if secret in values:
            variable = f"{VARIABLES}{name.upper().replace('-', '_')}_{secret.upper()}"
            raise SettingsError(f"{place} {secret}: a secret comes from {variable}, a vault, or the file of {secret}_file")
        found = vault.get(secret) or environment.get(secret)
        if found is None and isinstance(path := values.get(f"{secret}_file"), str):
            try:
                found = secret_in(Path(path))
            except ValueError as error:
                raise SettingsError(f"{place} {secret}_file: {error}") from None
        if found is not None:
            values[secret] = SecretStr(found.strip())
    # The model is one of those that the union names.
    made = cast(Settings, _checked(model, values, place))
    if isinstance(made, SplunkSettings) and made.token is None:
        raise SettingsError(f"{place} token_file: needed, or {VARIABLES}{name.upper().replace('-', '_')}_TOKEN, or a vault")
    if isinstance(made, MailSettings) and made.username and made.password is None:
        raise SettingsError(f"{place} password_file: needed with username")
    return made


def _checked(model: type[BaseModel], values: Mapping[str, Any], place: str) -> Any:  # Any: the model, and TOML values
    try:
        return model(**values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        key = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            raise SettingsError(f"{place}: unknown key {key}: {_nearest(key, model.model_fields)}") from None
        about = (
            model.model_fields[str(first["loc"][0])].description if first["loc"] and str(first["loc"][0]) in model.model_fields else None
        )
        raise SettingsError(
            f"{place} {key}: {first['msg'].removeprefix('Value error, ').lower()}".rstrip() + (f" ({about})" if about else "")
        ) from None


def _nearest(name: str, known: Iterable[str]) -> str:
    known = sorted(known)
    close = difflib.get_close_matches(name, known, 1, 0.6)
    return f"did you mean {close[0]}?" if close else f"known are {', '.join(known) or 'none'}"


def _url(value: str, schemes: tuple[str, ...], *, port: bool = False) -> str:
    expected = " or ".join(f"{scheme}://HOST{':PORT' if port else ''}" for scheme in schemes)
    try:
        parts = urlsplit(value)
        right = parts.scheme in schemes and bool(parts.hostname) and (not port or parts.port is not None)
    except ValueError:
        right = False
    if not right:
        raise ValueError(f"expected {expected}")
    if parts.username or parts.password:
        raise ValueError("no name or password stands in an address")
    return value
