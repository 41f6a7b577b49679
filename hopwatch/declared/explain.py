"""A hop in plain sentences, and how the answer is worded to who asks before building one: which hop would approve this?"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from hopwatch.declared.model import SOURCE, Architecture, Hop
from hopwatch.declared.quantity import Period, Unit

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
    shared = list(shared_limits(architecture, hop))
    if shared:
        sentences.append(f"It also counts towards {'; '.join(shared)}.")
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


def shared_limits(architecture: Architecture, hop: Hop) -> Iterator[str]:
    """The limits that hold besides the hop's own: those of all hops with its classes or of its owner, and its account's."""
    for budget in architecture.hop_budgets(hop):
        yield f"{_listed(map(str, budget.limit))} of {budget.title}"
    for limit in architecture.accounts[hop.who].limit:
        yield f"{limit} of {hop.who}" + ("" if limit.period is Period.SESSION else " on each object")


_BLIND = {
    "decoded": "account, objects, rows and protection are all read",
    "server-log": "account, objects and rows are what the server says",
    "sizes": "only ends, bytes, times and TLS version are known, what is inside is assumed",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether a movement would be approved: by which hop and on what conditions, or what differs from the nearest."""

    approved: bool
    hop: str | None
    said: tuple[str, ...]
    verdict: str = "declared"

    def __str__(self) -> str:
        if self.approved:
            return f"approved by {self.hop}" + "".join(f"\n  on condition: {condition}" for condition in self.said)
        nearest = f"nearest hop {self.hop} differs" if self.hop else "no hop comes near"
        return f"not approved, {self.verdict}; {nearest}:" + "".join(f"\n  {difference}" for difference in self.said)


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


def conditions(architecture: Architecture, hop: Hop) -> Iterator[str]:
    """What the hop demands of a movement beyond who, what, where and how many rows."""
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
    for shared in shared_limits(architecture, hop):
        yield f"within {shared}, with what else counts towards it"
    yield f"until {architecture.hop_until(hop)}"


def _listed(words: Iterable[str], last: str = "and") -> str:
    words = list(words)
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"
