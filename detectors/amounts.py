"""How much a window counts: what of it no other view of its connection has counted, and what of that each of its object sets has."""

from functools import lru_cache
from typing import Final

from detectors.kept import NEW, TOGETHER, WHOLE, moved
from detectors.views import Connection, Counts, Told, Views
from hopwatch.events import Flow, ObjectSet

# What of a window is counted; ``back`` are the bytes the other way. On a connection both ways have names of their own, by the order of its
# ends, so that every view counts the same data under the same one: who opened it not every view knows. On the legs of a relay,
# which have other ends, the ways are those from and to the client.
AMOUNTS: Final = ("rows", "values", "messages", "bytes", "back")
ALONG: Final = ("along.rows", "along.values", "along.messages", "along.bytes", "against.bytes")
AGAINST: Final = ("against.rows", "against.values", "against.messages", "against.bytes", "along.bytes")
UP: Final = ("up.rows", "up.values", "up.messages", "up.bytes", "down.bytes")
DOWN: Final = ("down.rows", "down.values", "down.messages", "down.bytes", "up.bytes")

NAMES_MAX: Final = 4_096
"""Names of views that are put together once and known again; of more, the longest unused are put together anew."""


def new_amounts(
    views: Views, flow: Flow, connection: Connection, *, complete: bool, start_ns: int, righted_ns: int = 0
) -> tuple[Counts, Counts]:
    """What of the window no other view of its connection has counted, by unit; ``back`` is the other way.

    First what limits are charged, then what it adds to the sum of all views, which is less where an estimate had said too much.
    """
    rows, values, messages, size, back = flow.rows, flow.values, flow.messages, flow.bytes, flow.bytes_back
    source, destination = flow.source, flow.destination
    here, there = source.address, destination.address
    names = ALONG if (source.port < destination.port if here == there else here < there) else AGAINST
    tap = flow.seen_by == "tap"
    estimated = not tap and flow.completeness.estimated
    view = _view(flow.agent, flow.seen_by)
    if connection.others is None and (connection.view == view or not connection.view) and not estimated:
        # Nobody else sees it, so all of it is new.
        own = connection.own
        connection.view = view
        if tap:
            if not complete:
                return _added(views, flow, connection, names, Told(True, complete, flow.depth == "decoded", False, start_ns))
            own.tap = True
            own.until_ns = max(own.until_ns, start_ns)
            own.unread = own.unread or flow.depth != "decoded"
        counted = own.counted
        # A loop over the five would cost as much again.
        if names is ALONG:
            counted.rows += rows
            counted.values += values
            counted.messages += messages
            counted.bytes += size
            counted.against_bytes += back
        else:
            counted.against_rows += rows
            counted.against_values += values
            counted.against_messages += messages
            counted.against_bytes += size
            counted.bytes += back
        new = {"rows": rows, "values": values, "messages": messages, "bytes": size, "back": back}
        return new, new
    told = (
        Told(True, complete, flow.depth == "decoded", False, start_ns)
        if tap
        else Told(estimated=estimated, at_ns=flow.end_ns + righted_ns if estimated else 0)
    )
    return _added(views, flow, connection, names, told)


def _added(views: Views, flow: Flow, connection: Connection, names: tuple[str, ...], told: Told) -> tuple[Counts, Counts]:
    amounts = (flow.rows, flow.values, flow.messages, flow.bytes, flow.bytes_back)
    added = views.added_to(connection, _view(flow.agent, flow.seen_by), dict(zip(names, amounts, strict=True)), told)
    charged = dict(zip(AMOUNTS, [added.charged[name] for name in names], strict=True))
    if added.net is added.charged:
        return charged, charged
    return charged, dict(zip(AMOUNTS, [added.net[name] for name in names], strict=True))


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
    if part >= 0 and counts not in ("", "bytes", "back"):
        amount: int = getattr(flow.objects[part], counts)
    elif part == NEW:
        return new.get(counts, 0)
    elif part == WHOLE:
        return moved(flow, part, counts) if counts else 0
    elif not counts or counts == "back":
        return 0
    elif counts == "bytes" and (part == TOGETHER or len(flow.objects) == 1) and 0 <= left[counts] <= flow.bytes:
        # All of it is the sets', as ``moved`` says it.
        return left[counts]
    else:
        amount = moved(flow, part, counts)
    return amount if 0 <= amount <= left[counts] else once(amount, left[counts])


def once(amount: int, left: int) -> int:
    """What of an amount was not counted before; a correction is taken as it is."""
    return amount if amount < 0 else min(amount, max(0, left))


# One name for all the connections that it stands in.
@lru_cache(maxsize=NAMES_MAX)
def _view(agent: str, seen_by: str) -> str:
    """How a view of a connection is called."""
    return f"{agent}/{seen_by}"
