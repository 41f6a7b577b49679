"""How much a window counts: what of it no other view of its connection has counted, and what of that each of its object sets has."""

from functools import lru_cache
from typing import Final

from detectors.kept import NEW, WHOLE, moved
from detectors.views import Connection, Views
from hopwatch.events import Flow, ObjectSet

# What of a window is counted; ``back`` are the bytes the other way. On a connection both ways have names of their own, so that every
# view, and both legs of a relay, count the same data under the same one whichever end is the source.
AMOUNTS: Final = ("rows", "values", "messages", "bytes", "back")
UP: Final = ("up.rows", "up.values", "up.messages", "up.bytes", "down.bytes")
DOWN: Final = ("down.rows", "down.values", "down.messages", "down.bytes", "up.bytes")

NAMES_MAX: Final = 4_096
"""Names of views that are put together once and known again; of more, the longest unused are put together anew."""


def new_amounts(views: Views, flow: Flow, connection: Connection, *, up: bool) -> dict[str, int]:
    """What of the window no other view of its connection has counted, by unit; ``back`` is the other way."""
    rows, values, messages, size, back = flow.rows, flow.values, flow.messages, flow.bytes, flow.bytes_back
    names = UP if up else DOWN
    if connection.others is None and connection.view == _view(flow.agent, flow.seen_by):
        # Nobody else sees it, so all of it is new.
        own = connection.own
        for name, amount in zip(names, (rows, values, messages, size, back), strict=True):
            if amount:
                own[name] = own.get(name, 0) + amount
        return {"rows": rows, "values": values, "messages": messages, "bytes": size, "back": back}
    counted = {names[0]: rows, names[1]: values, names[2]: messages, names[3]: size, names[4]: back}
    new = views.added_to(connection, _view(flow.agent, flow.seen_by), counted)
    if new is counted:
        return {"rows": rows, "values": values, "messages": messages, "bytes": size, "back": back}
    return dict(zip(AMOUNTS, [new[name] for name in names], strict=True))


def sets_of(flow: Flow) -> tuple[ObjectSet, ...]:
    """The window's object sets; together they have the window's bytes, so that protocol overhead is charged too."""
    if not flow.objects:
        return (ObjectSet(names=[], rows=flow.rows, values=flow.values, messages=flow.messages, bytes=flow.bytes),)
    rest = flow.bytes - sum(part.bytes for part in flow.objects)
    if rest <= 0:
        return tuple(flow.objects)
    first = flow.objects[0]
    return (first.model_copy(update={"bytes": first.bytes + rest}), *flow.objects[1:])


def portion(part: ObjectSet | None, left: dict[str, int]) -> dict[str, int]:
    """What of the set is new among the views; ``left`` is what of the window is, and shrinks."""
    if part is None:
        return dict(left)
    new = {"back": 0}
    for unit, amount in (("rows", part.rows), ("values", part.values), ("messages", part.messages), ("bytes", part.bytes)):
        new[unit] = once(amount, left[unit])
        left[unit] -= new[unit]
    return new


def portion_of(flow: Flow, part: int, counts: str, new: dict[str, int], left: dict[str, int]) -> int:
    """The same of one amount of a kept step's part."""
    if part == WHOLE:
        return moved(flow, part, counts) if counts else 0
    if part == NEW:
        return new.get(counts, 0)
    return once(moved(flow, part, counts), left[counts]) if counts and counts != "back" else 0


def once(amount: int, left: int) -> int:
    """What of an amount was not counted before; a correction is taken as it is."""
    return amount if amount < 0 else min(amount, max(0, left))


# One name for all the connections that it stands in.
@lru_cache(maxsize=NAMES_MAX)
def _view(agent: str, seen_by: str) -> str:
    """How a view of a connection is called."""
    return f"{agent}/{seen_by}"
