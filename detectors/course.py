"""What the last window of a flow said, and its judgement: the next one is nearly always like it (see ``kept``).

What a window says is looked at as it stands there, so that being like the one before costs no work but comparing; what is not the same
so may be alike all the same. Of a window with a mark there is little to look at.
"""

from datetime import date
from typing import Any

from msgspec import UNSET

from detectors.kept import Kept, in_any_order, is_much, is_unnamed
from detectors.views import Connection
from hopwatch.events import Flow

Said = tuple[Any, ...]  # Any: fields of a window


class Course:
    """The last window of a flow, its judgement, and what else is known of windows like it by whoever was shown it."""

    __slots__ = ("connection", "kept", "key", "kind", "said")

    def __init__(self, said: Said, kept: Kept, key: str, connection: Connection) -> None:
        self.said, self.kept = said, kept
        self.key, self.connection = key, connection
        self.kind: Any = None  # Any: whoever is shown such windows says what it is


def said(
    flow: Flow, who: tuple[str | None, ...], whose: tuple[str | None, ...] | None, complete: bool, day: date, *, in_order: bool
) -> Said | None:
    """What ``likeness``, ``narrow`` and the questions look at of a window, as it stands there; None of a window that is like no other.

    ``whose``: as ``nearness`` takes it. ``in_order``: of several sets the order is looked at, too.
    """
    sets = flow.objects
    mark = flow.mark
    if mark is not None:
        if in_order and len(sets) > 1:
            # A mark says nothing of the order of sets.
            return None
        client = flow.source if flow.opened_by == "source" else flow.destination
        return (mark, client.address, client.port, whose, complete, day, flow.bytes == 0, is_unnamed(flow))
    objects: Any
    if len(sets) == 1:
        part = sets[0]
        if part.marks is not UNSET:
            return None
        # Of what names no table it is looked at how much it is.
        objects = (
            (part.names, part.columns)
            if part.names
            else (part.columns, is_much(part.rows, part.values, max(part.bytes, flow.bytes), part.messages))
        )
    elif sets:
        objects = in_any_order(sets)
        if objects is None or any([part.marks is not UNSET for part in sets]):
            return None
        if in_order:
            objects = [part.names for part in sets], [part.columns for part in sets]
    else:
        objects = is_much(flow.rows, flow.values, flow.bytes, flow.messages)
    return (
        flow.source, flow.destination, objects, flow.operation, who, flow.account is None, flow.application, flow.protection, flow.agent,
        flow.opened_by, flow.transport, flow.protocol, flow.depth, complete, flow.completeness.estimated, day, flow.bytes == 0,
    )  # fmt: skip
