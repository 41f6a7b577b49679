"""The shape of a declaration: one frozen model for every section of a plant file.

The nouns come from IEC 62443-3-2 (zone, conduit) and from the question a declaration answers: which account may move
which data from where to where, how much, when, protected how, and until when. Scalars arrive as text and are
typed here, so that ``no``, ``22:00`` and ``2026-03-02`` mean the same to every YAML reader.

What the models check is one value at a time; what only two places together can contradict is proven in ``rules.py``.
"""

import re
from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainSerializer,
    PlainValidator,
    WithJsonSchema,
)
from pydantic.dataclasses import dataclass
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema
from pydantic_core.core_schema import no_info_before_validator_function

from hopwatch.declared.problem import Problem
from hopwatch.declared.quantity import DURATION_PATTERN, FACTOR_PATTERN, LIMIT_PATTERN, Duration, Factor, Limit
from hopwatch.declared.schedule import SCHEDULE_PATTERN, Schedule

NAME_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$"
OFF_SITE = "off-site"  # in a budget: every zone that is off site
SOURCE: Literal["source"] = "source"  # a keep without end, for the system of record
PILOT = "pilot"  # the tag of a hop that must end within PILOT_DAYS_MAX

_EMAIL_OR_NAME = r"^.*\S.*$"


def _text(read: Callable[[str], Any], pattern: str, expected: str) -> tuple[PlainValidator, PlainSerializer, WithJsonSchema]:
    """A type written as one phrase: read from text, written back as text."""

    def validate(value: object) -> Any:  # Any: whatever ``read`` returns
        return read(value) if isinstance(value, str) else value

    return PlainValidator(validate), PlainSerializer(str), WithJsonSchema({"type": "string", "pattern": pattern, "description": expected})


def _read_bool(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError(f'"{text}": expected true or false')
    return text == "true"


def _read_int(text: str) -> int:
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII):
        raise ValueError(f'"{text}": expected a whole number')
    return int(text)


def _read_port(text: str) -> int:
    if not re.fullmatch(r"\d{1,5}", text, re.ASCII) or not 0 < int(text) < 65_536:
        raise ValueError(f'"{text}": expected a port, 1 to 65535')
    return int(text)


def _read_level(text: str) -> Decimal:
    if not re.fullmatch(r"[0-5](\.5)?", text, re.ASCII):
        raise ValueError(f'"{text}": expected a level 0 to 5, such as 2 or 3.5')
    return Decimal(text)


def _read_security_level(text: str) -> int:
    if text not in ("0", "1", "2", "3", "4"):
        raise ValueError(f'"{text}": expected a security level 0 to 4 (IEC 62443-3-3)')
    return int(text)


def _read_date(text: str) -> date:
    if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text, re.ASCII):
        try:
            return date.fromisoformat(text)
        except ValueError:
            pass
    raise ValueError(f'"{text}": expected a day such as 2026-12-31')


def _read_timezone(text: str) -> ZoneInfo:
    try:
        return ZoneInfo(text)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f'"{text}": expected a time zone such as Europe/Berlin') from error


def _read_net(text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text)
    except ValueError as error:
        raise ValueError(f'"{text}": expected a network such as 10.20.0.0/22 with no host bits set') from error


def _read_keep(text: str) -> Duration | Literal["source"]:
    return SOURCE if text == SOURCE else Duration.parse(text)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where an asset listens: an address or a name, and its port if only one is meant."""

    host: str
    port: int | None = None

    @property
    def address(self) -> IPv4Address | IPv6Address | None:
        """The host as an address; None where it is a name."""
        try:
            return ip_address(self.host)
        except ValueError:
            return None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host and self.port is not None else self.host
        return host if self.port is None else f"{host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> "Endpoint":
        """Read ``10.20.1.21:5432``, ``10.20.1.30``, ``lake.example:443`` or ``[2001:db8::1]:443``.

        Raises:
            ValueError: neither an address nor a name, or no such port.
        """
        bracketed = re.fullmatch(r"\[([0-9A-Fa-f:.]+)\](?::(\d+))?", text)
        if bracketed:
            host, port = bracketed[1], bracketed[2]
        elif text.count(":") > 1:
            host, port = text, None
        else:
            host, _, port_text = text.partition(":")
            port = port_text if ":" in text else None
        try:
            host = str(ip_address(host))
        except ValueError as error:
            looks_like_address = re.fullmatch(r"[0-9.]+|.*[:\[\]].*", host)
            if looks_like_address or not re.fullmatch(r"[A-Za-z0-9*_]([A-Za-z0-9*_.-]*[A-Za-z0-9])?", host):
                raise ValueError(f'"{text}": expected an address or a name, with a port if need be, such as 10.20.1.21:5432') from error
        return cls(host, None if port is None else _read_port(port))


Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Phrase = Annotated[str, Field(min_length=1, max_length=1000, pattern=_EMAIL_OR_NAME)]
Glob = Annotated[str, Field(min_length=1, max_length=500)]
Bool = Annotated[bool, PlainValidator(lambda v: _read_bool(v) if isinstance(v, str) else v), WithJsonSchema({"type": "boolean"})]
Int = Annotated[int, PlainValidator(lambda v: _read_int(v) if isinstance(v, str) else v), WithJsonSchema({"type": "integer", "minimum": 0})]
Port = Annotated[
    int,
    PlainValidator(lambda v: _read_port(v) if isinstance(v, str) else v),
    WithJsonSchema({"type": "integer", "minimum": 1, "maximum": 65535}),
]
Level = Annotated[
    Decimal,
    PlainValidator(lambda v: _read_level(v) if isinstance(v, str) else v),
    PlainSerializer(float),
    WithJsonSchema({"type": "number", "minimum": 0, "maximum": 5, "multipleOf": 0.5}),
]
SecurityLevel = Annotated[
    int,
    PlainValidator(lambda v: _read_security_level(v) if isinstance(v, str) else v),
    WithJsonSchema({"type": "integer", "minimum": 0, "maximum": 4}),
]
Day = Annotated[
    date, PlainValidator(lambda v: _read_date(v) if isinstance(v, str) else v), WithJsonSchema({"type": "string", "format": "date"})
]
Timezone = Annotated[ZoneInfo, *_text(_read_timezone, r"^[A-Za-z0-9_+/-]+$", "IANA time zone")]
Net = Annotated[IPv4Network | IPv6Network, *_text(_read_net, r"^[0-9A-Fa-f.:]+(/\d+)?$", "network in CIDR notation")]
At = Annotated[Endpoint, *_text(Endpoint.parse, r"^\S+$", "address or name, with a port if need be")]
LimitPhrase = Annotated[Limit, *_text(Limit.parse, LIMIT_PATTERN, "200k rows / 1h, 300 MiB / 1d, 20 MiB / 1d per host")]
FactorPhrase = Annotated[Factor, *_text(Factor.parse, FACTOR_PATTERN, "3x")]
DurationPhrase = Annotated[Duration, *_text(Duration.parse, DURATION_PATTERN, "90d, 3y, 24h")]
KeepPhrase = Annotated[
    Duration | Literal["source"], *_text(_read_keep, f"{DURATION_PATTERN}|^{SOURCE}$", "90d, or source for the system of record")
]
SchedulePhrase = Annotated[Schedule, *_text(Schedule.parse, SCHEDULE_PATTERN, "daily 01:30-03:00, Tue 08:00-12:00, last day 18:00-24:00")]


class _OneOrMore:
    """One entry or a list of them; always a list once read. The schema says what an entry is in both forms."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:  # Any: pydantic's own word
        return no_info_before_validator_function(lambda value: [value] if isinstance(value, str) else value, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        several = handler(schema)
        if "minLength" in several:  # of a tuple pydantic says the length as if it were a text
            several["minItems"] = several.pop("minLength")
        return {"anyOf": [several["items"], several]}


OneOrMore = _OneOrMore()
Names = Annotated[list[Name], OneOrMore, Field(min_length=1)]
Limits = Annotated[tuple[LimitPhrase, ...], OneOrMore, Field(min_length=1)]

Severity = Literal["low", "medium", "high", "critical"]
Sensitivity = Literal["internal", "confidential", "ip-sensitive", "pii"]
Transit = Literal["any", "tls1.2", "tls1.3"]
AtRest = Literal["encrypted", "customer-key"]
OffSite = Literal["never", "approved", "pseudonymised"]
Depth = Literal["decoded", "server-log", "sizes"]
Operation = Literal[
    "connect", "refused", "admin", "select", "insert", "update", "delete", "copy", "replicate", "backup", "ddl", "call", "publish",
    "subscribe", "browse", "read", "history-read", "write", "history-write", "get", "put", "query", "transfer", "attempt",
]  # fmt: skip
AccountKind = Literal["service", "vendor", "person", "break-glass"]
Authentication = Literal["certificate", "scram-sha-256", "short-lived", "password", "kerberos", "token", "md5", "none"]

# Weakest first: what a hop states must stand at or after what its classes demand.
TRANSIT_ORDER: tuple[Transit, ...] = ("any", "tls1.2", "tls1.3")
AT_REST_ORDER: tuple[AtRest | None, ...] = (None, "encrypted", "customer-key")
SENSITIVITY_ORDER: tuple[Sensitivity, ...] = ("internal", "confidential", "ip-sensitive", "pii")
SENSITIVITY_SEVERITY: dict[Sensitivity, Severity] = {"internal": "low", "confidential": "medium", "ip-sensitive": "high", "pii": "high"}


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=False, str_strip_whitespace=False)


class Approval(_Model):
    """Who approved, under which ticket, on which day and until when."""

    by: Phrase
    ticket: Phrase | None = None
    date: Day | None = None
    until: Day | None = None


class DataClass(_Model):
    """The rules every hop that carries the class must meet. Classes are listed lowest first."""

    sensitivity: Sensitivity
    transit: Transit
    keep_max: DurationPhrase
    off_site: OffSite = "never"
    at_rest: AtRest | None = None
    gdpr: Bool = False


class Terms(_Model):
    """The contract with whoever runs an off-site zone."""

    ref: Phrase
    until: Day


class Zone(_Model):
    """A zone (IEC 62443-3-2): nets, or names, are how an address becomes part of it."""

    level: Level
    sl_t: SecurityLevel | None = None
    nets: list[Net] = []
    names: list[Glob] = []
    off_site: Bool = False
    country: Annotated[str, Field(pattern=r"^[A-Z]{2}$")] | None = None
    operator: Phrase | None = None
    terms: Terms | None = None
    note: Phrase | None = None


class Asset(_Model):
    """Something data comes from or goes to; the other addresses keep its identity through a failover."""

    zone: Name
    kind: Name
    at: At | None = None
    members: Annotated[list[At], OneOrMore] = []
    standby: Annotated[list[At], OneOrMore] = []
    vip: At | None = None
    replication: Name | None = None
    database: Name | None = None
    system_of_record: Bool = False
    relay: Bool = False
    note: Phrase | None = None

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Every place the asset answers: at, members, standby, virtual address."""
        at = () if self.at is None else (self.at,)
        vip = () if self.vip is None else (self.vip,)
        return (*at, *self.members, *self.standby, *vip)


class Service(_Model):
    """Infrastructure: ``to`` are its servers, ``from`` who may dial them (zones, assets or addresses)."""

    protocol: Name | None = None
    ports: list[Port] = []
    may: list[Operation] = []
    to: Annotated[list[Glob], OneOrMore, Field(min_length=1)]
    from_: Annotated[list[Glob], OneOrMore, Field(min_length=1, alias="from")]
    cap: LimitPhrase
    when: SchedulePhrase | None = None
    note: Phrase | None = None


class DataObject(_Model):
    """Objects on the wire and their class; without globs, everything the assets hold."""

    class_: Annotated[Name, Field(alias="class")]
    in_: Annotated[list[Name], OneOrMore, Field(min_length=1, alias="in")]
    tables: Annotated[list[Glob], OneOrMore] = []
    columns: Annotated[list[Glob], OneOrMore] = []
    topics: Annotated[list[Glob], OneOrMore] = []
    nodes: Annotated[list[Glob], OneOrMore] = []
    paths: Annotated[list[Glob], OneOrMore] = []
    rows: Int | None = None
    decoy: Bool = False
    note: Phrase | None = None


class Account(_Model):
    """An account that may appear on the wire, and the hosts it may come from."""

    kind: AccountKind
    owner: Phrase
    from_: Annotated[list[Glob], OneOrMore, Field(min_length=1, alias="from")]
    auth: Authentication
    rotate: DurationPhrase | None = None
    expires: Day | None = None
    identities: Annotated[list[Glob], OneOrMore] = []
    applications: Annotated[list[Glob], OneOrMore] = []
    roles: Annotated[list[Glob], OneOrMore] = []
    limit: Annotated[tuple[LimitPhrase, ...], OneOrMore] = ()
    needs: Literal["ticket"] | None = None
    note: Phrase | None = None


class Conduit(_Model):
    """A door between zones and how deep its agent can look."""

    from_: Annotated[list[Name], OneOrMore, Field(min_length=1, alias="from")]
    to: Annotated[list[Name], OneOrMore, Field(min_length=1)]
    agent: Name
    sees: Depth
    feed: Name | None = None
    terminator: Name | None = None
    keylog: Name | None = None
    through: Name | None = None
    note: Phrase | None = None


class Protect(_Model):
    """What a hop promises about protection, beyond what its classes demand."""

    transit: Transit | None = None
    at_rest: AtRest | None = None
    evidence: Phrase | None = None
    pseudonymise: Annotated[list[Glob], OneOrMore] = []


class Gdpr(_Model):
    """Why personal data may move (GDPR Art. 6, 30, 35, 44)."""

    basis: Phrase
    ropa: Phrase | None = None
    dpia: Phrase | None = None
    transfer: Phrase | None = None


class Hop(_Model):
    """One approved movement of data; its ends follow the data, not who opened the connection."""

    who: Name
    from_: Annotated[list[Name], OneOrMore, Field(min_length=1, alias="from")]
    to: Annotated[list[Name], OneOrMore, Field(min_length=1)]
    via: Name | None = None
    may: Annotated[list[Operation], OneOrMore, Field(min_length=1)]
    what: Annotated[list[Name], OneOrMore, Field(min_length=1)]
    without: Annotated[list[Glob], OneOrMore] = []
    when: SchedulePhrase | None = None
    limit: Limits
    protect: Protect = Protect()
    keep: KeepPhrase
    why: Phrase
    gdpr: Gdpr | None = None
    validated: Phrase | None = None
    approved: Approval | None = None
    tags: Annotated[list[Name], OneOrMore] = []
    agent: Name | None = None
    sees: Depth | None = None
    feed: Name | None = None
    terminator: Name | None = None
    keylog: Name | None = None
    note: Phrase | None = None


class Budget(_Model):
    """What may leave in all, whatever the hop: by class and destination zone, or by the accounts of an owner."""

    class_: Annotated[Name | None, Field(alias="class")] = None
    to: Name | None = None
    owner: Phrase | None = None
    limit: Limits

    @property
    def title(self) -> str:
        """Which movements it counts together."""
        return f"all hops with {self.class_} to {self.to}" if self.owner is None else f"all hops of owner {self.owner}"


class CalendarLine(_Model):
    """A planned time (maintenance, holiday, shift, month end) in which named hops may move more or at other hours."""

    what: Phrase
    when: SchedulePhrase
    hops: Names
    limit: FactorPhrase | None = None
    ticket: Phrase
    by: Phrase | None = None
    until: Day | None = None


class PlannedException(_Model):
    """One hop loosened for stated hours, or a ``needs: ticket`` account let to work on one asset."""

    hop: Name | None = None
    account: Name | None = None
    asset: Name | None = None
    may: Annotated[list[Operation], OneOrMore] = []
    limit: Annotated[tuple[LimitPhrase, ...], OneOrMore] = ()
    when: SchedulePhrase
    ticket: Phrase
    by: Phrase


class PlantFile(_Model):
    """A whole declaration, as written."""

    plant: Name
    version: Int
    owner: Phrase
    approved: Approval
    review_by: Day
    timezone: Timezone
    unlisted: Severity = "critical"
    classes: dict[Name, DataClass]
    zones: dict[Name, Zone]
    assets: dict[Name, Asset]
    services: dict[Name, Service] = {}
    data: dict[Name, DataObject] = {}
    accounts: dict[Name, Account] = {}
    conduits: dict[Name, Conduit] = {}
    hops: dict[Name, Hop] = {}
    budgets: list[Budget] = []
    calendar: list[CalendarLine] = []
    exceptions: dict[Name, PlannedException] = {}


class Declaration(_Model):
    """Which declaration a finding was judged against; ``model_dump()`` is the object findings carry.

    ``approval`` is the sentence behind ``signed``: by whom, or why not.
    """

    plant: str
    version: int
    commit: str | None
    signed: bool
    approval: Annotated[str, Field(exclude=True)] = "no signature was checked"


class Architecture(PlantFile):
    """A declaration that loaded: what is written, where each part of it stands, and how it was approved.

    ``lines`` maps a path such as ``("hops", "lake-upload", "limit")`` to its line in the file; entries of lists count from "0".
    ``problems`` holds what the day asked makes of the expiries, and what git says; none of it refuses the file.
    """

    declaration: Declaration
    file: str
    lines: dict[tuple[str, ...], int]
    problems: tuple[Problem, ...] = ()

    def class_order(self, name: str) -> int:
        """Place of a class in the file, lowest first."""
        return list(self.classes).index(name)

    def hop_zones(self, hop: Hop) -> tuple[frozenset[str], frozenset[str]]:
        """Zones the hop's data leaves and reaches; an end may be an asset or a zone."""
        return frozenset(self.zones_of(hop.from_)), frozenset(self.zones_of(hop.to))

    def zones_of(self, ends: list[str]) -> Iterator[str]:
        """The zone of every named asset or zone; names that are neither are left out."""
        for end in ends:
            if end in self.assets:
                yield self.assets[end].zone
            elif end in self.zones:
                yield end

    def hop_until(self, hop: Hop) -> date:
        """Last day the hop approves anything: its own ``until``, else the file's ``review_by``."""
        return hop.approved.until if hop.approved is not None and hop.approved.until is not None else self.review_by

    def calendar_until(self, line: CalendarLine) -> date:
        """Last day a calendar line loosens anything."""
        return line.until or self.review_by

    def off_site(self, hop: Hop) -> bool:
        """Whether the hop's data reaches a zone that is off site."""
        return any(self.zones[zone].off_site for zone in self.zones_of(hop.to))

    def hop_objects(self, hop: Hop) -> dict[str, list[str]]:
        """The data a hop meets, each with its classed columns that ``without`` leaves in.

        A column glob classes that column in every table of its asset, so a hop that names tables also meets the
        columns that other data class there. Data whose columns ``without`` removes altogether is only met if ``what`` names it.
        """
        met: dict[str, list[str]] = {}
        tables_of: set[str] = set()
        for name in hop.what:
            data = self.data[name]
            met[name] = _remaining(data.columns, hop.without)
            if data.tables or not (data.topics or data.nodes or data.paths or data.columns):
                tables_of.update(data.in_)
        for name, data in self.data.items():
            remaining = _remaining(data.columns, hop.without)
            if name not in met and remaining and data.class_ in self.classes and tables_of & set(data.in_):
                met[name] = remaining
        return met

    def hop_classes(self, hop: Hop) -> list[str]:
        """The classes a hop meets, lowest first."""
        met = {self.data[name].class_ for name in self.hop_objects(hop)}
        return [name for name in self.classes if name in met]

    def hop_transit(self, hop: Hop) -> Transit:
        """What the hop demands in transit: its own word, else the strictest minimum of its classes."""
        if hop.protect.transit is not None:
            return hop.protect.transit
        return max((self.classes[name].transit for name in self.hop_classes(hop)), key=TRANSIT_ORDER.index, default="any")

    def hop_budgets(self, hop: Hop) -> list[Budget]:
        """The budgets that what moves over the hop is charged to as well, in file order."""
        classes, reached = set(self.hop_classes(hop)), set(self.zones_of(hop.to))
        owner = self.accounts[hop.who].owner
        return [
            budget
            for budget in self.budgets
            if (budget.owner in (None, owner))
            and (budget.class_ is None or budget.class_ in classes)
            and (budget.to is None or budget.to in reached or (budget.to == OFF_SITE and self.off_site(hop)))
        ]

    def hop_sees(self, hop: Hop) -> Depth:
        """How deep the hop's traffic is promised to be read: its conduit's word, else its own, else decoded."""
        if hop.via is not None:
            return self.conduits[hop.via].sees
        return hop.sees or "decoded"


def glob_covers(glob: str, other: str) -> bool:
    """Whether every name the glob ``other`` stands for is one that ``glob`` stands for, as far as the text proves it."""
    return fnmatchcase(other, glob)


def _remaining(columns: list[str], without: list[str]) -> list[str]:
    return [column for column in columns if not any(glob_covers(glob, column) for glob in without)]
