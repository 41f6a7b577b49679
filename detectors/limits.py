"""How much: the limits that bind a window's data.

A hop's own, the plant's budgets and the account's bind together; those of an exception or a calendar line stand in their place.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Final

from detectors.compare import Seen, counted_as
from detectors.kept import Allowance
from hopwatch.declared.match import Index, Met, budget_covers_zone
from hopwatch.declared.model import Architecture
from hopwatch.declared.quantity import Limit, Period, Unit
from hopwatch.events import ObjectSet

METADATA_LIMITS: Final = tuple(Limit(50_000, unit, Limit.parse("1 rows / 1h").period) for unit in (Unit.ROWS, Unit.VALUES, Unit.MESSAGES))
"""What a declared account may read of catalogues in an hour, whatever its hops say."""

Loosening = tuple[str, list[Limit]]
"""The key an exception or calendar line is charged to, and the limits it puts in place of the hop's."""


class Limits:
    """The limits of one declaration, each with the key it is charged to."""

    def __init__(self, architecture: Architecture, index: Index) -> None:
        self._architecture, self._index = architecture, index
        self._of_hop = {name: keyed_limits(f"hop:{name}", hop.limit) for name, hop in architecture.hops.items()}
        self._of_budget = [
            (budget, keyed_limits(f"budget:{budget.class_}|{budget.owner}|{budget.to}", budget.limit)) for budget in architecture.budgets
        ]
        # By account: what it may move of each object, and in a session.
        self.of_object = {name: limits for name, limits in _account_limits(architecture) if limits}
        self.of_session = {name: limits for name, limits in _account_limits(architecture, session=True) if limits}

    def allowances(
        self,
        seen: Seen,
        name: str,
        part: ObjectSet | None,
        share: dict[str, int],
        met: Met,
        classes: Collection[str],
        loosening: Loosening | None,
    ) -> list[Allowance]:
        """The limits that bind the set at this time: the hop's own, the plant's budgets and the account's, or a ticket's in their place."""
        unread = part is None
        forward = not unread or self._index.runs_forward(name, seen.source, seen.destination)
        objects = () if part is None else tuple(part.names)

        def counted(keyed: Iterable[tuple[str, Limit]], title: str = "") -> list[Allowance]:
            named = ((key, limit, counted_as(limit.unit, unread=unread, forward=forward)) for key, limit in keyed)
            return [Allowance(key, limit, share.get(counts, 0), counts, objects, title) for key, limit, counts in named]

        if loosening is not None:
            key, limits = loosening
            return counted(keyed_limits(f"{key}:{name}", limits))
        found = counted(self._of_hop[name])
        classes = classes or self._index.hop_classes(name)
        zone = seen.destination.zone
        for budget, limited in self._of_budget:
            if budget.class_ is not None and budget.class_ not in classes:
                continue
            if budget.owner is not None and self._architecture.accounts[self._architecture.hops[name].who].owner != budget.owner:
                continue
            ends = [zone, seen.source.zone] if unread else [zone]
            if any(budget_covers_zone(self._architecture, budget.to, end) for end in ends):
                found.extend(counted(limited, f"{budget.title}: "))
        account = self._architecture.hops[name].who if seen.account is None else seen.declared_account
        for keyed, title, of_session in self.own(seen, account, part, met, self._architecture.hops[name].what):
            found.extend(one._replace(cap=of_session) for one in counted(keyed, title))
        return found

    def own(
        self, seen: Seen, account: str | None, part: ObjectSet | None, met: Met, what: Sequence[str]
    ) -> list[tuple[list[tuple[str, Limit]], str, bool]]:
        """The account's limits on each object of the set and in its session, by key and title; the last says whether of a session.

        Where nobody can tell the objects they are ``what``, if that is one thing.
        """
        found: list[tuple[list[tuple[str, Limit]], str, bool]] = []
        if account in self.of_object:
            entries = {entry for one in met.found.values() for entry in one.entries}
            if not entries and len(what) == 1 and (part is None or not met.unclassified):
                entries = set(what)
            limits = self.of_object[account]
            found += [(keyed_limits(f"account:{account}|{entry}", limits), f"{account} on {entry}: ", False) for entry in sorted(entries)]
        if account in self.of_session:
            # Whose session it is says the host; the server is the end that may be one of several members.
            seen.asked.personal = True
            server = seen.server.asset or seen.server.host or seen.server.address
            key = f"session:{account}|{seen.client.address}|{server}"
            found.append((keyed_limits(key, self.of_session[account]), f"{account} from {seen.client.shown}: ", True))
        return found

    def metadata(self, seen: Seen, share: dict[str, int]) -> list[Allowance]:
        """What catalogues may be read, whatever hops say."""
        key = f"metadata:{seen.account or seen.client.address}"
        seen.asked.personal = seen.asked.personal or seen.account is None
        return [Allowance(f"{key}#{limit.unit}", limit, share.get(limit.unit, 0), limit.unit.value, cap=True) for limit in METADATA_LIMITS]

    def loosening(self, name: str, seen: Seen) -> Loosening | None:
        """The exception or calendar line that covers the hop now, and the limits in its place."""
        hop = self._architecture.hops[name]
        for title, planned in self._index.exceptions_of_hop(name):
            if seen.within(planned.when, self._architecture.timezone):
                return f"exception:{title}", list(planned.limit or hop.limit)
        for place in self._index.calendar_of_hop(name):
            line = self._architecture.calendar[place]
            if seen.day <= self._architecture.calendar_until(line) and seen.within(line.when, self._architecture.timezone):
                factor = line.limit
                limits = list(hop.limit) if factor is None else [_times(limit, factor.of(limit.amount), str(factor)) for limit in hop.limit]
                return f"calendar:{line.ticket}|{line.what}", limits
        return None


def keyed_limits(key: str, limits: Iterable[Limit]) -> list[tuple[str, Limit]]:
    """Each limit with the key of its budget; what was spent stays spent when somebody changes the amount."""
    return [(f"{key}#{limit.unit}/{limit.period}", limit) for limit in limits]


def _account_limits(architecture: Architecture, *, session: bool = False) -> Iterable[tuple[str, list[Limit]]]:
    """By account its limits on each object, or those of a session."""
    for name, account in architecture.accounts.items():
        yield name, [limit for limit in account.limit if (limit.period is Period.SESSION) == session]


def _times(limit: Limit, amount: int, factor: str) -> Limit:
    return Limit(amount, limit.unit, limit.period, limit.per_host, f"{factor} {limit}")
