"""What several views of one connection know together: a tap and a server log of the same session move its data once.

Amounts come from the most complete view: of each unit only what one view counts beyond every other is charged. Who it was comes
from the deepest. The same rule joins the two legs of a relay, which carry the same data twice.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Final

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
    """One connection: how far each view has counted, and who the deepest view says it is."""

    counted: dict[str, Counts] = field(default_factory=dict)
    depth: str = "blind"
    account: str | None = None
    application: str | None = None
    role: str | None = None


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
        own = connection.counted.get(view)
        if own is None:
            if len(connection.counted) >= VIEWS_MAX:
                self.refused_total += 1
                return dict.fromkeys(amounts, 0)
            own = connection.counted[view] = {}
        alone = len(connection.counted) == 1
        before = {} if alone else {unit: max(counts.get(unit, 0) for counts in connection.counted.values()) for unit in amounts}
        for unit, amount in amounts.items():
            if amount:
                own[unit] = own.get(unit, 0) + amount
        if alone:
            # Then a correction may also take back what was counted too much.
            return amounts
        return {unit: max(0, own.get(unit, 0) - before[unit]) for unit in amounts}

    def state(self) -> list[Any]:  # Any: JSON values
        """Everything remembered, oldest first."""
        return [[key, one.counted, one.depth, one.account, one.application, one.role] for key, one in self._connections.items()]

    def restore(self, state: list[Any]) -> None:  # Any: JSON values
        """Take over what ``state`` gave."""
        self._connections = OrderedDict(
            (key, Connection({view: dict(counts) for view, counts in counted.items()}, depth, account, application, role))
            for key, counted, depth, account, application, role in state
        )

    def changes(self) -> list[Any]:  # Any: JSON values
        """The connections touched since the last call, in order; the first call only begins to note them."""
        touched, self._touched = self._touched, set()
        return [
            [key, one.counted, one.depth, one.account, one.application, one.role] for key, one in tail(self._connections, touched or ())
        ]

    def merge(self, changes: list[Any]) -> None:  # Any: JSON values
        """Take over what ``changes`` gave."""
        for key, counted, depth, account, application, role in changes:
            put(self._connections, key, Connection(counted, depth, account, application, role), CONNECTIONS_MAX)

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


class Repeats:
    """Which windows were judged already: numbers are dense per flow, so a few runs of them say it all."""

    def __init__(self) -> None:
        self._flows: OrderedDict[str, list[list[int]]] = OrderedDict()
        self._touched: set[str] | None = None
        self.forgotten_total = 0
        self.joined_total = 0
        self.repeated_total = 0

    def first(self, flow: Flow) -> bool:
        """Whether this window has not been seen; it has from now on."""
        if self._touched is not None:
            self._touched.add(flow.flow_id)
        # Number after number, as nearly all of them come.
        spans, number = self._flows.get(flow.flow_id), flow.sequence_first
        if spans is None:
            self._flows[flow.flow_id] = [[number, flow.sequence + 1]]
            if len(self._flows) > FLOWS_MAX:
                self._flows.popitem(last=False)
                self.forgotten_total += 1
            return True
        if spans[0][1] == number and len(spans) == 1:
            self._flows[flow.flow_id] = [[spans[0][0], flow.sequence + 1]]
            self._flows.move_to_end(flow.flow_id)
            return True
        if self.has(flow):
            self._flows.move_to_end(flow.flow_id)
            self.repeated_total += 1
            return False
        self._keep(flow.flow_id, [*spans, [number, flow.sequence + 1]])
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
        self._flows[flow_id] = joined
        self._flows.move_to_end(flow_id)
        if len(self._flows) > FLOWS_MAX:
            self._flows.popitem(last=False)
            self.forgotten_total += 1

    def has(self, flow: Flow) -> bool:
        """Whether this window has been seen, or all of those it was made of; nothing changes."""
        spans = self._flows.get(flow.flow_id)
        if spans is None:
            return False
        number = flow.sequence_first
        return any(first <= number and flow.sequence < behind for first, behind in spans)

    def absorb(self, other: "Repeats") -> None:
        """Remember what the other has seen, too."""
        for flow_id, spans in other._flows.items():
            self._keep(flow_id, [*self._flows.get(flow_id, ()), *spans])

    def state(self) -> list[Any]:  # Any: JSON values
        """Everything remembered, oldest first."""
        return [[flow_id, spans] for flow_id, spans in self._flows.items()]

    def restore(self, state: list[Any]) -> None:  # Any: JSON values
        """Take over what ``state`` gave."""
        self._flows = OrderedDict((flow_id, [list(span) for span in spans]) for flow_id, spans in state)

    def changes(self) -> list[Any]:  # Any: JSON values
        """The flows touched since the last call, in order; the first call only begins to note them."""
        touched, self._touched = self._touched, set()
        return [[flow_id, spans] for flow_id, spans in tail(self._flows, touched or ())]

    def merge(self, changes: list[Any]) -> None:  # Any: JSON values
        """Take over what ``changes`` gave."""
        for flow_id, spans in changes:
            put(self._flows, flow_id, spans, FLOWS_MAX)

    def __len__(self) -> int:
        return len(self._flows)
