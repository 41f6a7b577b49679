"""One window, or one object set of it, against one hop: what differs, and how sure each of the six answers is.

Every function reads the declaration and the window and returns an opinion; none keeps state. What is known is always compared;
what could not be read is ``unknown`` if the hop's conduit promised that depth and ``assumed`` if it did not. No answer is
better for knowing less.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from detectors.judgement import Opinion, class_severity, raised
from hopwatch.declared.match import Classified, End, Index, glob
from hopwatch.declared.model import OFF_SITE, TRANSIT_ORDER, Hop
from hopwatch.declared.quantity import Limit, Unit
from hopwatch.declared.schedule import Schedule
from hopwatch.events import Answer, Flow, ObjectSet, Severity

CONTROL: Final = frozenset({"connect", "refused"})
"""Operations that move no data: judged for who, where and protection only."""

UNREAD: Final = "transfer"
ATTEMPT: Final = "attempt"

UNNAMED_ROWS_MAX: Final = 1
UNNAMED_BYTES_MAX: Final = 1024
"""What a statement that names no table may return before its objects count as unknown."""

EXPIRED_HIGH_AFTER_DAYS: Final = 30
"""Days past an end after which moving on is no oversight any more."""

ACCOUNT_SEVERITY: Final[Severity] = "high"

DEPTH_ORDER: Final = {"blind": 0, "sizes": 1, "server-log": 2, "decoded": 3}

# TLS below 1.2 is protection no class accepts (RFC 8996); it still is not less than cleartext.
_TRANSIT: Final = {"none": 0, "tls1.0": 0, "tls1.1": 0, "opcua-none": 0, "opcua-sign": 0, "tls1.2": 1, "tls1.3": 2}

# Policies at least as strong as Basic256Sha256 (OPC 10000-7, 6.6); Basic256 and Basic128Rsa15 are deprecated for SHA-1.
_POLICIES: Final = frozenset(
    {"Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss", "ECC_nistP256", "ECC_nistP384", "ECC_curve25519"}
)
_WEAK_POLICIES: Final = frozenset({"None", "Basic128Rsa15", "Basic256"})

# What the wire calls each declared way to log in; short-lived credentials look like any token or password.
_AUTHENTICATION: Final = {
    "certificate": frozenset({"certificate", "mutual-tls", "x509", "cert"}),
    "scram-sha-256": frozenset({"scram-sha-256", "scram-sha-256-plus"}),
    "password": frozenset({"password", "username", "cleartext-password", "basic"}),
    "kerberos": frozenset({"kerberos", "gss", "gssapi", "sspi"}),
    "token": frozenset({"token", "issued-token", "bearer", "jwt", "oauth"}),
    "md5": frozenset({"md5"}),
    "none": frozenset({"none", "trust", "anonymous"}),
}
_OPEN_LOGINS: Final = frozenset({"anonymous", "trust", "none"})


@dataclass(frozen=True, slots=True)
class Seen:
    """A window and what the declaration says about its ends; made once, compared with every hop."""

    flow: Flow
    server: End
    client: End
    source: End
    destination: End
    start_ns: int
    start: datetime
    day: date
    account: str | None
    declared_account: str | None
    application: str | None
    role: str | None
    control: bool
    unread: bool
    complete: bool
    again: bool
    """Judged before, under another declaration: its amounts are counted already."""
    sets: tuple[ObjectSet | None, ...]

    @property
    def who(self) -> str:
        """The account as a finding shows it."""
        return self.account or "unread account"


@dataclass(frozen=True, slots=True)
class Allowance:
    """A limit that binds the set, the key it is charged to, and the amount."""

    key: str
    limit: Limit
    amount: int
    objects: tuple[str, ...] = ()
    name: str = ""


UsedWith = Callable[[Allowance], int]
"""What an allowance would have counted with its amount."""


def compare(
    index: Index,
    seen: Seen,
    hop_name: str,
    part: ObjectSet | None,
    allowances: Sequence[Allowance],
    used_with: UsedWith,
    *,
    feed_lives: bool,
    loosened: bool,
    metadata_used: UsedWith,
    metadata_allowances: Sequence[Allowance],
) -> Opinion:
    """What the hop says of the set (of the whole window if None). ``loosened``: an exception or calendar line covers the time."""
    hop = index.architecture.hops[hop_name]
    opinion = Opinion(hop_name)
    promised = DEPTH_ORDER[promised_depth(index, hop)]

    def missing(depth: str) -> Answer:
        return "unknown" if promised >= DEPTH_ORDER[depth] and not feed_lives else "assumed"

    _who(index, seen, hop, opinion, missing)
    _where(index, seen, hop, opinion)
    attempt = seen.flow.operation == ATTEMPT
    if seen.control:
        opinion.classes.update(index.hop_classes(hop_name))
    elif attempt:
        for question in ("who", "what", "how_much", "protection"):
            opinion.answer(question, "assumed")
    elif seen.unread:
        opinion.classes.update(index.hop_classes(hop_name))
        opinion.answer("what", missing("server-log"))
        _leaving(index, seen, opinion)
        _how_much(seen, hop, opinion, allowances, used_with, missing, _severity(index, seen, opinion))
        _when(index, seen, hop, opinion, loosened)
    else:
        metadata = _what(index, seen, hop_name, hop, part, opinion, missing)
        if metadata:
            for allowance in metadata_allowances:
                used = metadata_used(allowance)
                if used > allowance.limit.amount:
                    opinion.differ("undeclared-data", "low", "what", f"metadata, {allowance.limit}", f"{used} {allowance.limit.unit.value}")
            if not seen.complete:
                opinion.answer("how_much", "unknown")
        else:
            _operation(index, seen, hop_name, hop, part, opinion)
            _how_much(seen, hop, opinion, allowances, used_with, missing, _severity(index, seen, opinion))
            _when(index, seen, hop, opinion, loosened)
    if not attempt:
        _protection(index, seen, hop_name, hop, opinion, missing)
    _expiry(index, seen, hop, opinion)
    return opinion


def promised_depth(index: Index, hop: Hop) -> str:
    """How deep the hop's conduit, or inside one zone the hop, says it is seen; ``decoded`` where nothing is said."""
    conduit = index.conduit(hop)
    return (conduit.sees if conduit is not None else hop.sees) or "decoded"


def feed_of(index: Index, hop: Hop) -> str | None:
    """The server-side feed that reads what the wire cannot."""
    conduit = index.conduit(hop)
    return conduit.feed if conduit is not None else hop.feed


def amount_of(share: dict[str, int], unit: Unit, *, unread: bool, forward: bool) -> int:
    """How much of a unit the share moves; of an unread window, the bytes in the hop's direction and nothing else."""
    if unread:
        return share["bytes" if forward else "back"] if unit is Unit.BYTES else 0
    return share.get(unit.value, 0)


def classes_of(index: Index, seen: Seen, part: ObjectSet | None) -> tuple[frozenset[str], bool, bool]:
    """Every class met in the set, whether something in it is unclassified, and whether a decoy is."""
    if part is None:
        return frozenset(), False, False
    return index.classes_met(_holder(index, seen), part.names, every_column(seen, part))


def every_column(seen: Seen, part: ObjectSet) -> list[str]:
    """The columns; a COPY without a column list moves every one."""
    if seen.flow.operation == "copy" and not part.columns:
        return ["*"]
    return part.columns


def _who(index: Index, seen: Seen, hop: Hop, opinion: Opinion, missing: Callable[[str], Answer]) -> None:
    declared = f"{hop.who} at {', '.join(index.architecture.accounts[hop.who].from_)}"
    hidden = index.relay_between(hop, seen.server, seen.client) == "out"
    observed = f"{seen.who} at {seen.client.shown}"
    account = index.architecture.accounts[hop.who]
    if hidden:
        opinion.answer("who", "assumed")
    if seen.account is None:
        if seen.flow.operation in (ATTEMPT, *CONTROL):
            opinion.answer("who", "assumed")
        else:
            opinion.answer("who", missing("server-log"))
        if not hidden and not index.comes_from(account, seen.client):
            opinion.differ("undeclared-account", ACCOUNT_SEVERITY, "who", declared, observed)
        return
    if seen.declared_account is None:
        opinion.differ("undeclared-account", ACCOUNT_SEVERITY, "who", declared, f"{observed}: account is not in the file")
        return
    if seen.declared_account != hop.who:
        opinion.differ("undeclared-account", ACCOUNT_SEVERITY, "who", declared, observed)
    elif account.needs is not None:
        opinion.differ("undeclared-account", ACCOUNT_SEVERITY, "who", f"{hop.who} under an exception only", observed)
    own = index.architecture.accounts[seen.declared_account]
    if not hidden and not index.comes_from(own, seen.client):
        opinion.differ("undeclared-account", ACCOUNT_SEVERITY, "who", f"{seen.declared_account} at {', '.join(own.from_)}", observed)
    if own.applications:
        named = seen.application
        if named is None and (seen.flow.depth != "decoded" or seen.flow.operation in CONTROL or not seen.complete):
            if not seen.control:
                opinion.answer("who", "assumed")
        elif named is None or not any(glob(pattern)(named) for pattern in own.applications):
            opinion.differ(
                "undeclared-account",
                ACCOUNT_SEVERITY,
                "who",
                f"application {', '.join(own.applications)}",
                f"application {named or 'unnamed'}",
            )
    if seen.role is not None and seen.role != seen.account and not any(glob(pattern)(seen.role) for pattern in own.roles):
        opinion.differ("undeclared-account", ACCOUNT_SEVERITY, "who", f"roles {', '.join(own.roles) or 'none'}", f"role {seen.role}")
    if own.expires is not None and seen.day > own.expires:
        opinion.differ("expired", overdue(seen.day, own.expires), "who", f"{seen.declared_account} until {own.expires}", str(seen.day))


def _where(index: Index, seen: Seen, hop: Hop, opinion: Opinion) -> None:
    """A relay whose next leg nobody named, and a name that many tenants share, leave the place assumed."""
    if index.relay_between(hop, seen.server, seen.client) == "in" and seen.server.name is None:
        opinion.answer("where", "assumed")
    for end in (*hop.from_, *hop.to):
        asset = index.architecture.assets.get(end)
        if asset is not None and end == seen.server.asset and asset.at is not None and "*" in asset.at.host:
            opinion.answer("where", "assumed")


def _what(
    index: Index, seen: Seen, hop_name: str, hop: Hop, part: ObjectSet | None, opinion: Opinion, missing: Callable[[str], Answer]
) -> bool:
    """Whether the set is metadata only; everything else about it goes into the opinion."""
    part = part or ObjectSet(names=[])
    if not part.names:
        if seen.flow.operation == "admin":
            return False
        if part.rows > UNNAMED_ROWS_MAX or part.values > UNNAMED_ROWS_MAX or part.bytes > UNNAMED_BYTES_MAX:
            opinion.answer("what", "unknown")
        return False
    if all(name.startswith("account:") for name in part.names):
        return False
    asset = _holder(index, seen)
    found = {name: index.classify(asset, name) for name in part.names}
    if all(one.metadata for one in found.values()):
        return True
    if any(one.unknown for one in found.values()):
        opinion.answer("what", "unknown")
    if asset is None or not index.holds_data(asset):
        # What the receiving side calls its objects says nothing about the class; the class travels with the hop.
        opinion.classes.update(index.hop_classes(hop_name))
        opinion.answer("what", missing("decoded"))
        _leaving(index, seen, opinion)
        return False
    classes, unclassified, _ = classes_of(index, seen, part)
    opinion.classes.update(classes)
    outside = [name for name, one in found.items() if not _covered(one, hop)]
    if outside:
        own = frozenset(name for one in outside for name in found[one].classes)
        severity = class_severity(index.architecture, own | classes, unclassified=unclassified, leaves=_leaves(index, seen))
        opinion.differ("undeclared-data", severity, "what", ", ".join(hop.what), f"+ {_named(outside, found)}")
    removed = _removed(seen, hop, part)
    if removed:
        severity = class_severity(index.architecture, classes, unclassified=unclassified, leaves=_leaves(index, seen))
        opinion.differ("undeclared-data", severity, "what", f"without {', '.join(hop.without)}", ", ".join(removed))
    _leaving(index, seen, opinion)
    return False


def _covered(one: Classified, hop: Hop) -> bool:
    return one.metadata or one.unknown or (not one.unclassified and any(entry in hop.what for entry in one.entries))


def _named(outside: list[str], found: dict[str, Classified]) -> str:
    named = [f"{name} ({'unclassified' if found[name].unclassified else ', '.join(sorted(found[name].classes))})" for name in outside[:8]]
    return ", ".join(named) + (f" and {len(outside) - 8} more" if len(outside) > 8 else "")


def _removed(seen: Seen, hop: Hop, part: ObjectSet) -> list[str]:
    """Columns that ``without`` removes and the set has; ``*`` has them all."""
    columns = every_column(seen, part)
    if not hop.without or not columns:
        return []
    if "*" in columns:
        return [f"{table}.*" for table in part.names]
    removed = [glob(pattern) for pattern in hop.without]
    return [
        column
        for column in columns
        if any(matches(full) for matches in removed for full in (column, *(f"{table}.{column}" for table in part.names)))
    ]


def _operation(index: Index, seen: Seen, hop_name: str, hop: Hop, part: ObjectSet | None, opinion: Opinion) -> None:
    operation = seen.flow.operation
    severity: Severity = "high"
    if operation == "admin" and part is not None:
        for column in part.columns:
            if column == "create" or column.startswith("grant:"):
                done = "created" if column == "create" else f"given {column.removeprefix('grant:')}"
                names = ", ".join(name.removeprefix("account:") for name in part.names)
                opinion.differ("undeclared-account", ACCOUNT_SEVERITY, "who", "no account made or given rights", f"{names} {done}")
    if operation not in hop.may:
        opinion.differ("unapproved-operation", severity, "what", f"may {', '.join(hop.may)}", operation)
    # A subscription is asked for against the way its data takes.
    elif operation != "subscribe" and not index.runs_forward(hop_name, seen.source, seen.destination):
        opinion.differ(
            "unapproved-operation",
            severity,
            "what",
            f"{', '.join(hop.from_)} -> {', '.join(hop.to)}",
            f"{operation} {seen.source.shown} -> {seen.destination.shown}",
        )


def _how_much(
    seen: Seen,
    hop: Hop,
    opinion: Opinion,
    allowances: Sequence[Allowance],
    used_with: UsedWith,
    missing: Callable[[str], Answer],
    severity: Severity,
) -> None:
    if not seen.complete:
        opinion.answer("how_much", "unknown")
    elif seen.flow.completeness.estimated:
        opinion.answer("how_much", "assumed")
    for allowance in allowances:
        unit = allowance.limit.unit
        if seen.unread and unit is not Unit.BYTES:
            opinion.answer("how_much", missing("server-log"))
            continue
        if seen.flow.depth == "server-log" and unit is Unit.BYTES and seen.flow.bytes == 0:
            # A log that counts no bytes says nothing about a byte limit.
            opinion.answer("how_much", "assumed")
        used = used_with(allowance)
        if used > allowance.limit.amount:
            ratio = used / allowance.limit.amount if allowance.limit.amount else float("inf")
            opinion.differ(
                "over-limit",
                raised(severity, ratio),
                "how_much",
                f"{allowance.name}{allowance.limit}",
                f"{used} {unit.value}, {ratio:.1f} x",
            )


def _when(index: Index, seen: Seen, hop: Hop, opinion: Opinion, loosened: bool) -> None:
    if hop.when is not None and not loosened and not covers(hop.when, seen.start, index.architecture.timezone):
        local = seen.start.astimezone(index.architecture.timezone)
        opinion.differ("outside-window", "medium", "when", str(hop.when), f"{local:%a %Y-%m-%d %H:%M} plant time")


def _protection(index: Index, seen: Seen, hop_name: str, hop: Hop, opinion: Opinion, missing: Callable[[str], Answer]) -> None:
    architecture = index.architecture
    required = max(
        [index.hop_transit(hop_name), *(architecture.classes[name].transit for name in opinion.classes)], key=TRANSIT_ORDER.index
    )
    severity = _severity(index, seen, opinion)
    transport = seen.flow.protection.transport
    extra = seen.flow.protection.model_extra or {}
    policy = extra.get("policy")
    if transport == "opcua-signandencrypt":
        if policy in _POLICIES:
            met: int | None = 2
        elif policy in _WEAK_POLICIES:
            met = 0
        else:
            met = None
    else:
        met = _TRANSIT.get(transport)
    if met is None:
        if required != "any":
            opinion.answer("protection", missing("sizes"))
    elif met < TRANSIT_ORDER.index(required):
        shown = transport if policy is None else f"{transport} {policy}"
        opinion.differ("under-protected", severity, "protection", f"transit {required}", shown)
    certificate = seen.flow.protection.certificate
    if isinstance(certificate, dict) and certificate.get("self_signed") is True and required != "any" and transport.startswith("tls"):
        opinion.differ("under-protected", severity, "protection", "certificate of a CA", "self-signed certificate")
    own = seen.declared_account or hop.who
    wanted = architecture.accounts[own].auth
    login = seen.flow.protection.authentication
    if login is None or seen.flow.operation == "refused":
        return
    accepted = _AUTHENTICATION.get(wanted)
    if (accepted is not None and login not in accepted) or (accepted is None and login in _OPEN_LOGINS):
        opinion.differ("under-protected", severity, "protection", f"{own}: auth {wanted}", f"auth {login}")


def _expiry(index: Index, seen: Seen, hop: Hop, opinion: Opinion) -> None:
    until = index.architecture.hop_until(hop)
    if seen.day > until:
        opinion.differ("expired", overdue(seen.day, until), "when", f"until {until}", str(seen.day))
    for zone_name in {zone for zone in (seen.source.zone, seen.destination.zone) if zone is not None}:
        terms = index.architecture.zones[zone_name].terms
        if terms is not None and seen.day > terms.until:
            opinion.differ("expired", "high", "when", f"terms {terms.ref} of {zone_name} until {terms.until}", str(seen.day))


def overdue(day: date, until: date) -> Severity:
    """How bad it is to go on after an end: worse once it is no oversight any more."""
    return "high" if (day - until).days > EXPIRED_HIGH_AFTER_DAYS else "medium"


def _holder(index: Index, seen: Seen) -> str | None:
    """The asset whose names the objects bear: the server, else a client that holds classed data."""
    server = seen.server.asset or seen.server.host
    if index.holds_data(server):
        return server
    client = seen.client.asset or seen.client.host
    # A device that dials a server of nobody's still names its own nodes and topics.
    return client if server is None and index.holds_data(client) else server


def _leaves(index: Index, seen: Seen) -> bool:
    ends = [seen.destination] + ([seen.source] if seen.unread else [])
    return any(index.is_off_site(end.zone) for end in ends)


def _leaving(index: Index, seen: Seen, opinion: Opinion) -> None:
    """A class that may never leave the site, on its way out, differs whatever the hop says."""
    if not _leaves(index, seen):
        return
    never = sorted(name for name in opinion.classes if index.architecture.classes[name].off_site == "never")
    if never:
        opinion.differ("undeclared-data", "critical", "what", f"{', '.join(never)}: {OFF_SITE} never", f"to {seen.destination.shown}")


def _severity(index: Index, seen: Seen, opinion: Opinion) -> Severity:
    return class_severity(index.architecture, opinion.classes, leaves=_leaves(index, seen))


def day_of(index: Index, start: datetime, at: date | None) -> date:
    """The day that decides what has ended: the plant's, or the one stated for an old capture."""
    return at or _plant_day(start, index.architecture.timezone)


@lru_cache(maxsize=4_096)
def _plant_day(start: datetime, timezone: ZoneInfo) -> date:
    return start.astimezone(timezone).date()


@lru_cache(maxsize=16_384)
def covers(schedule: Schedule, start: datetime, timezone: ZoneInfo) -> bool:
    """Whether the schedule covers the second; every connection of a second asks the same."""
    return schedule.covers(start, timezone)


def instant(start_ns: int) -> datetime:
    """The whole second as an aware datetime."""
    return datetime.fromtimestamp(start_ns // 10**9, UTC)
