"""The vocabulary: what every room of the house says to another, one JSON object a line.

An agent says ``flow`` (one window of one movement of data), ``loss`` (what it could not see) and ``heartbeat``; a detector
says ``finding``; a person says ``declared`` (what may move, from now on); a run ends with a ``summary``. Fields a reader does
not know are kept, so that a newer agent can talk through an older engine. Times stay text, because RFC 3339 leaves the number
of digits open and a float or a datetime would lose the nanoseconds of a capture; ``time_ns`` gives the integer to compute with.

Windows are what there are many of, so a flow and its parts are msgspec structs, whose reader takes only what is plainly right. From
the same fields the pydantic model is made that the schema is published from, and that judges whatever the reader did not take: it
names the field that is wrong, reads numbers that came as text, keeps what a newer agent says. Both say the same of every line.

No payload, row value, SQL literal, password or token is part of any event.
"""

import json
import re
from calendar import timegm
from collections.abc import Sequence
from copy import deepcopy
from datetime import date, timedelta
from functools import cache, lru_cache
from typing import Annotated, Any, ClassVar, Final, Literal, Self, Union, cast, get_args, get_origin

from msgspec import NODEFAULT, UNSET, Meta, MsgspecError, Struct, UnsetType, convert, field, to_builtins
from msgspec.json import Decoder, decode
from msgspec.structs import FieldInfo, fields, replace
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError, create_model

OBJECTS_MAX: Final = 64
"""Object sets in one flow window; a window that would hold more ends and another opens."""

COUNT_MAX: Final = 2**63 - 1
"""The largest count an event carries: what a store's column holds."""

EVIDENCE_MAX: Final = 256
"""Event ids a finding quotes; beyond it only the count grows."""

RATIO_MAX: Final = 1e9
"""The largest ratio an event carries; what is over a limit of nothing has it."""

TREES_MAX: Final = 64
"""Folders between the root of a repository and a declaration."""

COMMITS_MAX: Final = 2
"""Signed commits that may approve one declaration: the one that changed it, and the merge that took it in."""

_TIME: Final = re.compile(r"(\d{4})-(\d{2})-(\d{2})[Tt](\d{2}):(\d{2}):(\d{2})(?:\.(\d{1,18}))?([Zz]|[+-]\d{2}:\d{2})", re.ASCII)

Time = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d{1,18})?([Zz]|[+-]\d{2}:\d{2})$")]
"""An instant as RFC 3339 text (RFC 3339, 5.6), as many digits as were known."""

# What binds a value is written for both readers.
Count = Annotated[int, Field(ge=0, le=COUNT_MAX), Meta(ge=0, le=COUNT_MAX)]
Correction = Annotated[int, Field(ge=-COUNT_MAX, le=COUNT_MAX), Meta(ge=-COUNT_MAX, le=COUNT_MAX)]
"""A count that may be negative in one window, when a server's tag corrects an estimated running COPY IN."""

Port = Annotated[int, Field(ge=0, le=65535), Meta(ge=0, le=65535)]
Side = Literal["source", "destination"]
Answer = Literal["checked", "assumed", "unknown"]
State = Literal["complete", "lossy", "late", "one-sided", "encrypted", "malformed"]
Depth = Literal["decoded", "server-log", "sizes", "blind"]
Severity = Literal["info", "low", "medium", "high", "critical"]
AlertState = Literal["new", "in-progress", "suppressed", "resolved"]
AlertChange = Literal["raised", "updated", "raised-again", "decided", "returned", "inhibited", "released"]
Disposition = Literal["true-positive", "benign-trigger", "false-positive", "duplicate", "test"]

SEVERITIES: Final[tuple[Severity, ...]] = ("info", "low", "medium", "high", "critical")
QUESTIONS: Final = ("who", "what", "where", "how_much", "when", "protection")


class EventError(ValueError):
    """A line that is no event; the message names the field and never quotes the value."""


class _Said(BaseModel):
    """What every part of an event shares: unknown fields are kept."""

    model_config = ConfigDict(extra="allow")


class Part(Struct, gc=False, forbid_unknown_fields=True):
    """A window or a part of one; the three methods are those that the models of the other events have.

    A field that is UNSET unless it was said is no field of the contract: it is kept as unknown ones are, and known by name here.
    """

    @classmethod
    def model_validate(cls, said: object) -> Self:
        """The same from JSON values.

        Raises:
            ValidationError: a field is missing, or of another type.
        """
        made: Self = _read(model(cls).model_validate(said).model_dump(), cls)
        return made

    def model_dump(self) -> dict[str, Any]:  # Any: JSON values
        """Everything it says, as JSON values."""
        said: dict[str, Any] = to_builtins(self)
        return said

    def model_copy(self, *, update: dict[str, Any] | None = None) -> Self:  # Any: fields of the part
        """The same with other fields."""
        return replace(self, **(update or {}))


class Name(Part):
    """A name of an address and who said so: ``dns`` is an answer seen on the wire, ``sni`` only the sender's claim.

    ``connect``, ``absolute-form`` and ``socks`` name the destination a relay was asked for, with its ``port``.
    """

    name: str
    by: str
    port: int | UnsetType = UNSET


class Endpoint(Part):
    """One end of a flow; ``port`` is 0 where the transport has none."""

    address: str
    port: Port = 0
    names: list[Name] = []


class ObjectSet(Part):
    """What one kind of statement or message touched; the counts of a join over several tables are never split.

    ``marks`` say by kind what was done besides; ``kinds`` has them for whoever asks.
    """

    names: list[str]
    columns: list[str] = []
    rows: Correction = 0
    values: Correction = 0
    messages: Correction = 0
    bytes: Count = 0
    marks: list[str] | UnsetType = UNSET

    @property
    def kinds(self) -> Sequence[str]:
        """The marks; none where none was said."""
        return () if self.marks is UNSET else self.marks


class Totals(Part):
    """The flow so far, this window included."""

    rows: Correction = 0
    values: Correction = 0
    messages: Correction = 0
    bytes: Count = 0
    bytes_back: int | UnsetType = UNSET


class Protection(Part):
    """How the connection is protected; ``certificate`` describes the server's, None if none was seen."""

    transport: str = "none"
    authentication: str | None = None
    certificate: dict[str, Any] | str | None = None  # Any: certificate fields are the collectors' own
    cipher: str | UnsetType = UNSET
    policy: str | UnsetType = UNSET
    ja4: str | UnsetType = UNSET
    ech: bool | UnsetType = UNSET


class Completeness(Part):
    """How much of the window the agent could see."""

    state: State = "complete"
    lost_bytes: Count = 0
    joined_late: bool = False
    one_sided: bool = False
    estimated: bool = False


class _Timed:
    """When something began and ended, in nanoseconds: what its times say, read once; no field, and not said.

    ``mark`` is what its reader gave to it and to every window that says the same but for client, identities, times and amounts (see
    ``hopwatch.lines``); None if nobody knows that of it.
    """

    __slots__ = ("end_ns", "mark", "start_ns")
    start_ns: int
    end_ns: int
    mark: object | None


class Flow(Part, _Timed, kw_only=True, tag_field="kind", tag="flow"):
    """One window of one movement; source and destination follow the data, ``opened_by`` says who dialled."""

    kind: ClassVar[Literal["flow"]] = "flow"
    event_id: str
    plant: str
    agent: str
    tap: str | None = None
    context: str | None = None
    connection: str
    flow_id: str
    sequence: Count
    final: bool = False
    start: Time
    end: Time
    source: Endpoint
    destination: Endpoint
    opened_by: Side | None = None
    transport: str = "tcp"
    protocol: str | None = None
    account: str | None = None
    account_from: str | None = None
    role: str | None = None
    on_behalf_of: dict[str, Any] | str | None = None  # Any: what an application claims has no fixed shape
    application: str | None = None
    operation: str
    statement: str | None = None
    objects: Annotated[list[ObjectSet], Field(max_length=OBJECTS_MAX), Meta(max_length=OBJECTS_MAX)] = []
    rows: Correction = 0
    values: Correction = 0
    messages: Correction = 0
    bytes: Count = 0
    bytes_back: Count = 0
    packets: Count = 0
    totals: Totals = field(default_factory=Totals)
    protection: Protection = field(default_factory=Protection)
    depth: Depth
    seen_by: str = "tap"
    completeness: Completeness = field(default_factory=Completeness)
    agent_sequence: int | UnsetType = UNSET
    spool: str | UnsetType = UNSET
    merged: dict[str, Any] | UnsetType = UNSET  # Any: JSON values; an agent's word for windows it had to make one of

    def __post_init__(self) -> None:
        self.start_ns, self.end_ns = time_ns(self.start), time_ns(self.end)
        self.mark = None

    @property
    def sequence_first(self) -> int:
        """The number of the first window that this one stands for; its own, if for no other."""
        first = None if self.merged is UNSET else self.merged.get("sequence_first")
        return first if isinstance(first, int) and 0 <= first <= self.sequence else self.sequence


class _Newer(Flow):
    """A window with fields this version does not know, at whatever depth: ``said`` has them."""

    said: dict[str, Any]  # Any: JSON values

    def model_dump(self) -> dict[str, Any]:  # Any: JSON values
        flow: dict[str, Any] = {name: one for name, one in to_builtins(self).items() if name != "said"}
        whole: dict[str, Any] = _with_unknown(flow, self.said)
        return whole

    def model_copy(self, *, update: dict[str, Any] | None = None) -> Self:  # Any: fields of the part
        return replace(self, said=self.said | to_builtins(update or {}), **(update or {}))


def _with_unknown(known: Any, said: Any) -> Any:  # Any: JSON values
    """What is known, and the fields that ``said`` has besides."""
    if isinstance(known, list) and isinstance(said, list):
        return [_with_unknown(one, other) for one, other in zip(known, said, strict=True)]
    if not (isinstance(known, dict) and isinstance(said, dict)):
        return known
    whole = {name: _with_unknown(one, said.get(name)) for name, one in known.items()}
    return whole | {name: deepcopy(one) for name, one in said.items() if name not in whole}


class Loss(_Said):
    """What an agent knows it has not seen, in the same stream as what it saw."""

    kind: Literal["loss"] = "loss"
    event_id: str
    plant: str
    agent: str
    stage: Literal["kernel", "capture", "stream", "decoder", "spool", "collector"]
    start: Time
    end: Time
    packets: Count = 0
    bytes: Count = 0
    events: Count = 0
    flows: list[str] = []
    why: str = ""


class ConduitHealth(_Said):
    """How deep an agent sees on one conduit right now."""

    name: str
    depth: Depth
    one_sided_share: float = 0.0
    copies: Count = 0


class Clock(_Said):
    """An agent's clock against its reference."""

    offset_s: float = 0.0
    error_s: float = 0.0
    synchronised: bool = True


class Heartbeat(_Said):
    """An agent lives; its absence is a finding of its own."""

    kind: Literal["heartbeat"] = "heartbeat"
    event_id: str
    plant: str
    agent: str
    time: Time
    version: str = ""
    conduits: list[ConduitHealth] = []
    clock: Clock | None = None
    counters: dict[str, Any] = {}  # Any: counters are the agent's own


class Difference(_Said):
    """One question on which what was observed is not what was declared."""

    question: str
    declared: str
    observed: str


class Declaration(_Said):
    """The declaration a finding was judged against."""

    plant: str
    version: int
    commit: str | None = None
    signed: bool = False


class Observed(_Said):
    """What a finding has accumulated since it was first seen."""

    rows: int = 0
    values: int = 0
    messages: int = 0
    bytes: int = 0
    objects: list[str] = []
    classes: list[str] = []


class Finding(_Said):
    """A difference between what moved and what may move; the same identity is one finding, updated.

    ``ratio`` is the largest amount so far over what is allowed or usual, ``class_severities`` how bad each of the classes is as declared;
    ``resumed`` is when it last went on after 24 hours of quiet, and ``agent`` who watches what it is about, where that is its point.
    """

    kind: Literal["finding"] = "finding"
    event_id: str
    finding_id: str
    verdict: str
    severity: Severity
    plant: str
    first_seen: Time
    last_seen: Time
    windows: Count = 1
    who: str | None = None
    client: str | None = None
    source: str
    destination: str
    observed: Observed = Observed()
    checked: dict[str, Answer] = {}
    nearest_hop: str | None = None
    differences: list[Difference] = []
    declaration: Declaration | None = None
    evidence: list[str] = Field(default=[], max_length=EVIDENCE_MAX)
    completeness: State = "complete"
    ratio: Annotated[float, Field(ge=0, le=RATIO_MAX)] | None = None
    class_severities: dict[str, Severity] = {}
    resumed: Time | None = None
    agent: str | None = None


class Alert(_Said):
    """One revision of what a person is to act on: one alert a finding, from its first sight to its disposition.

    ``event_id`` hashes alert and revision, so a repeated one is recognised; ``revision`` is dense from 0. ``change`` says what made
    this revision and ``why`` in one line how; ``notify`` whether a person is told of it, or only the record. ``techniques`` are ids
    of ATT&CK; ``hidden`` counts what suppression, shelving or inhibition kept quiet. A ``canary`` tests a destination and is no alert.
    """

    kind: Literal["alert"] = "alert"
    event_id: str
    alert_id: str
    revision: Count = 0
    plant: str
    time: Time
    change: AlertChange
    why: str = ""
    notify: bool = True
    state: AlertState = "new"
    disposition: Disposition | None = None
    severity: Severity
    severity_because: str = ""
    techniques: list[str] = []
    group: str = ""
    raised: Time
    notified: Count = 0
    hidden: Count = 0
    owner: str | None = None
    shelved_until: Time | None = None
    suppressed_by: str | None = None
    inhibited_by: str | None = None
    page: str = ""
    canary: bool = False
    finding: Finding


class Decision(_Said):
    """What a person decided about one alert, or about every alert whose fields are those of ``scope``.

    ``scope`` may name ``verdict``, ``who``, ``source``, ``destination``, ``hop`` and ``client``; ``ticket`` is whose authority it has.
    """

    kind: Literal["decision"] = "decision"
    event_id: str
    plant: str
    time: Time
    person: str
    action: Literal["acknowledge", "comment", "suppress", "unsuppress", "shelve", "unshelve", "resolve", "reopen"]
    reason: str
    alert_id: str | None = None
    scope: dict[str, str] = {}
    until: Time | None = None
    disposition: Disposition | None = None
    ticket: str | None = None


class CommitProof(_Said):
    """A signed git commit that holds a declaration, whole enough to be checked without its repository.

    ``content`` is the commit object and ``trees`` the tree objects from its root down to the file at ``path``, all in base64:
    each names the next by its hash, the last one the file. ``authors`` wrote what the commit brought.
    """

    id: str
    path: str
    content: str
    trees: list[str] = Field(default=[], max_length=TREES_MAX)
    authors: list[str] = []


class DeclaredEdition(_Said):
    """A plant's declaration as someone applied it: the file itself, so that every detector judges by the same bytes.

    The file is ``content`` as text, or where that is long ``packed``: zlib (RFC 1950) in base64; ``digest`` is the SHA-256 of
    its bytes. ``signed``, ``signer`` and ``approval`` are what the host that applied it found; a reader with approver keys checks
    ``signature`` (the file beside the declaration, as it is) and ``commits`` itself. ``allowed`` names what was overridden to
    apply it: ``unsigned``, ``older``, ``dirty``.
    """

    kind: Literal["declared"] = "declared"
    event_id: str
    plant: str
    version: Count
    time: Time
    file: str = "plant.yaml"
    digest: str
    content: str | None = None
    packed: str | None = None
    commit: str | None = None
    signed: bool = False
    signer: str | None = None
    approval: str = ""
    signature: str | None = None
    authors: list[str] = []
    commits: list[CommitProof] = Field(default=[], max_length=COMMITS_MAX)
    allowed: list[str] = []


class Lost(_Said):
    """How much a run did not see."""

    packets: Count = 0
    bytes: Count = 0


class Summary(_Said):
    """The last line of a run; ``copies`` are packets that a mirror showed again, ``one_sided_share`` is of TCP connections."""

    kind: Literal["summary"] = "summary"
    packets: Count = 0
    bytes: Count = 0
    copies: Count = 0
    one_sided_share: float = 0.0
    windows: Count = 0
    findings: dict[str, int] = {}
    lost: Lost = Lost()
    seconds: float = 0.0


Event = Flow | Loss | Heartbeat | Finding | Alert | Decision | DeclaredEdition | Summary


class _Other(Struct, tag_field="kind", tag=""):
    """With a second kind to choose from, the reader insists that a line says which it is."""


_plainly: Final = Decoder(Flow | _Other).decode


def parse(line: bytes | str) -> Event:
    """The event a line holds.

    Raises:
        EventError: the line is no event; the message says which field and why, without quoting it.
    """
    try:
        flow = _plainly(line)
        if isinstance(flow, Flow):
            return flow
    except (MsgspecError, ValueError, RecursionError):
        pass
    return _newer(line) or _judged(line)


def _newer(line: bytes | str) -> Flow | None:
    """The window of an agent that says more than this version knows; None if that is not all that is unusual."""
    try:
        said = decode(line)
        if said["kind"] != "flow":
            return None
        return convert(_known(said, Flow) | {"said": said}, _Newer)
    except (MsgspecError, ValueError, LookupError, TypeError, RecursionError):
        return None


def _known(said: Any, part: type[Part]) -> Any:  # Any: JSON values
    """The fields that the part and the parts in it know."""
    if isinstance(said, list):
        return [_known(one, part) for one in said]
    if not isinstance(said, dict):
        return said
    inner = _inner(part)
    return {name: one if (of := inner[name]) is None else _known(one, of) for name, one in said.items() if name in inner}


def _judged(line: bytes | str) -> Event:
    """The event of a line that is no plain window, by the models."""
    try:
        event = _models().validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "line"
        raise EventError(f"{place}: {first['type']}") from None
    _check_times(event)
    if event.kind != "flow":
        return cast(Event, event)  # one of the other models
    said = event.model_dump()
    flow: Flow = _read(said, Flow)
    return flow if flow.model_dump() == said else _Newer(said=said, **{one.name: getattr(flow, one.name) for one in _fields(Flow)})


def dump(event: Event) -> bytes:
    """The event as one line of JSON without the line end: equal events give equal bytes."""
    # mode="json" would stringify what it does not know; events hold JSON only, so python mode shows a mistake instead.
    return line_of(event.model_dump())


def line_of(event: dict[str, Any]) -> bytes:  # Any: JSON values, as ``model_dump`` gives them.
    """The same of an event as a dictionary."""
    return json.dumps(event, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def schema() -> dict[str, Any]:  # Any: a JSON Schema document
    """The JSON Schema of one event (JSON Schema 2020-12), as published in ``docs/events.schema.json``."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "hopwatch event"} | _models().json_schema()


@cache
def _models() -> TypeAdapter[Any]:  # Any: one of the models
    """The judge of any event, made when it is first needed."""
    every = (model(Flow) if one is Flow else one for one in get_args(Event))
    # The members are computed, which neither checker follows.
    return TypeAdapter(Annotated[Union[tuple(every)], Field(discriminator="kind")])  # type: ignore[arg-type]  # noqa: UP007


@cache
def model(part: type[Part]) -> type[BaseModel]:
    """The pydantic model of the same fields; unknown ones are kept."""
    made: dict[str, Any] = {"kind": (Literal["flow"], "flow")} if part is Flow else {}  # Any: a type, or a type and a default
    for one in fields(part):
        if one.required:
            made[one.name] = _modelled(one.type)
        elif one.default is not UNSET:
            empty = one.default if one.default_factory is NODEFAULT else one.default_factory()
            made[one.name] = (_modelled(one.type), model(type(empty))() if isinstance(empty, Part) else empty)
    return create_model(part.__name__, __base__=_Said, __doc__=part.__doc__, __module__=__name__, **made)


def _modelled(said: Any) -> Any:  # Any: a type as it is annotated
    """The type with models in the place of parts."""
    if get_origin(said) is Annotated:
        of, *bounds = get_args(said)
        return Annotated[(_modelled(of), *bounds)]
    if get_origin(said) is list:
        return list[_modelled(get_args(said)[0])]  # type: ignore[misc]  # a type that is computed
    return model(said) if isinstance(said, type) and issubclass(said, Part) else said


def _read(said: Any, of: Any) -> Any:  # Any: a JSON value, and the value of the type
    """What a model said, as the type; a field that has no place there, or is UNSET unless it is of a type that this is not, is left out."""
    if get_origin(of) is Annotated:
        return _read(said, get_args(of)[0])
    if get_origin(of) is list:
        return [_read(one, get_args(of)[0]) for one in said]
    if not (isinstance(of, type) and issubclass(of, Part)):
        return said
    known = [one for one in _fields(of) if one.name in said]
    fit = [one for one in known if one.default is not UNSET or any(_is(said[one.name], kind) for kind in get_args(one.type))]
    return of(**{one.name: _read(said[one.name], one.type) for one in fit})


def _is(said: Any, of: Any) -> bool:  # Any: a JSON value, and a type
    """Whether a value is of the very type; of a list, each of its members."""
    if get_origin(of) is list:
        return type(said) is list and all(_is(one, get_args(of)[0]) for one in said)
    return type(said) is (get_origin(of) or of)


@cache
def _fields(part: type[Part]) -> tuple[FieldInfo, ...]:
    return fields(part)


@cache
def _inner(part: type[Part]) -> dict[str, type[Part] | None]:
    """The part's fields, and the parts in them."""
    inner = {one.name: next((of for of in _types(one.type) if isinstance(of, type) and issubclass(of, Part)), None) for one in fields(part)}
    return inner | ({"kind": None} if part is Flow else {})


def _types(said: Any) -> list[Any]:  # Any: a type as it is annotated, and those it is made of
    return [said, *(inner for of in get_args(said) for inner in _types(of))]


# A text is read where the line is, where time passes and where it is judged; once is enough.
@lru_cache(maxsize=8_192)
def time_ns(time: str) -> int:
    """Nanoseconds since 1970-01-01T00:00:00Z; digits beyond the ninth are cut.

    Raises:
        ValueError: the text is no RFC 3339 instant.
    """
    if time[19:20] == "." and time[-1:] == "Z":
        fraction = time[20:-1]
        if len(fraction) <= 18 and fraction.isascii() and fraction.isdigit():
            return _whole_ns(time[:19]) + int(fraction if len(fraction) == 9 else fraction.ljust(9, "0")[:9])
    return _second_ns(time)


# Many windows begin or end within one second.
@lru_cache(maxsize=4_096)
def _whole_ns(time: str) -> int:
    return _second_ns(f"{time}Z")


def _second_ns(time: str) -> int:
    match = _TIME.fullmatch(time)
    if match is None:
        raise ValueError("expected an RFC 3339 time such as 2026-04-07T10:42:08.000000001Z")
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    # Second 60 is a leap second (RFC 3339, 5.7); timegm carries it into the next minute.
    if not (1 <= month <= 12 and 1 <= day <= 31 and hour <= 23 and minute <= 59 and second <= 60):
        raise ValueError("expected an RFC 3339 time whose fields are in range")
    seconds = timegm((year, month, day, hour, minute, second))
    zone = match[8]
    if zone not in "Zz":
        offset_s = int(zone[1:3]) * 3600 + int(zone[4:6]) * 60
        seconds -= offset_s if zone[0] == "+" else -offset_s
    return seconds * 10**9 + int((match[7] or "0").ljust(9, "0")[:9])


def time_text(instant_ns: int) -> str:
    """The instant in UTC, with no more digits than it needs."""
    seconds, fraction_ns = divmod(instant_ns, 10**9)
    days, in_day_s = divmod(seconds, 86_400)
    year, month, day = _civil(days)
    fraction = f".{fraction_ns:09d}".rstrip("0") if fraction_ns else ""
    return f"{year:04d}-{month:02d}-{day:02d}T{in_day_s // 3600:02d}:{in_day_s // 60 % 60:02d}:{in_day_s % 60:02d}{fraction}Z"


def _civil(days: int) -> tuple[int, int, int]:
    """Year, month and day of a count of days since 1970-01-01, by the proleptic Gregorian calendar."""
    day = date(1970, 1, 1) + timedelta(days=days)
    return day.year, day.month, day.day


def _check_times(event: BaseModel) -> None:
    """The schema's pattern admits month 13; refuse it here, where the sender can still be named."""
    for name in ("start", "end", "time", "first_seen", "last_seen"):
        if name in event.__dict__:
            try:
                time_ns(event.__dict__[name])
            except ValueError as error:
                raise EventError(f"{name}: {error}") from None
