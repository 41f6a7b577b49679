"""What nobody saw: the intervals in which an agent, or a view of one flow, lost events.

An interval is kept for whom it concerns and joined with those it touches, so that asking costs the same however many losses
there were. Packets that the kernel dropped are not among them: a stream shows such a gap itself, in the window's completeness.
"""

from bisect import bisect_right
from collections import OrderedDict
from typing import Any, Final

from hopwatch.events import Flow, Loss, time_ns

LOSSES_MAX: Final = 16_384
"""Intervals remembered; of whoever lost something longest ago the oldest is forgotten."""


class Losses:
    """Intervals by agent (``a/NAME``) and by flow (``f/ID``), disjoint and in order of time."""

    def __init__(self) -> None:
        self.spans: OrderedDict[str, list[tuple[int, int]]] = OrderedDict()
        """By whom it concerns, who lost something longest ago first."""
        self._count = 0
        self._changed = True
        self.forgotten_total = 0

    def add(self, loss: Loss) -> None:
        """Remember the interval for the flows it names, else for its agent if events were lost."""
        whose = [f"f/{flow_id}" for flow_id in loss.flows] or ([f"a/{loss.agent}"] if loss.events else [])
        first_ns, last_ns = time_ns(loss.start), time_ns(loss.end)
        for key in whose:
            self._keep(key, first_ns, max(first_ns, last_ns))
            self._changed = True

    def cover(self, flow: Flow, start_ns: int) -> bool:
        """Whether something of the window was lost; ``start_ns`` is its start."""
        if not self.spans:
            return False
        end_ns = flow.end_ns
        return self._meets(f"f/{flow.flow_id}", start_ns, end_ns) or self._meets(f"a/{flow.agent}", start_ns, end_ns)

    def state(self) -> list[Any]:  # Any: JSON values
        """Everything remembered, who lost something longest ago first."""
        return [[key, spans] for key, spans in self.spans.items()]

    def restore(self, state: list[Any]) -> None:  # Any: JSON values
        """Take over what ``state`` gave."""
        self.spans = OrderedDict((str(key), [(int(first), int(last)) for first, last in spans]) for key, spans in state)
        self._count = sum(map(len, self.spans.values()))

    def changes(self) -> list[Any]:  # Any: JSON values
        """Everything, if something was lost since the last call: losses are few, and joining them changes old entries."""
        changed, self._changed = self._changed, False
        return self.state() if changed else []

    def merge(self, changes: list[Any]) -> None:  # Any: JSON values
        """Take over what ``changes`` gave."""
        self.restore(changes)

    def __len__(self) -> int:
        return self._count

    def _meets(self, key: str, start_ns: int, end_ns: int) -> bool:
        spans = self.spans.get(key)
        if spans is None:
            return False
        # Only the last interval that begins before the window's end can reach into it: they are disjoint.
        place = bisect_right(spans, end_ns, key=lambda span: span[0])
        return place > 0 and spans[place - 1][1] >= start_ns

    def _keep(self, key: str, first_ns: int, last_ns: int) -> None:
        spans = self.spans.setdefault(key, [])
        self.spans.move_to_end(key)
        behind = bisect_right(spans, last_ns, key=lambda span: span[0])
        before = behind
        while before > 0 and spans[before - 1][1] >= first_ns:
            before -= 1
            first_ns, last_ns = min(first_ns, spans[before][0]), max(last_ns, spans[before][1])
        self._count += 1 - (behind - before)
        spans[before:behind] = [(first_ns, last_ns)]
        if self._count > LOSSES_MAX:
            oldest, theirs = next(iter(self.spans.items()))
            del theirs[0]
            if not theirs:
                del self.spans[oldest]
            self._count -= 1
            self.forgotten_total += 1
