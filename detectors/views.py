"""What several views of one connection know together: a tap and a server log of the same session move its data once.

Amounts come from the most complete view: of each unit only what one view counts beyond every other is charged. Who it was comes
from the deepest. The same rule joins the two legs of a relay, which carry the same data twice.

A tap beats an estimate. What a switch or another sensor makes of whole packets is some bytes a packet too much, so what a tap watched
and lost nothing of counts as the tap says, and an estimate counts for the time that no tap covers: before it came, after it went,
where it lost something, and of what it could not read. What the views have counted together follows from what each has told,
whichever came first; an estimate that came first is put right when the tap's word comes, and meanwhile a limit is charged no more.
"""

from bisect import insort
from collections.abc import Collection, Iterable, Sequence
from copy import deepcopy
from functools import partial
from sys import intern
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from msgspec import UNSET, Struct, field
from msgspec.structs import astuple

from detectors.compare import DEPTH_ORDER
from detectors.memory import Marking, Memory
from hopwatch.events import Flow

if TYPE_CHECKING:
    from detectors.course import Course

CONNECTIONS_MAX: Final = 131_072
"""Connections remembered; the one heard of longest ago is forgotten."""

VIEWS_MAX: Final = 8
"""Views of one connection told apart; more would be agents that were set up twice."""

ESTIMATES_MAX: Final = 16
"""Estimates of one view and connection that are told apart by time; of more, the two oldest are one, for the time of both."""

HOLES_MAX: Final = 16
"""Times at which a tap lost something of a connection; of more, the two oldest are one, with the time between them."""

FLOWS_MAX: Final = 262_144
"""Flows whose windows are recognised when they are repeated, two of a connection; the one heard of longest ago is forgotten."""

SPANS_MAX: Final = 32
"""Runs of window numbers remembered for a flow; beyond it the oldest gap is taken as filled."""

SLACK_NS: Final = 5 * 10**9
"""How far a tap's last window may lie before the end of an estimate that it covers: clocks, and packets that carry nothing."""

HEADERS_SHARE: Final = 8
HEADERS_BYTES: Final = 4_096
"""An estimate that exceeds a whole tap's bytes by no more than that part of them, and so much, says the same whatever its time."""

SIZES: Final = frozenset({"along.bytes", "against.bytes"})
"""What a tap counts of a connection that it cannot read, too."""

Counts = dict[str, int]


UNITS: Final = tuple(f"{way}.{unit}" for way in ("along", "against") for unit in ("rows", "values", "messages", "bytes"))
"""What a view of a connection counts."""

LEG_UNITS: Final = tuple(f"{way}.{unit}" for way in ("up", "down") for unit in ("rows", "values", "messages", "bytes"))
"""What a leg of a relay counts."""


class Tally(Struct, gc=False):
    """What has been counted, one way and the other, in the order of ``UNITS``: there are too many for a table each."""

    rows: int = 0
    values: int = 0
    messages: int = 0
    bytes: int = 0
    against_rows: int = 0
    against_values: int = 0
    against_messages: int = 0
    against_bytes: int = 0

    def get(self, unit: str, none: int = 0) -> int:
        """How much of a unit; 0 if nothing."""
        amount: int = getattr(self, _FIELDS[unit], none)
        return amount

    def __setitem__(self, unit: str, amount: int) -> None:
        setattr(self, _FIELDS[unit], amount)

    def said(self, units: Sequence[str]) -> Counts:
        """By name, as a connection or a leg calls it."""
        return {unit: amount for unit, amount in zip(units, astuple(self), strict=True) if amount}

    @classmethod
    def of(cls, counted: Counts) -> "Tally":
        """The tally of a state."""
        return cls(**{_FIELDS[unit]: amount for unit, amount in counted.items()})


_FIELDS: Final = {unit: name for units in (UNITS, LEG_UNITS) for unit, name in zip(units, Tally.__struct_fields__, strict=True)}


class Told(NamedTuple):
    """What is known of a window besides its amounts: of a tap's if it is ``whole`` and was read, of others if it is an estimate."""

    tap: bool = False
    whole: bool = True
    read: bool = True
    estimated: bool = False
    at_ns: int = 0
    """When it began; of an estimate, when it ended."""


class Doubts(Struct, frozen=True, gc=False):
    """What only a view has that did not see everything, or did not count it."""

    holes: list[list[int]] = field(default_factory=list)
    """From when to when a tap's windows began that were not whole."""
    partial: Counts = field(default_factory=dict)
    """What of ``counted`` those counted."""
    estimates: list[list[Any]] = field(default_factory=list)  # Any: the end, and Counts
    """What of ``counted`` was estimated, by the end of its time."""


_NO_DOUBTS: Final = Doubts()
"""Of everyone who has none."""


class View(Struct, gc=False):
    """How far one view has counted, and for which time it can answer."""

    counted: Tally = field(default_factory=Tally)
    tap: bool = False
    until_ns: int = 0
    """When a tap's last whole window began."""
    unread: bool = False
    """There were windows that a tap could not read."""
    doubts: Doubts = _NO_DOUBTS

    def add(self, amounts: Counts, told: Told) -> None:
        """Another window."""
        _count(self.counted, amounts)
        if told.tap:
            self.tap = True
            self.unread = self.unread or not told.read
            if told.whole:
                self.until_ns = max(self.until_ns, told.at_ns)
                return
            doubts = self._doubts()
            _count(doubts.partial, amounts)
            insort(doubts.holes, [told.at_ns, told.at_ns])
            if len(doubts.holes) > HOLES_MAX:
                (first, end), (_, last) = doubts.holes[:2]
                doubts.holes[:2] = [[first, max(end, last)]]
        elif told.estimated:
            estimates = self._doubts().estimates
            known = next((one for one in estimates if one[0] == told.at_ns), None)
            if known is None:
                known = [told.at_ns, {}]
                insort(estimates, known, key=lambda one: one[0])
            _count(known[1], amounts)
            if len(estimates) > ESTIMATES_MAX:
                (_, before), (at_ns, after) = estimates[:2]
                _count(after, before)
                estimates[:2] = [[at_ns, after]]

    def _doubts(self) -> Doubts:
        """Its own, to be changed."""
        if self.doubts is _NO_DOUBTS:
            self.doubts = Doubts()
        return self.doubts

    def missed(self, other: "View", unit: str) -> int:
        """What the other's estimates say of times for which this tap cannot answer."""
        if self.unread and unit not in SIZES:
            return sum(counts.get(unit, 0) for _, counts in other.doubts.estimates)
        total, since_ns = 0, -1
        for at_ns, counts in other.doubts.estimates:
            if at_ns > self.until_ns + SLACK_NS or any(since_ns <= last and first <= at_ns for first, last in self.doubts.holes):
                total += counts.get(unit, 0)
            since_ns = at_ns
        return total

    def corrects(self, other: "View", unit: str) -> int:
        """What this tap leaves of what the other view has counted of a unit."""
        own, said = self.counted.get(unit, 0), other.counted.get(unit, 0)
        if not self.doubts.holes and unit in SIZES and own < said <= own + own // HEADERS_SHARE + HEADERS_BYTES:
            return own
        partial = self.doubts.partial.get(unit, 0)
        return max(own, min(said, own - partial + max(partial, self.missed(other, unit))))

    def state(self) -> list[Any]:  # Any: JSON values
        """What is known besides the counts; nothing where that is all."""
        doubts = self.doubts
        if not (self.tap or doubts.estimates):
            return []
        if self.until_ns and not (self.unread or doubts.estimates or doubts.holes or doubts.partial):
            # A tap that read and lost nothing, as nearly all are.
            return [1, self.until_ns]
        said = [int(self.tap), self.until_ns, int(self.unread), doubts.holes, doubts.partial, doubts.estimates]
        while not said[-1]:
            said.pop()
        return said

    @classmethod
    def of(cls, counts: Counts, said: list[Any]) -> "View":  # Any: JSON values
        """The view of a state."""
        nothing: list[Any] = [0, 0, 0, [], {}, []]  # Any: as above
        counted = Tally.of(counts)
        tap, until_ns, unread, holes, partial, estimates = said + nothing[len(said) :]
        doubts = Doubts(holes, partial, estimates) if holes or partial or estimates else _NO_DOUBTS
        return cls(counted, bool(tap), until_ns, bool(unread), doubts)


class Connection(Struct, gc=False):
    """One connection: how far each view has counted, and who the deepest view says it is.

    There are very many, and nearly all of them have one view: the others are a table only where there are others.
    """

    view: str = ""
    own: View = field(default_factory=View)
    """What the first view has counted."""
    others: dict[str, View] | None = None
    depth: str = "blind"
    account: str | None = None
    application: str | None = None
    role: str | None = None
    owed: Counts | None = None
    """What limits were charged too much for what turned out to be less."""
    turn: int = -1

    def views(self) -> dict[str, View]:
        """Every view by its name."""
        return ({self.view: self.own} if self.view else {}) | (self.others or {})

    def learn(self, flow: Flow) -> None:
        """What a window of it adds about who it is."""
        if flow.account is not None and DEPTH_ORDER[flow.depth] >= DEPTH_ORDER[self.depth]:
            # One text for all the connections of an account.
            self.account, self.application, self.role = intern(flow.account), _one(flow.application), _one(flow.role)
            self.depth = intern(flow.depth)

    def state(self, units: Sequence[str] = UNITS) -> list[Any]:  # Any: JSON values
        """Everything known of it; ``units`` are what it counts."""
        if self.view and self.others is None and not self.owed:
            known = self.own.state()
            alone = [{self.view: self.own.counted.said(units)}, self.depth, self.account, self.application, self.role]
            return [*alone, [known]] if known else alone
        views = self.views()
        more: list[Any] = [[view.state() for view in views.values()], self.owed or {}]
        while more and not any(more[-1]):
            more.pop()
        counted = {name: view.counted.said(units) for name, view in views.items()}
        return [counted, self.depth, self.account, self.application, self.role, *more]

    @classmethod
    def of(
        cls,
        counted: dict[str, Counts],
        depth: str,
        account: str | None,
        application: str | None,
        role: str | None,
        more: list[Any] | None = None,  # Any: JSON values
        owed: Counts | None = None,
    ) -> "Connection":
        """The connection of a state; one that was kept without times has counts alone."""
        told = more or [[]] * len(counted)
        views = iter([(name, View.of(counts, said)) for (name, counts), said in zip(counted.items(), told, strict=True)])
        view, own = next(views, ("", View()))
        return cls(view, own, dict(views) or None, depth, account, application, role, owed or None)


def _one(text: str | None) -> str | None:
    return None if text is None else intern(text)


def _together(views: Collection[View], units: Iterable[str]) -> Counts:
    """What all views of a connection have counted."""
    taps = [view for view in views if view.tap]
    return {unit: max([_corrected(view, taps, unit) for view in views]) for unit in units}


def _corrected(view: View, taps: list[View], unit: str) -> int:
    """What of a view's counts stands beside the taps."""
    if view.tap or not taps or not view.doubts.estimates:
        return view.counted.get(unit, 0)
    guessed: int = sum(counts.get(unit, 0) for _, counts in view.doubts.estimates)
    return max(view.counted.get(unit, 0) - guessed, min(tap.corrects(view, unit) for tap in taps))


class Added(NamedTuple):
    """What a window adds to what all views have counted: ``net`` may take back what was too much, ``charged`` does not."""

    charged: Counts
    net: Counts


class Views:
    """Every connection by its hash, or leg; ``units`` are what they count.

    ``forgotten_total`` counts what the bound pushed out, ``refused_total`` windows of a view too many.
    """

    def __init__(self, units: Sequence[str] = UNITS) -> None:
        self.memory: Marking[Connection] = Marking(Connection, partial(Connection.state, units=units), _connection, CONNECTIONS_MAX)
        self.refused_total = 0

    @property
    def forgotten_total(self) -> int:
        """Connections that the bound has pushed out."""
        return self.memory.forgotten_total

    def of(self, key: str) -> Connection:
        """The connection of this hash, a new one if there is none."""
        return self.memory.touched(key)

    def added(self, key: str, view: str, amounts: Counts) -> Counts:
        """What of the amounts no other view of ``key`` has counted yet."""
        return self.added_to(self.of(key), view, amounts, Told()).charged

    def added_to(self, connection: Connection, view: str, amounts: Counts, told: Told) -> Added:
        """The same of a connection that was just touched."""
        if not connection.view:
            connection.view = view
        if connection.view == view and connection.others is None:
            # Alone: then a correction may also take back what was counted too much.
            connection.own.add(amounts, told)
            return Added(amounts, amounts)
        views = connection.views()
        own = views.get(view)
        if own is None:
            if len(views) >= VIEWS_MAX:
                self.refused_total += 1
                return Added(none := dict.fromkeys(amounts, 0), none)
            own = View()
            connection.others = (connection.others or {}) | {view: own}
        before = _together(views.values(), amounts)
        own.add(amounts, told)
        views[view] = own
        after = _together(views.values(), amounts)
        net = {unit: after[unit] - before[unit] for unit in amounts}
        return Added(_charged(connection, net), net)

    def state(self) -> list[Any]:  # Any: JSON values
        """Everything remembered, oldest first."""
        return [[key, *said] for key, said in self.memory.state()]

    def restore(self, state: list[Any]) -> None:  # Any: JSON values
        """Take over what ``state`` gave."""
        self.memory.restore([(key, said) for key, *said in state])

    def changes(self) -> list[Any]:  # Any: JSON values
        """The connections touched since the last call, in order; the first call only begins to note them."""
        return [[key, *said] for key, said in self.memory.changes()]

    def merge(self, changes: list[Any]) -> None:  # Any: JSON values
        """Take over what ``changes`` gave."""
        self.memory.merge([(key, said) for key, *said in changes])

    def __len__(self) -> int:
        return len(self.memory)


def _connection(said: list[Any]) -> Connection:  # Any: JSON values
    return Connection.of(*deepcopy(said))


def _charged(connection: Connection, net: Counts) -> Counts:
    """What limits are charged: nothing is given back to them, but what was too much is taken off what comes."""
    owed = connection.owed
    if owed is None and min(net.values()) >= 0:
        return net
    charged, owed = {}, owed or {}
    for unit, amount in net.items():
        due = amount - owed.pop(unit, 0)
        charged[unit] = max(0, due)
        if due < 0:
            owed[unit] = -due
    connection.owed = owed or None
    return charged


def _count(own: Counts | Tally, amounts: Counts) -> None:
    for unit, amount in amounts.items():
        if amount:
            own[unit] = own.get(unit, 0) + amount


class Run(Struct, gc=False):
    """The windows of one flow that were seen: the number that comes next where all before it were, else pairs as of ``_spans``."""

    seen: int | list[list[int]] = 0
    turn: int = -1
    course: "Course | None" = None
    """What the last of them said, while it goes on; no part of what is remembered."""


Seen = int | Run
"""The same; of a flow that has said one window, or has ended, the number alone: most have."""


class Repeats:
    """Which windows were judged already: numbers are dense per flow, so a few runs of them say it all.

    Most flows were seen from their first window on without a gap: of those only the number is kept that comes next.
    """

    def __init__(self) -> None:
        self.memory: Memory[Seen] = Memory(Run, lambda seen: _spans(_numbers(seen)), _read, FLOWS_MAX)
        self.joined_total = 0
        self.repeated_total = 0

    @property
    def forgotten_total(self) -> int:
        """Flows that the bound has pushed out."""
        return self.memory.forgotten_total

    def first(self, flow: Flow) -> Run | None:
        """The run of its flow, with this window from now on; None if it has been seen."""
        memory, flow_id = self.memory, flow.flow_id
        entry = memory.entries.get(flow_id)
        sequence = flow.sequence
        number = sequence if flow.merged is UNSET else flow.sequence_first
        if entry is None and sequence == 0:
            memory.become(flow_id, 1)
            return _FIRST
        run = entry if type(entry) is Run and entry.turn == memory.turn else self._touched(flow_id)
        seen = run.seen
        if seen == number:
            # Number after number, as nearly all of them come.
            run.seen = sequence + 1
            if flow.final:
                memory.become(flow_id, sequence + 1)
            return run
        if not isinstance(seen, int) and number == seen[-1][1]:
            run.seen = [*seen[:-1], [seen[-1][0], sequence + 1]]
            return run
        if _holds(seen, flow):
            self.repeated_total += 1
            return None
        self._join(run, [[number, sequence + 1]])
        return run

    def has(self, flow: Flow) -> bool:
        """Whether this window has been seen, or all of those it was made of; nothing changes."""
        entry = self.memory.known(flow.flow_id)
        return entry is not None and _holds(_numbers(entry), flow)

    def absorb(self, other: "Repeats") -> None:
        """Remember what the other has seen, too."""
        for flow_id, entry in other.memory.items():
            self._join(self._touched(flow_id), _spans(_numbers(entry)))

    def _touched(self, flow_id: str) -> Run:
        """The flow's run, touched in this turn of the memory."""
        memory = self.memory
        entry = memory.of(flow_id)
        if type(entry) is not Run:
            entry = Run(_numbers(entry))
            memory.become(flow_id, entry)
        # The turn of afterwards: a new entry may begin one.
        entry.turn = memory.turn
        return entry

    def _join(self, run: Run, spans: list[list[int]]) -> None:
        joined: list[list[int]] = []
        for first, behind in sorted([*_spans(run.seen), *spans]):
            if joined and joined[-1][1] >= first:
                joined[-1] = [joined[-1][0], max(behind, joined[-1][1])]
            else:
                joined.append([first, behind])
        if len(joined) > SPANS_MAX:
            self.joined_total += 1
            joined[:2] = [[joined[0][0], joined[1][1]]]
        run.seen = _briefly(joined)

    def state(self) -> list[Any]:  # Any: JSON values
        """Everything remembered, oldest first."""
        return self.memory.state()

    def restore(self, state: list[Any]) -> None:  # Any: JSON values
        """Take over what ``state`` gave."""
        self.memory.restore(state)

    def changes(self) -> list[Any]:  # Any: JSON values
        """The flows touched since the last call, in order; the first call only begins to note them."""
        return self.memory.changes()

    def merge(self, changes: list[Any]) -> None:  # Any: JSON values
        """Take over what ``changes`` gave."""
        self.memory.merge(changes)

    def __len__(self) -> int:
        return len(self.memory)


_FIRST: Final = Run()
"""Of every flow that says its first window, of which nothing more is kept; nobody changes it."""


def _numbers(seen: Seen) -> int | list[list[int]]:
    return seen.seen if isinstance(seen, Run) else seen


def _read(spans: list[list[int]]) -> Seen:
    seen = _briefly(spans)
    return seen if isinstance(seen, int) else Run(seen)


def _holds(seen: int | list[list[int]], flow: Flow) -> bool:
    """Whether this window is one of them, or all of those it was made of are."""
    number = flow.sequence_first
    return any(first <= number and flow.sequence < behind for first, behind in _spans(seen))


def _spans(seen: int | list[list[int]]) -> list[list[int]]:
    """Runs of numbers as pairs: the first, and the one behind the last."""
    if isinstance(seen, int):
        return [[0, seen]] if seen else []
    return seen


def _briefly(spans: list[list[int]]) -> int | list[list[int]]:
    return spans[0][1] if len(spans) == 1 and spans[0][0] == 0 else spans
