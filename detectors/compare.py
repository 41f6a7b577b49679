"""One window, or one object set of it, against one hop: what differs, and how sure each of the six answers is.

Every function reads the declaration and the window and returns an opinion; none keeps state. What is known is always compared;
what could not be read is ``unknown`` if the hop's conduit promised that depth and ``assumed`` if it did not. No answer is
better for knowing less.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from msgspec import Struct

from detectors.judgement import Opinion, class_severity, raised
from detectors.kept import Allowance, Asked, is_much
from hopwatch.declared.match import Classified, End, Index, Met, glob
from hopwatch.declared.model import OFF_SITE, TRANSIT_ORDER, Account, Hop, PlannedException
from hopwatch.declared.quantity import Unit
from hopwatch.declared.schedule import Schedule
from hopwatch.events import Answer, Flow, ObjectSet, Severity

CONTROL: Final = frozenset({"connect", "refused"})
"""Operations that move no data: judged for who, where and protection only."""

UNREAD: Final = "transfer"
ATTEMPT: Final = "attempt"

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
    # MySQL's plugins prove a password, each in its own way.
    "password": frozenset(
        {"password", "username", "cleartext-password", "basic", "digest", "mysql_native_password", "caching_sha2_password"}
        | {"sha256_password", "client_ed25519", "parsec", "mysql_clear_password", "mysql_old_password", "dialog"}
        | {"o5logon"}
    ),
    "kerberos": frozenset({"kerberos", "gss", "gssapi", "sspi", "negotiate", "auth_gssapi_client", "authentication_kerberos_client"}),
    "token": frozenset({"token", "issued-token", "bearer", "jwt", "oauth", "fedauth"}),
    "md5": frozenset({"md5"}),
    "none": frozenset({"none", "trust", "anonymous"}),
}
_OPEN_LOGINS: Final = frozenset({"anonymous", "trust", "none"})


class Seen(Struct, frozen=True, gc=False):
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
    sets: tuple[tuple[ObjectSet | None, Met], ...]
    """What is judged by itself, and what is known of it; None stands for the window as a whole."""
    met: tuple[Met, ...]
    """What is known of each of the window's own object sets, in their order."""
    asked: Asked
    """What is asked that has another answer at another time."""

    def within(self, schedule: Schedule, timezone: ZoneInfo) -> bool:
        """Whether the schedule covers the window's start."""
        answer = covers(schedule, self.start, timezone)
        self.asked.schedules.append((schedule, answer))
        return answer

    @property
    def who(self) -> str:
        """The account as a finding shows it."""
        return self.account or "unread account"


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
    met: Met,
    metadata_allowances: Sequence[Allowance],
) -> Opinion:
    """What the hop says of the set (of the whole window if None), whose objects have ``met``.

    ``loosened``: an exception or calendar line covers the time.
    """
    hop = index.architecture.hops[hop_name]
    opinion = Opinion(hop_name)
    promised = DEPTH_ORDER[promised_depth(index, hop)]

    def missing(depth: str) -> Answer:
        return "unknown" if promised >= DEPTH_ORDER[depth] and not feed_lives else "assumed"

    _who(index, seen, hop, opinion, missing)
    _where(index, seen, hop, opinion, feed_lives)
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
        _how_much(index, seen, opinion, allowances, used_with, missing)
        _when(index, seen, hop, opinion, loosened)
    else:
        metadata = _what(index, seen, hop_name, hop, part, met, opinion, missing)
        if metadata:
            for allowance in metadata_allowances:
                used = used_with(allowance)
                if used > allowance.limit.amount:
                    opinion.differ("undeclared-data", "low", "what", f"metadata, {allowance.limit}", f"{used} {allowance.limit.unit}")
            if not seen.complete:
                opinion.answer("how_much", "unknown")
        else:
            _operation(index, seen, hop_name, hop, part, opinion)
            _how_much(index, seen, opinion, allowances, used_with, missing)
            _when(index, seen, hop, opinion, loosened)
    if not attempt:
        _protection(index, seen, index.hop_transit(hop_name), seen.declared_account or hop.who, opinion, missing)
    _expiry(index, seen, hop, opinion)
    return opinion


def under_ticket(
    index: Index, seen: Seen, name: str, planned: PlannedException, allowances: Sequence[Allowance], used_with: UsedWith
) -> Opinion:
    """What the exception says of a window of the account it lets work: everything but the hop's own questions."""
    opinion = Opinion(None)
    opinion.classes.update(*(met.classes for met in seen.met))
    _as_whom(seen, name, index.architecture.accounts[name], opinion)
    for part in () if seen.control else seen.flow.objects:
        _accounts_made(seen, part, opinion)
    metadata = bool(seen.met) and all(met.metadata for met in seen.met)
    if not (seen.control or metadata or seen.flow.operation in planned.may):
        may = f"{planned.ticket}: may {', '.join(planned.may)}"
        opinion.differ("unapproved-operation", "high", "what", may, seen.flow.operation)
    if seen.unread:
        opinion.answer("what", "assumed")
    if any(met.unknown for met in seen.met):
        opinion.answer("what", "unknown")
    if not seen.complete:
        opinion.answer("how_much", "unknown")
    if allowances:
        _how_much(index, seen, opinion, allowances, used_with, lambda depth: "assumed")
    _leaving(index, seen, opinion)
    _protection(index, seen, 0, name, opinion, lambda depth: "assumed")
    return opinion


def promised_depth(index: Index, hop: Hop) -> str:
    """How deep the hop's conduit, or inside one zone the hop, says it is seen; ``decoded`` where nothing is said."""
    conduit = index.conduit(hop)
    return (conduit.sees if conduit is not None else hop.sees) or "decoded"


def feed_of(index: Index, hop: Hop) -> str | None:
    """The server-side feed that reads what the wire cannot."""
    conduit = index.conduit(hop)
    return conduit.feed if conduit is not None else hop.feed


def counted_as(unit: Unit, *, unread: bool, forward: bool) -> str:
    """Which amount of a window a unit is; of an unread one, the bytes in the hop's direction and nothing else."""
    if unread:
        return ("bytes" if forward else "back") if unit is Unit.BYTES else ""
    return "" if unit is Unit.OBJECTS else unit.value


def every_column(operation: str, part: ObjectSet) -> list[str]:
    """The columns; a COPY without a column list moves every one."""
    if operation == "copy" and not part.columns:
        return ["*"]
    return part.columns


def _who(index: Index, seen: Seen, hop: Hop, opinion: Opinion, missing: Callable[[str], Answer]) -> None:
    account = index.architecture.accounts[hop.who]
    hidden = index.relay_between(hop, seen.server, seen.client) == "out"

    def differ(declared: str = "", more: str = "") -> None:
        at = f"{seen.who} at {seen.client.shown}{more}"
        opinion.differ("undeclared-account", ACCOUNT_SEVERITY, "who", declared or f"{hop.who} at {', '.join(account.from_)}", at)

    if hidden:
        opinion.answer("who", "assumed")
    if seen.account is None:
        if seen.flow.operation in (ATTEMPT, *CONTROL):
            opinion.answer("who", "assumed")
        else:
            opinion.answer("who", missing("server-log"))
        if not hidden and not index.comes_from(account, seen.client):
            differ()
        return
    if seen.declared_account is None:
        differ(more=": account is not in the file")
        return
    if seen.declared_account != hop.who:
        differ()
    elif account.needs is not None:
        differ(f"{hop.who} under an exception only")
    own = index.architecture.accounts[seen.declared_account]
    if not hidden and not index.comes_from(own, seen.client):
        differ(f"{seen.declared_account} at {', '.join(own.from_)}")
    _as_whom(seen, seen.declared_account, own, opinion)


def _as_whom(seen: Seen, name: str, own: Account, opinion: Opinion) -> None:
    """By what application and in what role the account works, and until when it may."""
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
        opinion.differ("expired", overdue(seen.day, own.expires), "who", f"{name} until {own.expires}", str(seen.day))


def _where(index: Index, seen: Seen, hop: Hop, opinion: Opinion, feed_lives: bool) -> None:
    """A relay whose next leg nobody named, and a name that many tenants share unless a feed tells them apart, leave it assumed."""
    if index.relay_between(hop, seen.server, seen.client) == "in" and seen.server.name is None:
        opinion.answer("where", "assumed")
    told = feed_lives or seen.flow.agent == feed_of(index, hop)
    if not told and any(end in index.shared for end in (*hop.from_, *hop.to) if end in seen.server.places):
        opinion.answer("where", "assumed")


def _what(
    index: Index, seen: Seen, hop_name: str, hop: Hop, part: ObjectSet | None, met: Met, opinion: Opinion, missing: Callable[[str], Answer]
) -> bool:
    """Whether the set is metadata only; everything else about it goes into the opinion."""
    if part is None:
        return False
    if not part.names:
        if seen.flow.operation == "admin":
            return False
        if is_much(part.rows, part.values, part.bytes, part.messages):
            opinion.answer("what", "unknown")
        return False
    if all(name.startswith("account:") for name in part.names):
        return False
    if met.metadata:
        return True
    if met.unknown:
        opinion.answer("what", "unknown")
    asset = holder(index, seen.server, seen.client)
    if not index.holds_data(asset):
        # What the receiving side calls its objects says nothing about the class; the class travels with the hop.
        opinion.classes.update(index.hop_classes(hop_name))
        opinion.answer("what", missing("decoded"))
        _leaving(index, seen, opinion)
        return False
    opinion.classes.update(met.classes)
    outside = [name for name, one in met.found.items() if not _covered(one, hop)]
    removed = _removed(seen, hop, part)
    if outside or removed:
        severity = class_severity(index.architecture, met.classes, unclassified=met.unclassified, leaves=_leaves(index, seen))
    if outside:
        opinion.differ("undeclared-data", severity, "what", ", ".join(hop.what), f"+ {_named(outside, met.found)}")
    if removed:
        opinion.differ("undeclared-data", severity, "what", f"without {', '.join(hop.without)}", ", ".join(removed))
    _leaving(index, seen, opinion)
    return False


def _covered(one: Classified, hop: Hop) -> bool:
    return one.metadata or one.unknown or (not one.unclassified and not one.entries.isdisjoint(hop.what))


def _named(outside: list[str], found: dict[str, Classified]) -> str:
    named = [f"{name} ({'unclassified' if found[name].unclassified else ', '.join(sorted(found[name].classes))})" for name in outside[:8]]
    return ", ".join(named) + (f" and {len(outside) - 8} more" if len(outside) > 8 else "")


def _removed(seen: Seen, hop: Hop, part: ObjectSet) -> list[str]:
    """Columns that ``without`` removes and the set has; ``*`` has them all."""
    if not hop.without:
        return []
    columns = every_column(seen.flow.operation, part)
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
    if part is not None:
        _accounts_made(seen, part, opinion)
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


def _accounts_made(seen: Seen, part: ObjectSet, opinion: Opinion) -> None:
    """An account made, or given rights, on the wire is in no file yet."""
    if seen.flow.operation != "admin":
        return
    for column in part.columns:
        if column == "create" or column.startswith("grant:"):
            done = "created" if column == "create" else f"given {column.removeprefix('grant:')}"
            names = ", ".join(name.removeprefix("account:") for name in part.names)
            opinion.differ("undeclared-account", ACCOUNT_SEVERITY, "who", "no account made or given rights", f"{names} {done}")


def _how_much(
    index: Index,
    seen: Seen,
    opinion: Opinion,
    allowances: Sequence[Allowance],
    used_with: UsedWith,
    missing: Callable[[str], Answer],
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
                raised(_severity(index, seen, opinion), ratio),
                "how_much",
                f"{allowance.name}{allowance.limit}",
                f"{used} {unit}, {ratio:.1f} x",
                ratio,
            )


def _when(index: Index, seen: Seen, hop: Hop, opinion: Opinion, loosened: bool) -> None:
    if hop.when is not None and not loosened and not seen.within(hop.when, index.architecture.timezone):
        seen.asked.minute = True
        local = seen.start.astimezone(index.architecture.timezone)
        opinion.differ("outside-window", "medium", "when", str(hop.when), f"{local:%a %Y-%m-%d %H:%M} plant time")


def _protection(index: Index, seen: Seen, demanded: int, own: str, opinion: Opinion, missing: Callable[[str], Answer]) -> None:
    """Against what the hop and every class met demand in transit, and against the login of the account."""
    rank = max(demanded, *(index.class_transit[name] for name in opinion.classes), 0)
    required = TRANSIT_ORDER[rank]
    protection = seen.flow.protection
    transport = protection.transport
    policy = protection.policy or None
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
    elif met < rank:
        shown = transport if policy is None else f"{transport} {policy}"
        opinion.differ("under-protected", _severity(index, seen, opinion), "protection", f"transit {required}", shown)
    certificate = protection.certificate
    if isinstance(certificate, dict) and certificate.get("self_signed") is True and required != "any" and transport.startswith("tls"):
        opinion.differ("under-protected", _severity(index, seen, opinion), "protection", "certificate of a CA", "self-signed certificate")
    wanted = index.architecture.accounts[own].auth
    login = protection.authentication
    if login is None or seen.flow.operation == "refused":
        return
    accepted = _AUTHENTICATION.get(wanted)
    if (accepted is not None and login not in accepted) or (accepted is None and login in _OPEN_LOGINS):
        opinion.differ("under-protected", _severity(index, seen, opinion), "protection", f"{own}: auth {wanted}", f"auth {login}")


def _expiry(index: Index, seen: Seen, hop: Hop, opinion: Opinion) -> None:
    until = index.architecture.hop_until(hop)
    if seen.day > until:
        opinion.differ("expired", overdue(seen.day, until), "when", f"until {until}", str(seen.day))
    for zone_name in (seen.source.zone, seen.destination.zone):
        terms = None if zone_name is None else index.architecture.zones[zone_name].terms
        if terms is not None and seen.day > terms.until:
            # Said once where both ends lie in the zone.
            opinion.differ("expired", "high", "when", f"terms {terms.ref} of {zone_name} until {terms.until}", str(seen.day))


def overdue(day: date, until: date) -> Severity:
    """How bad it is to go on after an end: worse once it is no oversight any more."""
    return "high" if (day - until).days > EXPIRED_HIGH_AFTER_DAYS else "medium"


def holder(index: Index, server: End, client: End) -> str | None:
    """The asset whose names the objects bear: the server, the one behind a relay, else a client that holds classed data."""
    asset = server.asset or server.host
    if index.holds_data(asset):
        return asset
    behind = index.behind(index.relay(server))
    if behind is not None:
        return behind
    own = client.asset or client.host
    # A device that dials a server of nobody's still names its own nodes and topics.
    return own if asset is None and index.holds_data(own) else asset


def _leaves(index: Index, seen: Seen) -> bool:
    ends = [seen.destination] + ([seen.source] if seen.unread else [])
    return any(index.is_off_site(end.zone) for end in ends)


def _leaving(index: Index, seen: Seen, opinion: Opinion) -> None:
    """A class that may never leave the site, on its way out, differs whatever the hop says."""
    if not opinion.classes or not _leaves(index, seen):
        return
    never = sorted(name for name in opinion.classes if index.architecture.classes[name].off_site == "never")
    if never:
        opinion.differ("undeclared-data", "critical", "what", f"{', '.join(never)}: {OFF_SITE} never", f"to {seen.destination.shown}")


def _severity(index: Index, seen: Seen, opinion: Opinion) -> Severity:
    return class_severity(index.architecture, opinion.classes, leaves=_leaves(index, seen))


@lru_cache(maxsize=4_096)
def day_of(second: int, timezone: ZoneInfo) -> date:
    """The plant's day; every window of a second asks for the same."""
    return datetime.fromtimestamp(second, UTC).astimezone(timezone).date()


@lru_cache(maxsize=16_384)
def covers(schedule: Schedule, start: datetime, timezone: ZoneInfo) -> bool:
    """Whether the schedule covers the second; every connection of a second asks the same."""
    return schedule.covers(start, timezone)


def instant(start_ns: int) -> datetime:
    """The whole second as an aware datetime."""
    return datetime.fromtimestamp(start_ns // 10**9, UTC)
