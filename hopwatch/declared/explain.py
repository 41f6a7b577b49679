"""A hop in plain sentences, and the question a person asks before building one: which hop would approve this?"""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fnmatch import fnmatchcase
from ipaddress import ip_address

from hopwatch.declared.model import SOURCE, Architecture, Hop
from hopwatch.declared.quantity import Unit

_MULTIPLES = {"k": 10**3, "M": 10**6, "G": 10**9}


def explain_hop(architecture: Architecture, name: str) -> str:
    """What a hop allows, for someone who has not read the file.

    Raises:
        KeyError: no hop of that name.
    """
    hop = architecture.hops[name]
    line = architecture.lines.get(("hops", name), 1)
    met = architecture.hop_objects(hop)
    inside = [f"{item} ({', '.join(columns)})" for item, columns in met.items() if item not in hop.what]
    sentences = [
        f"{name} ({architecture.file}:{line}): {hop.why}.",
        f"Account {hop.who} may {_listed(hop.may, 'or')} {_listed(f'{w} ({architecture.data[w].class_})' for w in hop.what)} "
        f"from {_listed(hop.from_)} to {_listed(hop.to)}{f' through conduit {hop.via}' if hop.via else ', inside one zone'}.",
    ]
    if inside:
        sentences.append(f"Inside those tables travel {_listed(inside)}.")
    if hop.without:
        sentences.append(f"It must not carry {_listed(hop.without)}.")
    sentences.append(f"It may run {hop.when} ({architecture.timezone.key})." if hop.when else "It may run at any time.")
    sentences.append(f"It may move at most {_listed(map(str, hop.limit))}.")
    transit = architecture.hop_transit(hop)
    why = "as stated" if hop.protect.transit else "as its classes demand"
    sentences.append("Cleartext is accepted." if transit == "any" else f"In transit it needs {transit} or better, {why}.")
    if hop.protect.pseudonymise:
        sentences.append(f"{_listed(hop.protect.pseudonymise)} must be pseudonymised first.")
    sentences.append("The copy is the record itself." if hop.keep == SOURCE else f"The copy may live {hop.keep} at the destination.")
    if architecture.off_site(hop):
        zones = [architecture.zones[zone] for zone in sorted(set(architecture.zones_of(hop.to)))]
        where = _listed(f"{zone.operator} in {zone.country}, terms {zone.terms.ref if zone.terms else 'none'}" for zone in zones)
        sentences.append(f"The data leaves the site: {where}.")
    sees = architecture.hop_sees(hop)
    sentences.append(f"We see it as {sees}; {_BLIND[sees]}.")
    if hop.approved is not None:
        sentences.append(f"{hop.approved.by} approved it{f' under {hop.approved.ticket}' if hop.approved.ticket else ''}.")
    sentences.append(f"It ends on {architecture.hop_until(hop)}, that day included.")
    return "\n".join(sentences)


_BLIND = {
    "decoded": "account, objects, rows and protection are all read",
    "server-log": "account, objects and rows are what the server says",
    "sizes": "only ends, bytes, times and TLS version are known, what is inside is assumed",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether a movement would be approved: by which hop, or what differs from the nearest."""

    approved: bool
    hop: str | None
    differences: tuple[str, ...]

    def __str__(self) -> str:
        if self.approved:
            return f"approved by {self.hop}" + "".join(f"\n  on condition: {difference}" for difference in self.differences)
        nearest = f"; nearest hop {self.hop} differs:" if self.hop else "; no hop comes near"
        return f"not approved{nearest}" + "".join(f"\n  {difference}" for difference in self.differences)


def what_if(architecture: Architecture, who: str, source: str, destination: str, what: str, rows: int) -> Answer:
    """Which hop would approve ``rows`` of ``what`` moved once from source to destination by ``who``.

    Ends are assets, zones or addresses; ``what`` is a data name, a table, topic or node. Time and operation are not asked,
    so what a hop says of them comes back as a condition.
    """
    items = _items(architecture, what)
    best: tuple[int, str, tuple[str, ...]] | None = None
    for name, hop in architecture.hops.items():
        differences = tuple(_differences(architecture, hop, who, source, destination, what, items, rows))
        if not differences:
            return Answer(True, name, tuple(_conditions(architecture, hop)))
        # Ends first, as verdicts do: a hop between the same places is nearer than one of the same account.
        far = sum(3 if difference.startswith(("from", "to")) else 1 for difference in differences)
        if best is None or far < best[0]:
            best = (far, name, differences)
    account = architecture.accounts.get(who)
    if account is None:
        return Answer(False, best[1] if best else None, (f"account {who} is not in the file", *(best[2] if best else ())))
    return Answer(False, best[1], best[2]) if best else Answer(False, None, ())


def read_count(text: str) -> int:
    """``200000`` or ``200k``.

    Raises:
        ValueError: not a whole count.
    """
    multiple = _MULTIPLES.get(text[-1:], 1)
    try:
        exact = Decimal(text[:-1] if multiple > 1 else text) * multiple
        whole = exact == exact.to_integral_value()
    except (InvalidOperation, ArithmeticError) as error:
        raise ValueError(f'"{text}": expected a count such as 200000 or 200k') from error
    if not whole or exact < 0:
        raise ValueError(f'"{text}": expected a count such as 200000 or 200k')
    return int(exact)


def _differences(
    architecture: Architecture, hop: Hop, who: str, source: str, destination: str, what: str, items: set[str], rows: int
) -> Iterable[str]:
    if hop.who != who:
        yield f"who    {hop.who} -> {who}"
    if not _is_end(architecture, source, hop.from_):
        yield f"from   {', '.join(hop.from_)} -> {source}"
    if not _is_end(architecture, destination, hop.to):
        yield f"to     {', '.join(hop.to)} -> {destination}"
    if not items:
        yield f"what   {', '.join(hop.what)} -> {what}, which is unclassified"
    elif not items <= set(hop.what):
        classes = ", ".join(sorted({architecture.data[item].class_ for item in items}))
        yield f"what   {', '.join(hop.what)} -> {what} (class {classes})"
    for limit in hop.limit:
        if limit.unit is Unit.ROWS and rows > limit.amount:
            yield f"limit  {limit} -> {rows} rows"


def _conditions(architecture: Architecture, hop: Hop) -> Iterable[str]:
    yield f"operation is {_listed(hop.may, 'or')}"
    if hop.when:
        yield f"it runs {hop.when} ({architecture.timezone.key})"
    if hop.without:
        yield f"it carries no {_listed(hop.without)}"
    transit = architecture.hop_transit(hop)
    if transit != "any":
        yield f"in transit {transit} or better"
    for limit in hop.limit:
        if limit.unit is not Unit.ROWS:
            yield f"within {limit}"
    yield f"until {architecture.hop_until(hop)}"


def _items(architecture: Architecture, what: str) -> set[str]:
    """The data a name stands for; if several entries match, the highest class holds."""
    if what in architecture.data:
        return {what}
    matching = {
        name
        for name, data in architecture.data.items()
        if any(fnmatchcase(what, glob) for glob in (*data.tables, *data.nodes)) or any(_topic(what, topic) for topic in data.topics)
    }
    if not matching:
        return set()
    highest = max(architecture.class_order(architecture.data[name].class_) for name in matching)
    return {name for name in matching if architecture.class_order(architecture.data[name].class_) == highest}


def _topic(topic: str, pattern: str) -> bool:
    """Whether an MQTT topic filter covers a topic (OASIS MQTT 5.0, 4.7)."""
    names, filters = topic.split("/"), pattern.split("/")
    if filters[-1] == "#":
        filters.pop()
        names = names[: len(filters)]
    return len(names) == len(filters) and all(said in ("+", name) for name, said in zip(names, filters, strict=True))


def _is_end(architecture: Architecture, place: str, ends: list[str]) -> bool:
    if place in ends or (place in architecture.assets and architecture.assets[place].zone in ends):
        return True
    try:
        address = ip_address(place)
    except ValueError:
        return False
    for end in ends:
        if end in architecture.assets and any(endpoint.address == address for endpoint in architecture.assets[end].endpoints):
            return True
        if end in architecture.zones and any(address in net for net in architecture.zones[end].nets):
            return True
    return False


def _listed(words: Iterable[str], last: str = "and") -> str:
    words = list(words)
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"
