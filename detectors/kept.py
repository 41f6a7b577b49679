"""Judgements that are given again: what was said of a window holds for the next one like it, until something it follows from changes.

A connection says much the same every second, so most windows differ from one before them in their number, their time and their amounts
alone. Windows are alike (``likeness``) where everything else is the same that a judgement follows from; a judgement is kept under that,
with what it asked that may be answered otherwise the next time (``Asked``):

- does a schedule cover the time, does a feed live: asked again, and the judgement holds if the answers are those of then;
- is a limit spent: counted again with the new amounts. Only a judgement that found every limit wide enough is kept, and it holds only
  where each of them still is, so amounts decide nothing but what is charged.

What holds is charged as it was charged then. Whatever does not hold, or cannot be kept, is judged as if nothing had ever been kept, so
that forgetting (``KEPT_MAX``) costs time and changes no word. Nothing here is part of the detector's state.

Nearly every window is like one before it, of its own flow or of another client's. Its reader knows that of most (``mark``), and then
little is left to look at (``nearness``). What a flow's last window said is kept beside its judgement (``Course``), so that what it is like
is worked out once, and not with each of its windows.

What is said without naming who it is about is said of more: a client that no list of the declaration names, in a zone, is anyone there;
topics or nodes that are judged together come in any order. Such likeness is ``broad``; where a judgement is of this client, or of these
sets one by one, what tells them apart (``narrow``) is looked at besides.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final, NamedTuple

from detectors.budget import Claim
from detectors.judgement import Opinion, Outcome
from hopwatch.declared.match import BYTES, End, Index
from hopwatch.declared.quantity import Limit, Unit
from hopwatch.declared.schedule import Schedule
from hopwatch.events import Endpoint, Flow, ObjectSet

KEPT_MAX: Final = 32_768
"""Judgements kept, some 3 kB each; when half as many were given, those that were not given since the half before are forgotten."""

UNNAMED_ROWS_MAX: Final = 1
UNNAMED_BYTES_MAX: Final = 1024
"""What each statement that names no table may return before its objects count as unknown."""

Likeness = tuple[Any, ...]  # Any: whatever of a window a judgement follows from

Amounts = dict[str, int]

# Which of a window's amounts a step counts, where it is not one of its object sets, by its place.
WHOLE: Final = -1
"""Everything of the window, both ways, seen by another agent or not: what services are capped by."""
NEW: Final = -2
"""What no other view has counted."""
NO_SETS: Final = -3
"""The window as its only object set."""
TOGETHER: Final = -4
"""All its object sets as one."""


class Allowance(NamedTuple):
    """A limit that binds the set, the key it is charged to, and the amount."""

    key: str
    limit: Limit
    amount: int
    counts: str
    """Which of the set's amounts that is; empty if none."""
    objects: tuple[str, ...] = ()
    name: str = ""
    cap: bool = False
    """A peer's, not a hop's."""


class Due(NamedTuple):
    """A limit that was asked for, of amounts of one part of the window, and whether it was charged."""

    claim: Claim
    most: int
    part: int
    counts: str
    name: str
    charged: bool
    cap: bool


class Step(NamedTuple):
    """Limits that were asked for, and those charged, with amounts of one part of the window."""

    part: int
    asked: tuple[Allowance, ...]
    charged: tuple[Allowance, ...]


@dataclass(slots=True)
class Asked:
    """What one judgement asked that the next window like it may get another answer to."""

    schedules: list[tuple[Schedule, bool]] = field(default_factory=list)
    feeds: list[tuple[str, bool]] = field(default_factory=list)
    limits: list[Allowance] = field(default_factory=list)
    """Those of the step that is under way."""
    steps: list[Step] = field(default_factory=list)
    anew: bool = False
    """Something was asked that cannot be asked again: the next window is judged anew."""
    minute: bool = False
    """The judgement tells the time, to the minute."""
    personal: bool = False
    """The judgement is of this client, not of anyone in its zone."""
    together: bool = False
    """All sets were judged as one."""

    def step(self, part: int, charged: Sequence[Allowance] = ()) -> None:
        """A part of the window has been weighed."""
        if self.limits or charged:
            self.steps.append(Step(part, tuple(dict.fromkeys(self.limits)), tuple(charged)))
        self.limits.clear()

    @property
    def keepable(self) -> bool:
        """Whether the judgement can be given again: limits of distinct objects are not counted over several steps."""
        if len(self.steps) > 1 and any(one.limit.unit is Unit.OBJECTS for step in self.steps for one in (*step.asked, *step.charged)):
            return False
        return not self.anew


class Kept(NamedTuple):
    """A judgement with what it follows from."""

    opinion: Opinion | None
    """What may yet be added to where there are ``members``."""
    outcome: Outcome
    narrow: Likeness | None
    """What else a window must share to be judged so; None if nothing."""
    up: bool
    """The data runs from the client to the server."""
    members: tuple[End, ...]
    """Ends that may be one of several members of an asset: which of them serves is remembered window by window."""
    schedules: tuple[tuple[Schedule, bool], ...]
    feeds: tuple[tuple[str, bool], ...]
    minute: int | None
    steps: tuple[Step, ...]
    counts: tuple[str, ...]
    """The amounts that the steps count."""
    dues: tuple[Due, ...] | None
    """What the steps come to, where there is at most one, and it asks for what it charges and no limit twice, as nearly all do."""
    quiet: bool
    """Nothing of it is told, whoever it is about."""


def dues(steps: Sequence[Step]) -> tuple[Due, ...] | None:
    """What the steps come to if each limit is asked for once and then charged, if at all, and counts amounts."""
    if not steps:
        return ()
    part, asked, charged = steps[0]
    counted = {one.key: one for one in asked}
    paid = {one.key: one for one in charged}
    if len(steps) > 1 or len(asked) != len(counted) or len(charged) != len(paid) or any(one.limit.unit is Unit.OBJECTS for one in asked):
        return None
    if any(key not in counted or counted[key].counts != one.counts for key, one in paid.items()):
        return None
    # Those that are charged in the order in which they were.
    ordered = [*charged, *(one for one in asked if one.key not in paid)]
    return tuple(
        [Due(Claim(one.key, one.limit), one.limit.amount, part, one.counts, one.name, one.key in paid, one.cap) for one in ordered]
    )


class Judgements:
    """Kept judgements by likeness: when half of ``KEPT_MAX`` were asked for, those that were not since the half before are forgotten.

    Two halves in the place of one order: a likeness is long, and each time it is looked up costs as much as making it.
    ``given_total`` counts those that were given again.
    """

    def __init__(self) -> None:
        self._now: dict[Likeness, Kept] = {}
        self._before: dict[Likeness, Kept] = {}
        self.forgotten_total = 0
        self.given_total = 0

    def like(self, broad: Likeness, flow: Flow) -> Kept | None:
        """What was said of a window like this one."""
        kept = self.get(broad)
        if kept is not None and kept.narrow is not None and kept.narrow != (exactly := narrow(flow)):
            kept = self.get((broad, exactly))
        return kept

    def keep(self, broad: Likeness, kept: Kept) -> None:
        """Remember a judgement for the next window like this one; told apart more narrowly, the first of them has the broad place."""
        first = self.get(broad)
        if first is not None and first.narrow is not None and kept.narrow is not None and first.narrow != kept.narrow:
            broad = (broad, kept.narrow)
        self.put(broad, kept)

    def get(self, key: Likeness) -> Kept | None:
        """What was put there; None if it was forgotten, or nothing was."""
        return self._now.get(key) or self._again(key)

    def put(self, key: Likeness, kept: Kept) -> None:
        """Remember it in the half under way."""
        self._before.pop(key, None)
        self._now[key] = kept
        if len(self._now) > KEPT_MAX // 2:
            self.forgotten_total += len(self._before)
            self._before, self._now = self._now, {}

    def _again(self, key: Likeness) -> Kept | None:
        """One that was asked for last before the half under way."""
        kept = self._before.pop(key, None)
        if kept is not None:
            self.put(key, kept)
        return kept

    def __len__(self) -> int:
        return len(self._now) + len(self._before)


def likeness(index: Index, flow: Flow, who: tuple[str | None, ...], complete: bool, day: date) -> Likeness | None:
    """What windows share of which the same is said; None of a window that is judged for itself.

    ``who``: account, application and role, as the views of the connection know them. Not looked at: numbers, times and amounts, which
    are asked for again, and what no judgement follows from (connection, statement, totals).
    """
    protection = flow.protection
    certificate = protection.certificate
    objects: Any = ()  # Any: the names of one set, or of several
    sets = flow.objects
    if len(sets) == 1:
        part = sets[0]
        objects = (tuple(part.names), tuple(part.columns))
    elif sets:
        objects = in_any_order(sets)
        if objects is None:
            return None
    return (
        _ends(index, flow), flow.agent, flow.opened_by, flow.transport, flow.protocol, flow.account is None, who, flow.operation,
        flow.depth, protection.transport, protection.authentication, protection.policy,
        certificate is not None and isinstance(certificate, dict) and certificate.get("self_signed") is True,
        complete, flow.completeness.estimated, day, flow.bytes == 0, objects, is_unnamed(flow),
    )  # fmt: skip


def nearness(index: Index, flow: Flow, mark: object, who: tuple[str | None, ...] | None, complete: bool, day: date) -> Likeness:
    """The same of a window with a mark (``hopwatch.lines``): windows with one mark are alike but for what stands beside it.

    ``who`` is None where the window itself says who it is. Windows that are near are alike, and no more is worked out to see it.
    """
    client = flow.source if flow.opened_by == "source" else flow.destination
    address = client.address
    # As ``anyone`` says it: of a client that is new this is most of the work.
    net, _, last = address.rpartition(".")
    place: Any = index.nets_of_anyone.get(net) if last in BYTES else None  # Any: anyone of a zone, or an address, and its port
    if not place:
        place = index.anyone(address) or (address, client.port if index.listens(address, client.port) else 0)
    return (mark, place, who, complete, day, flow.bytes == 0, is_unnamed(flow))


def is_unnamed(flow: Flow) -> bool:
    """Whether the window has at most one object set, which names nothing, and that is much."""
    sets = flow.objects
    if not sets:
        return is_much(flow.rows, flow.values, flow.bytes, flow.messages)
    if len(sets) > 1 or (part := sets[0]).names:
        return False
    return is_much(part.rows, part.values, max(part.bytes, flow.bytes), part.messages)


def in_any_order(sets: Sequence[ObjectSet]) -> tuple[Any, ...] | None:  # Any: names of sets
    """What several sets name, and how many they are; None if one names nothing or takes something back."""
    every: list[Any] = []
    for part in sets:
        names = part.names
        if not names or part.rows < 0 or part.values < 0 or part.messages < 0:
            return None
        # A topic or node is a set of its own as a rule.
        every.append(names[0] if len(names) == 1 and not part.columns else (tuple(names), tuple(part.columns)))
    return (len(sets), frozenset(every))


def narrow(flow: Flow) -> Likeness:
    """What of a window is looked at besides, where it matters who the client is or in which order the sets come."""
    client = flow.source if flow.opened_by == "source" else flow.destination
    sets = flow.objects
    order = tuple([(tuple(part.names), tuple(part.columns)) for part in sets]) if len(sets) > 1 else ()
    return (client.address, order)


def _ends(index: Index, flow: Flow) -> tuple[Any, ...]:  # Any: what of an end is compared, and nothing else
    """The two ends as far as the declaration tells ends apart: a port at random is no difference, nor is anyone from anyone."""
    source, destination, opened_by = flow.source, flow.destination, flow.opened_by
    if opened_by is None:
        return (source.address, source.port, _names(source), destination.address, destination.port, _names(destination))
    server, client = (source, destination) if opened_by == "destination" else (destination, source)
    names = _names(server) if server.names else ()
    if client.names:
        return (server.address, server.port, names, client.address, client.port, _names(client))
    address = client.address
    zone = index.anyone(address)
    if zone is not None:
        return (server.address, server.port, names, zone)
    return (server.address, server.port, names, address, client.port if index.listens(address, client.port) else 0)


def _names(end: Endpoint) -> tuple[Any, ...]:  # Any: as above
    return tuple([(name.name, name.by, name.port) for name in end.names])


def is_much(rows: int, values: int, count_bytes: int, statements: int) -> bool:
    """Whether statements that name no table have returned more than each may: a pool asks `select 1` again and again."""
    each = max(1, statements)
    return max(rows, values) > UNNAMED_ROWS_MAX * each or count_bytes > UNNAMED_BYTES_MAX * each


def moved(flow: Flow, part: int, counts: str) -> int:
    """How much of one amount the part of the window moves, whoever counted it before."""
    sets = flow.objects
    if part >= 0:
        own: int = getattr(sets[part], counts)
        if counts == "bytes" and part == 0:
            # Together the sets have the window's bytes: protocol overhead counts too.
            own += max(0, flow.bytes - sum([one.bytes for one in sets]))
        return own
    if part == TOGETHER:
        total: int = sum([getattr(one, counts) for one in sets])
        return max(total, flow.bytes) if counts == "bytes" else total
    whole: int = getattr(flow, counts)
    return whole + flow.bytes_back if part == WHOLE and counts == "bytes" else whole
