"""What can be proven about a declaration before any traffic is seen.

A rule is a function that yields ``(path, sentence)`` for each place that breaks it; ``PROOFS`` is the table of them.
``prove`` finds what refuses a file; ``review`` finds what a day of the calendar changes: expiries never refuse a file,
because a plant must not lose its monitor on the morning a contract ends.

Classes carry the rules and hops only state what is particular, so most proofs walk a hop's *met* classes: those of what
it names and those of classed columns that travel inside it (``Architecture.hop_objects``).
"""

import difflib
from collections.abc import Callable, Iterable, Iterator
from datetime import date, timedelta
from fnmatch import fnmatchcase
from ipaddress import ip_address, ip_network

from hopwatch.declared.model import (
    AT_REST_ORDER,
    OFF_SITE,
    PILOT,
    SENSITIVITY_ORDER,
    SENSITIVITY_SEVERITY,
    SOURCE,
    TRANSIT_ORDER,
    Architecture,
    Asset,
    Conduit,
    Hop,
    glob_covers,
)
from hopwatch.declared.quantity import Limit, Period, Unit
from hopwatch.declared.schedule import Days
from hopwatch.declared.shadow import overshadowed

PILOT_DAYS_MAX = 60
WARN_DAYS = (1, 7, 30)  # nearest first

# Names many tenants share: the name alone says which provider received the data, never which customer of it.
SHARED_NAMES = (
    "s3.amazonaws.com", "s3.*.amazonaws.com", "*.s3.amazonaws.com", "*.s3.*.amazonaws.com", "*.blob.core.windows.net",
    "*.dfs.core.windows.net", "*.file.core.windows.net", "storage.googleapis.com", "*.storage.googleapis.com", "*.amazonaws.com",
    "*.core.windows.net", "*.windows.net", "*.googleapis.com", "*.sharepoint.com", "*.dropboxapi.com", "*.snowflakecomputing.com",
    "*.cloudfront.net", "*.r2.cloudflarestorage.com",
)  # fmt: skip
_SHARED_EXACT = frozenset(("api.dropboxapi.com", "content.dropboxapi.com", "storage.googleapis.com", "s3.amazonaws.com"))

Broken = Iterator[tuple[tuple[str, ...], str]]


def prove(architecture: Architecture) -> Iterator[tuple[str, tuple[str, ...], str]]:
    """Every broken rule as ``(rule, path, sentence)``; nothing if the declaration holds on any day."""
    for rule, proof in PROOFS:
        yield from ((rule, path, sentence) for path, sentence in proof(architecture))


def review(architecture: Architecture, at: date) -> Iterator[tuple[bool, str, tuple[str, ...], str]]:
    """What has ended on the day ``at``, or ends within 30 days, as ``(ended, rule, path, sentence)``."""
    for path, thing, last in _endings(architecture):
        left = (last - at).days
        if left < 0:
            yield True, "expired", path, f"{thing} ended on {last}, {_days(-left)} ago"
        else:
            stage = next((days for days in WARN_DAYS if left <= days), None)
            if stage is not None:
                yield False, f"expires-{stage}", path, f"{thing} ends {'today' if left == 0 else f'in {_days(left)}'}, on {last}"
    for path, thing, last in _dated(architecture):
        if last < at:
            # Nothing is broken: its hours were all it was for. It only makes the file longer to read.
            yield False, "past", path, f"{thing} was for {last}, {_days((at - last).days)} ago, and loosens nothing any more; remove it"


def shadows(architecture: Architecture) -> Iterator[tuple[tuple[str, ...], str]]:
    """Hops that decide nothing: no error, and never what somebody meant."""
    for name, wider in overshadowed(architecture):
        yield ("hops", name), f"is overshadowed by {wider}, which allows everything that it does; remove it, or narrow {wider}"


def _days(count: int) -> str:
    return "1 day" if count == 1 else f"{count} days"


def _endings(architecture: Architecture) -> Iterator[tuple[tuple[str, ...], str, date]]:
    yield ("review_by",), "the review of this declaration", architecture.review_by
    for name, zone in architecture.zones.items():
        if zone.terms is not None:
            yield ("zones", name, "terms"), f"terms {zone.terms.ref}", zone.terms.until
    for name, account in architecture.accounts.items():
        if account.expires is not None:
            yield ("accounts", name, "expires"), "the account", account.expires
    for name, hop in architecture.hops.items():
        if hop.approved is not None and hop.approved.until is not None:
            yield ("hops", name, "approved"), "the approval", hop.approved.until
    for place, line in enumerate(architecture.calendar):
        if line.until is not None:
            yield ("calendar", str(place), "until"), f"calendar line {line.what}", line.until


def _dated(architecture: Architecture) -> Iterator[tuple[tuple[str, ...], str, date]]:
    """What was for stated hours of one date, and the last day of them."""
    planned = [
        *((("exceptions", name), f"exception {name}", one.when) for name, one in architecture.exceptions.items()),
        *((("calendar", str(place), "when"), f"calendar line {one.what}", one.when) for place, one in enumerate(architecture.calendar)),
    ]
    for path, thing, when in planned:
        if when.on is not None:
            yield path, thing, when.on + timedelta(minutes=when.end_minute - 1)


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f", did you mean {near[0]}?" if near else ""


def _references(architecture: Architecture) -> Broken:
    zones, assets, accounts = architecture.zones, architecture.assets, architecture.accounts

    def missing(path: tuple[str, ...], names: Iterable[str], known: Iterable[str], kind: str) -> Broken:
        known = set(known)
        for name in names:
            if name not in known:
                yield path, f"{path[-1]} {name} is no {kind} of this file{_nearest(name, sorted(known))}"

    for name in assets.keys() & zones.keys():
        yield ("assets", name), f"{name} is a zone too, an end of a hop could mean either"
    for name, asset in assets.items():
        yield from missing(("assets", name, "zone"), [asset.zone], zones, "zone")
        if asset.replication is not None:
            yield from missing(("assets", name, "replication"), [asset.replication], accounts, "account")
    for name, service in architecture.services.items():
        yield from _hosts(architecture, ("services", name, "to"), service.to)
        yield from _hosts(architecture, ("services", name, "from"), service.from_)
    for name, data in architecture.data.items():
        yield from missing(("data", name, "class"), [data.class_], architecture.classes, "class")
        yield from missing(("data", name, "in"), data.in_, assets, "asset")
    for name, account in accounts.items():
        yield from _hosts(architecture, ("accounts", name, "from"), account.from_)
    for name, conduit in architecture.conduits.items():
        yield from missing(("conduits", name, "from"), conduit.from_, zones, "zone")
        yield from missing(("conduits", name, "to"), conduit.to, zones, "zone")
    for name, hop in architecture.hops.items():
        yield from missing(("hops", name, "who"), [hop.who], accounts, "account")
        yield from missing(("hops", name, "from"), hop.from_, [*assets, *zones], "asset or zone")
        yield from missing(("hops", name, "to"), hop.to, [*assets, *zones], "asset or zone")
        yield from missing(("hops", name, "what"), hop.what, architecture.data, "data")
        if hop.via is not None:
            yield from missing(("hops", name, "via"), [hop.via], architecture.conduits, "conduit")
    for place, budget in enumerate(architecture.budgets):
        if budget.class_ is not None:
            yield from missing(("budgets", str(place), "class"), [budget.class_], architecture.classes, "class")
        if budget.to is not None:
            yield from missing(("budgets", str(place), "to"), [budget.to], [*zones, OFF_SITE], "zone")
        if budget.owner is not None:
            yield from missing(("budgets", str(place), "owner"), [budget.owner], {a.owner for a in accounts.values()}, "account's owner")
    for place, line in enumerate(architecture.calendar):
        yield from missing(("calendar", str(place), "hops"), line.hops, architecture.hops, "hop")
    for name, exception in architecture.exceptions.items():
        if exception.hop is not None:
            yield from missing(("exceptions", name, "hop"), [exception.hop], architecture.hops, "hop")
        if exception.account is not None:
            yield from missing(("exceptions", name, "account"), [exception.account], accounts, "account")
        if exception.asset is not None:
            yield from missing(("exceptions", name, "asset"), [exception.asset], assets, "asset")


def _hosts(architecture: Architecture, path: tuple[str, ...], hosts: Iterable[str]) -> Broken:
    for host in hosts:
        if host in architecture.zones or host in architecture.assets:
            continue
        try:
            address = str(ip_address(host))
        except ValueError:
            known = [*architecture.zones, *architecture.assets]
            yield path, f"{path[-1]} {host} is neither a zone, an asset nor an address{_nearest(host, known)}"
            continue
        if address != host:
            # Windows carry the canonical text (RFC 5952), and that is what is compared.
            yield path, f"{path[-1]} {host}: write {address}"


def _whole_hops(architecture: Architecture) -> Iterator[tuple[str, Hop]]:
    """The hops all of whose names stand for something."""
    for name, hop in architecture.hops.items():
        ends = [*hop.from_, *hop.to]
        zones = list(architecture.zones_of(ends))
        if (
            hop.who in architecture.accounts
            and len(zones) == len(ends)
            and all(zone in architecture.zones for zone in zones)
            and all(item in architecture.data and architecture.data[item].class_ in architecture.classes for item in hop.what)
            and (hop.via is None or hop.via in architecture.conduits)
        ):
            yield name, hop


def _class_order(architecture: Architecture) -> Broken:
    severities = ("low", "medium", "high")
    highest, holder = -1, ""
    for name, data_class in architecture.classes.items():
        rank = severities.index(SENSITIVITY_SEVERITY[data_class.sensitivity])
        if rank < highest:
            yield (
                ("classes", name),
                f"sensitivity {data_class.sensitivity} is lower than that of {holder} above, classes stand lowest first",
            )
        else:
            highest, holder = rank, name


def _zones(architecture: Architecture) -> Broken:
    holders: dict[object, str] = {}
    for name, zone in architecture.zones.items():
        if not zone.nets and not zone.names:
            yield ("zones", name), "has neither nets nor names, so no address could ever be in it"
        for net in zone.nets:
            holder = holders.setdefault(net, name)
            if holder != name:
                yield ("zones", name, "nets"), f"{net} belongs to zone {holder} already"
        if zone.off_site:
            for key, value in (("country", zone.country), ("operator", zone.operator), ("terms", zone.terms)):
                if value is None:
                    yield ("zones", name), f"is off site; add {key}"


def _assets(architecture: Architecture) -> Broken:
    holders: dict[tuple[str, int | None], str] = {}
    for name, asset in architecture.assets.items():
        if not asset.endpoints:
            yield ("assets", name), "has no address; add at, members, standby or vip"
        for endpoint in asset.endpoints:
            holder = holders.setdefault((endpoint.host, endpoint.port), name)
            if holder != name:
                yield ("assets", name), f"{endpoint} is asset {holder} already"
        yield from _asset_in_zone(architecture, name, asset)


def _asset_in_zone(architecture: Architecture, name: str, asset: Asset) -> Broken:
    zone = architecture.zones.get(asset.zone)
    if zone is None:
        return
    for endpoint in asset.endpoints:
        address = endpoint.address
        inside = any(address in net for net in zone.nets) if address else not zone.names or any(map_name(endpoint.host, zone.names))
        if inside or (address and not zone.nets):
            continue
        other = next((n for n, z in architecture.zones.items() if address and any(address in net for net in z.nets)), None)
        yield ("assets", name, "zone"), f"{endpoint} is outside zone {asset.zone}" + (f", it is in {other}" if other else "")


def map_name(host: str, globs: Iterable[str]) -> Iterator[bool]:
    """Whether each glob covers the host name; names compare without case (RFC 4343)."""
    return (fnmatchcase(host.lower(), glob.lower()) for glob in globs)


def _services(architecture: Architecture) -> Broken:
    for name, service in architecture.services.items():
        if not (service.protocol or service.ports or service.may):
            yield ("services", name), "names no protocol, ports or may, so anything would pass as this service"
        if not service.cap.per_host or service.cap.period is not Period.DAY:
            yield ("services", name, "cap"), f'cap "{service.cap}": expected a cap per host and day, such as 20 MiB / 1d per host'


def _accounts(architecture: Architecture) -> Broken:
    for name, account in architecture.accounts.items():
        if account.kind == "vendor" and account.expires is None:
            yield ("accounts", name), "is a vendor's; add expires"
        if account.kind == "break-glass" and account.needs is None:
            yield ("accounts", name), "is break-glass; add needs: ticket"
        for identity in account.identities:
            if not identity.partition(":")[2].removeprefix("CN=").strip("*"):
                yield (
                    ("accounts", name, "identities"),
                    f'identity "{identity}" stands for anyone, expected one such as certificate:CN={name}',
                )


def _decoys(architecture: Architecture) -> Broken:
    for name, hop in architecture.hops.items():
        for item in hop.what:
            if item in architecture.data and architecture.data[item].decoy:
                yield ("hops", name, "what"), f"{item} is a decoy, nobody may move it"


def _tickets(architecture: Architecture) -> Broken:
    for name, hop in architecture.hops.items():
        account = architecture.accounts.get(hop.who)
        if account is not None and account.needs == "ticket":
            yield ("hops", name, "who"), f"{hop.who} needs a ticket, so no hop approves it; add an exception with account, asset and when"


def _ends(architecture: Architecture) -> Broken:
    for name, hop in _whole_hops(architecture):
        for end in hop.from_:
            if end in hop.to:
                yield ("hops", name, "to"), f"{end} is where the data comes from too"
        account = architecture.accounts[hop.who]
        if not _account_at_an_end(architecture, account.from_, hop):
            yield (
                ("hops", name, "who"),
                f"{hop.who} may come only from {', '.join(account.from_)}, which is at no end of this hop, so no traffic could match",
            )


def _account_at_an_end(architecture: Architecture, hosts: Iterable[str], hop: Hop) -> bool:
    left, reached = architecture.hop_zones(hop)
    zones = left | reached
    relay = architecture.conduits[hop.via].through if hop.via else None
    for host in hosts:
        if host == relay or any(zone in zones for zone in architecture.zones_of([host])):
            return True
        try:
            network = ip_network(host)
        except ValueError:
            continue
        if any(net.version == network.version and net.overlaps(network) for zone in zones for net in architecture.zones[zone].nets):
            return True
    return False


def _conduits(architecture: Architecture) -> Broken:
    for name, hop in _whole_hops(architecture):
        left, reached = architecture.hop_zones(hop)
        crossings = [(start, end) for start in sorted(left) for end in sorted(reached) if start != end]
        if hop.via is None:
            for start, end in crossings[:1]:
                doors = [n for n, c in architecture.conduits.items() if start in c.from_ and end in c.to]
                remedy = f"add via: {doors[0]}" if doors else "no conduit leads there"
                yield ("hops", name), f"crosses from {start} to {end}; {remedy}"
            continue
        conduit = architecture.conduits[hop.via]
        if not crossings:
            yield ("hops", name, "via"), f"stays inside {', '.join(sorted(left))}, where {hop.via} is no door"
        for start, end in crossings:
            if start not in conduit.from_ or end not in conduit.to:
                back = start in conduit.to and end in conduit.from_
                yield (
                    ("hops", name, "via"),
                    f"{hop.via} leads from {', '.join(conduit.from_)} to {', '.join(conduit.to)}, "
                    + ("not back" if back else f"not from {start} to {end}"),
                )
        for key in ("agent", "sees", "feed", "terminator", "keylog"):
            if getattr(hop, key) is not None:
                yield ("hops", name, key), f"{key} is for a hop inside one zone, this one has that of conduit {hop.via}"


def _names_valid(architecture: Architecture) -> Broken:
    for name, hop in _whole_hops(architecture):
        for item in hop.what:
            homes = architecture.data[item].in_
            if any(_at(architecture, home, [*hop.from_, *hop.to]) for home in homes):
                continue
            carried = any(item in other.what and set(other.to) & set(hop.from_) for n, other in architecture.hops.items() if n != name)
            if not carried:
                yield (
                    ("hops", name, "what"),
                    f"{item} is in {', '.join(homes)}, and no hop brings it to {', '.join(hop.from_)}",
                )


def _at(architecture: Architecture, asset: str, ends: list[str]) -> bool:
    return asset in ends or (asset in architecture.assets and architecture.assets[asset].zone in ends)


def _residency(architecture: Architecture) -> Broken:
    for name, hop in _whole_hops(architecture):
        if not architecture.off_site(hop):
            continue
        if hop.approved is None or hop.approved.ticket is None:
            yield ("hops", name), "leaves the site; add approved with by and ticket"
        for item, columns in architecture.hop_objects(hop).items():
            class_name = architecture.data[item].class_
            rule = architecture.classes[class_name].off_site
            place = ("hops", name, "what")
            if rule == "never":
                inside = "" if item in hop.what else f", and {item} travels inside it as {', '.join(columns)}; add them to without"
                yield place, f"class {class_name} may never leave the site{inside or f', and {item} is of it'}"
            elif rule == "pseudonymised":
                if not columns:
                    yield place, f"class {class_name} may leave the site only pseudonymised, and {item} names no columns to pseudonymise"
                open_columns = [c for c in columns if not any(glob_covers(glob, c) for glob in hop.protect.pseudonymise)]
                if open_columns:
                    quoted = ", ".join(f'"{column}"' for column in open_columns)
                    yield (
                        ("hops", name, "protect"),
                        f"class {class_name} may leave the site only pseudonymised; add protect.pseudonymise for {quoted}",
                    )


def _transit(architecture: Architecture) -> Broken:
    for name, hop in _whole_hops(architecture):
        stated = hop.protect.transit
        if stated is None:
            continue
        for class_name in architecture.hop_classes(hop):
            demanded = architecture.classes[class_name].transit
            if TRANSIT_ORDER.index(stated) < TRANSIT_ORDER.index(demanded):
                yield ("hops", name, "protect"), f"transit {stated} is below {demanded}, which class {class_name} demands"


def _at_rest(architecture: Architecture) -> Broken:
    for name, hop in _whole_hops(architecture):
        if not architecture.off_site(hop):
            continue
        for class_name in architecture.hop_classes(hop):
            demanded = architecture.classes[class_name].at_rest
            stated = hop.protect.at_rest
            if AT_REST_ORDER.index(stated) < AT_REST_ORDER.index(demanded):
                remedy = f"at_rest {stated} is below that" if stated else f"add protect.at_rest: {demanded}"
                yield ("hops", name, "protect"), f"class {class_name} is at rest off site only {demanded}; {remedy}"


def _gdpr(architecture: Architecture) -> Broken:
    for name, hop in _whole_hops(architecture):
        if hop.gdpr is None and architecture.off_site(hop):
            for class_name in architecture.hop_classes(hop):
                if architecture.classes[class_name].gdpr:
                    yield ("hops", name), f"takes personal data (class {class_name}) off site; add gdpr with its basis"


def _retention(architecture: Architecture) -> Broken:
    for name, hop in _whole_hops(architecture):
        if hop.keep == SOURCE:
            for end in hop.to:
                if end not in architecture.assets or not architecture.assets[end].system_of_record:
                    yield ("hops", name, "keep"), f"keep source is for the system of record only, and {end} is none"
            continue
        for class_name in architecture.hop_classes(hop):
            keep_max = architecture.classes[class_name].keep_max
            if hop.keep.seconds > keep_max.seconds:
                yield ("hops", name, "keep"), f"keep {hop.keep} is over {keep_max}, the keep_max of class {class_name}"


def _pilot(architecture: Architecture) -> Broken:
    for name, hop in _whole_hops(architecture):
        if PILOT not in hop.tags:
            continue
        approved = hop.approved
        if approved is None or approved.date is None or approved.until is None:
            yield ("hops", name, "approved"), "is a pilot; add approved.date and approved.until"
        elif approved.until > approved.date + timedelta(days=PILOT_DAYS_MAX):
            latest = approved.date + timedelta(days=PILOT_DAYS_MAX)
            yield ("hops", name, "approved"), f"is a pilot until {approved.until}, expected at most {PILOT_DAYS_MAX} days: {latest}"
        for class_name in architecture.hop_classes(hop):
            sensitivity = architecture.classes[class_name].sensitivity
            if SENSITIVITY_ORDER.index(sensitivity) >= SENSITIVITY_ORDER.index("ip-sensitive"):
                yield ("hops", name, "what"), f"is a pilot and carries class {class_name}, a pilot carries nothing {sensitivity}"


def _ends_in_time(architecture: Architecture) -> Broken:
    if architecture.approved.date is not None and architecture.approved.date > architecture.review_by:
        yield ("review_by",), f"review_by {architecture.review_by} is before the approval of {architecture.approved.date}"
    for name, hop in _whole_hops(architecture):
        until = architecture.hop_until(hop)
        place = ("hops", name, "approved") if hop.approved is not None and hop.approved.until else ("hops", name)
        if hop.approved is not None and hop.approved.date is not None and hop.approved.date > until:
            yield place, f"ends on {until}, before its approval of {hop.approved.date}"
        expires = architecture.accounts[hop.who].expires
        if expires is not None and until > expires:
            yield place, f"ends on {until}, after account {hop.who} expires on {expires}"
        for zone in sorted(set(architecture.zones_of([*hop.from_, *hop.to]))):
            terms = architecture.zones[zone].terms
            if terms is not None and until > terms.until:
                yield place, f"ends on {until}, after terms {terms.ref} of {zone} end on {terms.until}"


def _limits(architecture: Architecture) -> Broken:
    lists: list[tuple[tuple[str, ...], tuple[Limit, ...]]] = [
        *((("hops", name, "limit"), hop.limit) for name, hop in architecture.hops.items()),
        *((("budgets", str(place), "limit"), budget.limit) for place, budget in enumerate(architecture.budgets)),
        *((("exceptions", name, "limit"), exception.limit) for name, exception in architecture.exceptions.items()),
        *((("accounts", name, "limit"), account.limit) for name, account in architecture.accounts.items()),
    ]
    for path, limits in lists:
        seen: dict[tuple[Unit, Period], Limit] = {}
        for limit in limits:
            if limit.per_host:
                yield path, f'limit "{limit}": per host is for the cap of a service'
            twin = seen.setdefault(limit.counts, limit)
            if twin is not limit:
                yield path, f'"{twin}" and "{limit}" limit the same thing'
            if limit.period is Period.SESSION and path[0] != "accounts":
                yield path, f'limit "{limit}": a session is that of an account, limit it there'
    for name, account in architecture.accounts.items():
        for limit in account.limit:
            if limit.unit is Unit.OBJECTS:
                yield ("accounts", name, "limit"), f'limit "{limit}": each object has a limit of its own, limit how many on the hops'
            if limit.period is Period.SESSION and account.kind == "service":
                # The connections of a pool never rest.
                yield ("accounts", name, "limit"), f'limit "{limit}": a service does not rest, limit its hours or days'


def _promises(architecture: Architecture) -> Broken:
    for name, door in architecture.conduits.items():
        if door.sees == "server-log" and door.feed is None:
            yield ("conduits", name, "sees"), "sees server-log; add feed, the log it is read from"
    for name, hop in _whole_hops(architecture):
        conduit = architecture.conduits[hop.via] if hop.via else None
        sees = architecture.hop_sees(hop)
        place = ("hops", name, "sees") if conduit is None else ("conduits", str(hop.via), "sees")
        if conduit is None and sees == "server-log" and hop.feed is None:
            yield place, "sees server-log; add feed, the log it is read from"
        if sees == "sizes":
            for limit in hop.limit:
                if limit.unit is not Unit.BYTES:
                    yield ("hops", name, "limit"), f'limit "{limit}": {limit.unit} cannot be counted where only sizes are seen, limit bytes'
        transit = architecture.hop_transit(hop)
        if sees == "decoded" and transit != "any" and not _means(hop, conduit):
            unsaid = " (unless sees says less)" if conduit is None and hop.sees is None else ""
            whose = f"hop {name} demands" if conduit is not None else "the hop demands"
            yield place, f"sees decoded{unsaid}, but {whose} {transit}; add feed, terminator or keylog, or see less"
        yield from _shared_names(architecture, name, hop, conduit)


def _means(hop: Hop, conduit: Conduit | None) -> bool:
    holder: Hop | Conduit = hop if conduit is None else conduit
    return holder.feed is not None or holder.terminator is not None or holder.keylog is not None


def _shared_names(architecture: Architecture, name: str, hop: Hop, conduit: Conduit | None) -> Broken:
    if (hop if conduit is None else conduit).feed is not None:
        return
    for end in hop.to:
        if end in architecture.assets:
            hosts = [endpoint.host for endpoint in architecture.assets[end].endpoints if endpoint.address is None]
        else:
            hosts = architecture.zones[end].names
        for host in hosts:
            if shared(host):
                yield ("hops", name, "to"), f"{end} is at {host}, a name many tenants share; add a feed that reveals the bucket or account"


def shared(host: str) -> bool:
    """Whether a declared name does not say whose it is: a provider's own name, or a wildcard over its tenants."""
    host = host.lower()
    if host in SHARED_NAMES or host in _SHARED_EXACT:
        return True
    # s3.eu-central-1.amazonaws.com is shared; bucket.s3.eu-central-1.amazonaws.com names its tenant; *.s3.… does not.
    if fnmatchcase(host, "s3[.-]*.amazonaws.com"):
        return True
    first, _, rest = host.partition(".")
    return "*" in first and any(fnmatchcase(f"x.{rest}", known) for known in SHARED_NAMES)


def _budgets(architecture: Architecture) -> Broken:
    for place, budget in enumerate(architecture.budgets):
        by_class = budget.class_ is not None and budget.to is not None and budget.owner is None
        by_owner = budget.owner is not None and budget.class_ is None and budget.to is None
        if not by_class and not by_owner:
            yield ("budgets", str(place)), "expected either class and to, or owner"


def _exceptions(architecture: Architecture) -> Broken:
    for name, exception in architecture.exceptions.items():
        path = ("exceptions", name)
        if exception.when.days is not Days.DATE:
            yield (
                (*path, "when"),
                f'when "{exception.when}" returns for ever, an exception is for stated hours such as 2026-04-04 00:00-06:00',
            )
        if exception.hop is not None:
            for key, given in (("account", exception.account), ("asset", exception.asset), ("may", exception.may)):
                if given:
                    yield (*path, key), f"{key} is not for an exception of a hop, which may only loosen limit and when"
            continue
        for key, given in (("account", exception.account), ("asset", exception.asset), ("may", exception.may)):
            if not given:
                yield path, f"{key} is missing; an exception names a hop, or account, asset and may"
        if exception.limit:
            yield (*path, "limit"), "limit is for an exception of a hop"
        account = architecture.accounts.get(exception.account or "")
        if account is not None and account.needs != "ticket":
            yield (*path, "account"), f"{exception.account} needs no ticket, so a hop approves it; an exception may not add an account"


def _loosening(architecture: Architecture) -> Broken:
    """An exception or a calendar line gives its hop more or other hours; one that takes away, or changes nothing, is a mistake."""
    for place, line in enumerate(architecture.calendar):
        for name in line.hops:
            hop = architecture.hops.get(name)
            if hop is not None and hop.when is None and (line.limit is None or line.limit.value == 1):
                yield ("calendar", str(place)), f"{line.what} loosens nothing: {name} may run at any time; add limit such as 3x"
    for title, exception in architecture.exceptions.items():
        hop = architecture.hops.get(exception.hop or "")
        if hop is None:
            continue
        if hop.when is None and not exception.limit:
            yield ("exceptions", title), f"loosens nothing: {exception.hop} may run at any time; add limit"
        normal = {(limit.unit, limit.period): limit for limit in hop.limit}
        for limit in exception.limit:
            own = normal.get((limit.unit, limit.period))
            if own is not None and limit.amount < own.amount:
                yield ("exceptions", title, "limit"), f'limit "{limit}" is below "{own}" of {exception.hop}, an exception loosens'


PROOFS: tuple[tuple[str, Callable[[Architecture], Broken]], ...] = (
    ("reference", _references),
    ("class-order", _class_order), ("zone", _zones), ("asset", _assets), ("service", _services), ("account", _accounts),
    ("decoy", _decoys), ("ticket", _tickets), ("ends", _ends), ("conduit", _conduits), ("name", _names_valid), ("residency", _residency),
    ("transit", _transit), ("at-rest", _at_rest), ("gdpr", _gdpr), ("retention", _retention), ("pilot", _pilot), ("until", _ends_in_time),
    ("limit", _limits), ("promise", _promises), ("budget", _budgets), ("exception", _exceptions),
    ("loosening", _loosening),
)  # fmt: skip
