"""The vocabulary: what every room of the house says to another, one JSON object a line.

An agent says ``flow`` (one window of one movement of data), ``loss`` (what it could not see) and ``heartbeat``; a detector
says ``finding``; a person says ``declared`` (what may move, from now on); a run ends with a ``summary``. Fields a reader does
not know are kept, so that a newer agent can talk through an older engine. Times stay text, because RFC 3339 leaves the number
of digits open and a float or a datetime would lose the nanoseconds of a capture; ``time_ns`` gives the integer to compute with.

No payload, row value, SQL literal, password or token is part of any event.
"""

import json
import re
from calendar import timegm
from datetime import date, timedelta
from functools import lru_cache
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

OBJECTS_MAX: Final = 64
"""Object sets in one flow window; a window that would hold more ends and another opens."""

COUNT_MAX: Final = 2**63 - 1
"""The largest count an event carries: what a store's column holds."""

EVIDENCE_MAX: Final = 256
"""Event ids a finding quotes; beyond it only the count grows."""

TREES_MAX: Final = 64
"""Folders between the root of a repository and a declaration."""

COMMITS_MAX: Final = 2
"""Signed commits that may approve one declaration: the one that changed it, and the merge that took it in."""

_TIME: Final = re.compile(r"(\d{4})-(\d{2})-(\d{2})[Tt](\d{2}):(\d{2}):(\d{2})(?:\.(\d{1,18}))?([Zz]|[+-]\d{2}:\d{2})", re.ASCII)

Time = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d{1,18})?([Zz]|[+-]\d{2}:\d{2})$")]
"""An instant as RFC 3339 text (RFC 3339, 5.6), as many digits as were known."""

Count = Annotated[int, Field(ge=0, le=COUNT_MAX)]
Correction = Annotated[int, Field(ge=-COUNT_MAX, le=COUNT_MAX)]
"""A count that may be negative in one window, when a server's tag corrects an estimated running COPY IN."""

Port = Annotated[int, Field(ge=0, le=65535)]
Side = Literal["source", "destination"]
Answer = Literal["checked", "assumed", "unknown"]
State = Literal["complete", "lossy", "late", "one-sided", "encrypted", "malformed"]
Depth = Literal["decoded", "server-log", "sizes", "blind"]
Severity = Literal["info", "low", "medium", "high", "critical"]

SEVERITIES: Final[tuple[Severity, ...]] = ("info", "low", "medium", "high", "critical")
QUESTIONS: Final = ("who", "what", "where", "how_much", "when", "protection")


class EventError(ValueError):
    """A line that is no event; the message names the field and never quotes the value."""


class _Said(BaseModel):
    """What every part of an event shares: unknown fields are kept."""

    model_config = ConfigDict(extra="allow")


class Name(_Said):
    """A name of an address and who said so: ``dns`` is an answer seen on the wire, ``sni`` only the sender's claim.

    ``connect`` and ``absolute-form`` name the destination a relay was asked for, with its ``port``.
    """

    name: str
    by: str

    @property
    def port(self) -> int | None:
        """The port asked for; written only where a relay was asked."""
        port = (self.model_extra or {}).get("port")
        return port if isinstance(port, int) else None


class Endpoint(_Said):
    """One end of a flow; ``port`` is 0 where the transport has none."""

    address: str
    port: Port = 0
    names: list[Name] = []


class ObjectSet(_Said):
    """What one kind of statement or message touched; the counts of a join over several tables are never split."""

    names: list[str]
    columns: list[str] = []
    rows: Correction = 0
    values: Correction = 0
    messages: Correction = 0
    bytes: Count = 0


class Totals(_Said):
    """The flow so far, this window included."""

    rows: Correction = 0
    values: Correction = 0
    messages: Correction = 0
    bytes: Count = 0


class Protection(_Said):
    """How the connection is protected; ``certificate`` describes the server's, None if none was seen."""

    transport: str = "none"
    authentication: str | None = None
    certificate: dict[str, Any] | str | None = None  # Any: certificate fields are the collectors' own


class Completeness(_Said):
    """How much of the window the agent could see."""

    state: State = "complete"
    lost_bytes: Count = 0
    joined_late: bool = False
    one_sided: bool = False
    estimated: bool = False


class Flow(_Said):
    """One window of one movement; source and destination follow the data, ``opened_by`` says who dialled."""

    kind: Literal["flow"] = "flow"
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
    objects: list[ObjectSet] = Field(default=[], max_length=OBJECTS_MAX)
    rows: Correction = 0
    values: Correction = 0
    messages: Correction = 0
    bytes: Count = 0
    bytes_back: Count = 0
    packets: Count = 0
    totals: Totals = Totals()
    protection: Protection = Protection()
    depth: Depth
    seen_by: str = "tap"
    completeness: Completeness = Completeness()


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
    """A difference between what moved and what may move; the same identity is one finding, updated."""

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


Event = Flow | Loss | Heartbeat | Finding | DeclaredEdition | Summary
_EVENT: Final[TypeAdapter[Event]] = TypeAdapter(Annotated[Event, Field(discriminator="kind")])


def parse(line: bytes | str) -> Event:
    """The event a line holds.

    Raises:
        EventError: the line is no event; the message says which field and why, without quoting it.
    """
    try:
        event = _EVENT.validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "line"
        raise EventError(f"{place}: {first['type']}") from None
    _check_times(event)
    return event


def dump(event: Event) -> bytes:
    """The event as one line of JSON without the line end: equal events give equal bytes."""
    # mode="json" would stringify what it does not know; events hold JSON only, so python mode shows a mistake instead.
    return json.dumps(event.model_dump(), ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def schema() -> dict[str, Any]:  # Any: a JSON Schema document
    """The JSON Schema of one event (JSON Schema 2020-12), as published in ``docs/events.schema.json``."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "hopwatch event"} | _EVENT.json_schema()


# A text is read where the line is, where time passes and where it is judged; once is enough.
@lru_cache(maxsize=8_192)
def time_ns(time: str) -> int:
    """Nanoseconds since 1970-01-01T00:00:00Z; digits beyond the ninth are cut.

    Raises:
        ValueError: the text is no RFC 3339 instant.
    """
    fraction = time[20:-1]
    if time[19:20] == "." and time[-1:] == "Z" and len(fraction) <= 18 and fraction.isascii() and fraction.isdigit():
        return _second_ns(f"{time[:19]}Z") + int(fraction.ljust(9, "0")[:9])
    return _second_ns(time)


# Many windows begin or end within one second.
@lru_cache(maxsize=4_096)
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


def _check_times(event: Event) -> None:
    """The schema's pattern admits month 13; refuse it here, where the sender can still be named."""
    named = {
        "start": getattr(event, "start", None),
        "end": getattr(event, "end", None),
        "time": getattr(event, "time", None),
        "first_seen": getattr(event, "first_seen", None),
        "last_seen": getattr(event, "last_seen", None),
    }
    for field, value in named.items():
        if value is None:
            continue
        try:
            time_ns(value)
        except ValueError as error:
            raise EventError(f"{field}: {error}") from None
