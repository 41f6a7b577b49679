"""What several views of one connection know together: a tap and a server log of the same session move its data once.

Amounts come from the most complete view: of each unit only what one view counts beyond every other is charged. Who it was comes
from the deepest. The same rule joins the two legs of a relay, which carry the same data twice.
"""

from collections import OrderedDict
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Final

from msgspec import UNSET

from detectors.changes import put, tail
from detectors.compare import DEPTH_ORDER
from hopwatch.events import Flow

CONNECTIONS_MAX: Final = 65_536
"""Connections remembered; the one heard of longest ago is forgotten."""

VIEWS_MAX: Final = 8
"""Views of one connection told apart; more would be agents that were set up twice."""

FLOWS_MAX: Final = 65_536
"""Flows whose windows are recognised when they are repeated; the one heard of longest ago is forgotten."""

SPANS_MAX: Final = 32
"""Runs of window numbers remembered for a flow; beyond it the oldest gap is taken as filled."""

Counts = dict[str, int]


@dataclass(slots=True)
class Connection:
    """One connection: how far each view has counted, and who the deepest view says it is.

    There are very many, and nearly all of them have one view: the others are a table only where there are others.
    """

    view: str = ""
    own: Counts = field(default_factory=dict)
    """What the first view has counted."""
    others: dict[str, Counts] | None = None
    depth: str = "blind"
    account: str | None = None
    application: str | None = None
    role: str | None = None

    def counted(self) -> dict[str, Counts]:
        """What every view has counted, by its name."""
        return ({self.view: self.own} if self.view else {}) | (self.others or {})

    def state(self, key: str) -> list[Any]:  # Any: JSON values
        """Everything known of the connection of this key."""
        return [key, self.counted(), self.depth, self.account, self.application, self.role]

    @classmethod
    def of(cls, counted: dict[str, Counts], *who: Any) -> "Connection":  # Any: as ``state`` gave it
        """The connection of a state."""
        views = iter(counted.items())
        view, own = next(views, ("", {}))
        return cls(view, own, dict(views) or None, *who)


class Views:
    """Every connection by its hash. ``forgotten_total`` counts what the bound pushed out, ``refused_total`` windows of a view too many."""

    def __init__(self) -> None:
        self._connections: OrderedDict[str, Connection] = OrderedDict()
        self._touched: set[str] | None = None
        self.forgotten_total = 0
        self.refused_total = 0

    def learn(self, flow: Flow) -> Connection:
        """The connection, with what this window adds about who it is."""
        connection = self._get(flow.connection)
        if flow.account is not None and DEPTH_ORDER[flow.depth] >= DEPTH_ORDER[connection.depth]:
            connection.account, connection.application, connection.role = flow.account, flow.application, flow.role
            connection.depth = flow.depth
        return connection

    def added(self, key: str, view: str, amounts: Counts) -> Counts:
        """What of the amounts no other view of ``key`` has counted yet."""
        return self.added_to(self._get(key), view, amounts)

    def added_to(self, connection: Connection, view: str, amounts: Counts) -> Counts:
        """The same of a connection that was just touched."""
        if not connection.view:
            connection.view = view
        if connection.view == view and connection.others is None:
            # Alone: then a correction may also take back what was counted too much.
            _count(connection.own, amounts)
            return amounts
        counted = connection.counted()
        own = counted.get(view)
        if own is None:
            if len(counted) >= VIEWS_MAX:
                self.refused_total += 1
                return dict.fromkeys(amounts, 0)
            own = {}
            connection.others = (connection.others or {}) | {view: own}
        before = {unit: max(counts.get(unit, 0) for counts in counted.values()) for unit in amounts}
        _count(own, amounts)
        return {unit: max(0, own.get(unit, 0) - before[unit]) for unit in amounts}

    def state(self) -> list[Any]:  # Any: JSON values
        """Everything remembered, oldest first."""
        return [one.state(key) for key, one in self._connections.items()]

    def restore(self, state: list[Any]) -> None:  # Any: JSON values
        """Take over what ``state`` gave."""
        self._connections = OrderedDict((key, Connection.of(deepcopy(counted), *who)) for key, counted, *who in state)

    def changes(self) -> list[Any]:  # Any: JSON values
        """The connections touched since the last call, in order; the first call only begins to note them."""
        touched, self._touched = self._touched, set()
        return [one.state(key) for key, one in tail(self._connections, touched or ())]

    def merge(self, changes: list[Any]) -> None:  # Any: JSON values
        """Take over what ``changes`` gave."""
        for key, counted, *who in changes:
            put(self._connections, key, Connection.of(counted, *who), CONNECTIONS_MAX)

    def __len__(self) -> int:
        return len(self._connections)

    def _get(self, key: str) -> Connection:
        if self._touched is not None:
            self._touched.add(key)
        connection = self._connections.get(key)
        if connection is None:
            connection = self._connections[key] = Connection()
            if len(self._connections) > CONNECTIONS_MAX:
                self._connections.popitem(last=False)
                self.forgotten_total += 1
        else:
            self._connections.move_to_end(key)
        return connection


def _count(own: Counts, amounts: Counts) -> None:
    for unit, amount in amounts.items():
        if amount:
            own[unit] = own.get(unit, 0) + amount


class Repeats:
    """Which windows were judged already: numbers are dense per flow, so a few runs of them say it all.

    Most flows were seen from their first window on without a gap: of those only the number is kept that comes next.
    """

    def __init__(self) -> None:
        self._flows: OrderedDict[str, int | list[list[int]]] = OrderedDict()
        self._touched: set[str] | None = None
        self.forgotten_total = 0
        self.joined_total = 0
        self.repeated_total = 0

    def first(self, flow: Flow) -> bool:
        """Whether this window has not been seen; it has from now on."""
        if self._touched is not None:
            self._touched.add(flow.flow_id)
        flow_id, number = flow.flow_id, flow.sequence if flow.merged is UNSET else flow.sequence_first
        seen = self._flows.get(flow_id)
        behind = flow.sequence + 1
        if seen == number:
            # Number after number, as nearly all of them come.
            self._flows[flow_id] = behind
            self._flows.move_to_end(flow_id)
            return True
        if seen is None:
            self._put(flow_id, behind if number == 0 else [[number, behind]])
            return True
        if not isinstance(seen, int) and number == seen[-1][1]:
            self._flows[flow_id] = [*seen[:-1], [seen[-1][0], behind]]
            self._flows.move_to_end(flow_id)
            return True
        if self.has(flow):
            self._flows.move_to_end(flow_id)
            self.repeated_total += 1
            return False
        self._keep(flow_id, [*_spans(seen), [number, behind]])
        return True

    def _keep(self, flow_id: str, spans: list[list[int]]) -> None:
        joined: list[list[int]] = []
        for first, behind in sorted(spans):
            if joined and joined[-1][1] >= first:
                joined[-1][1] = max(behind, joined[-1][1])
            else:
                joined.append([first, behind])
        if len(joined) > SPANS_MAX:
            self.joined_total += 1
            joined[:2] = [[joined[0][0], joined[1][1]]]
        self._put(flow_id, _briefly(joined))
        self._flows.move_to_end(flow_id)

    def _put(self, flow_id: str, seen: int | list[list[int]]) -> None:
        self._flows[flow_id] = seen
        if len(self._flows) > FLOWS_MAX:
            self._flows.popitem(last=False)
            self.forgotten_total += 1

    def has(self, flow: Flow) -> bool:
        """Whether this window has been seen, or all of those it was made of; nothing changes."""
        seen = self._flows.get(flow.flow_id)
        if seen is None:
            return False
        number = flow.sequence_first
        return any(first <= number and flow.sequence < behind for first, behind in _spans(seen))

    def absorb(self, other: "Repeats") -> None:
        """Remember what the other has seen, too."""
        for flow_id, seen in other._flows.items():
            self._keep(flow_id, [*_spans(self._flows.get(flow_id, 0)), *_spans(seen)])

    def state(self) -> list[Any]:  # Any: JSON values
        """Everything remembered, oldest first."""
        return [[flow_id, _spans(seen)] for flow_id, seen in self._flows.items()]

    def restore(self, state: list[Any]) -> None:  # Any: JSON values
        """Take over what ``state`` gave."""
        self._flows = OrderedDict((flow_id, _briefly([list(span) for span in spans])) for flow_id, spans in state)

    def changes(self) -> list[Any]:  # Any: JSON values
        """The flows touched since the last call, in order; the first call only begins to note them."""
        touched, self._touched = self._touched, set()
        return [[flow_id, _spans(seen)] for flow_id, seen in tail(self._flows, touched or ())]

    def merge(self, changes: list[Any]) -> None:  # Any: JSON values
        """Take over what ``changes`` gave."""
        for flow_id, spans in changes:
            put(self._flows, flow_id, _briefly(spans), FLOWS_MAX)

    def __len__(self) -> int:
        return len(self._flows)


def _spans(seen: int | list[list[int]]) -> list[list[int]]:
    """Runs of numbers as pairs: the first, and the one behind the last."""
    if isinstance(seen, int):
        return [[0, seen]] if seen else []
    return seen


def _briefly(spans: list[list[int]]) -> int | list[list[int]]:
    return spans[0][1] if len(spans) == 1 and spans[0][0] == 0 else spans
