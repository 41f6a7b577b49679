"""Records as rows of the schema: what both stores write into their columns."""

from __future__ import annotations

import json
from typing import Any

from hopwatch.events import EVIDENCE_MAX, SEVERITIES, time_ns, time_text
from hopwatch.store import Event

Row = tuple[Any, ...]  # Any: SQL values.


_WHOLE = len("2026-04-07T10:42:08.123456789Z")


def sortable(time: str) -> str:
    """An RFC 3339 time in UTC with nine decimals, whose text order is time order."""
    if time.endswith("Z") and time[10:11] == "T" and len(time) >= 20:
        if len(time) == _WHOLE and time[19] == ".":
            return time
        seconds, _, fraction = time[:-1].partition(".")
        return f"{seconds}.{fraction[:9]:0<9}Z"
    return sortable(time_text(time_ns(time)))


def text(record: object) -> str:
    """The record as JSON text."""
    return json.dumps(record, ensure_ascii=False, separators=(",", ":"))


def clean(row: Row) -> Row:
    """PostgreSQL's text holds no NUL, and no half of a surrogate pair; JSON may say both (RFC 8259, 8.2)."""
    for value in row:
        if isinstance(value, str) and not value.isascii():
            break
        if isinstance(value, str) and "\0" in value:
            break
    else:
        return row
    return tuple(value.replace("\0", "\ufffd").encode("utf-8", "replace").decode() if isinstance(value, str) else value for value in row)


def loss_row(loss: Event, whole: str | None = None) -> Row:
    """A row of ``losses``; ``whole`` is the event's text where it is at hand."""
    start, end = sortable(loss["start"]), sortable(loss["end"])
    return (loss["event_id"], loss["plant"], loss["agent"], start, end, loss["stage"], whole or text(loss))


def heartbeat_row(beat: Event, whole: str | None = None) -> Row:
    """A row of ``heartbeats``."""
    return (beat["event_id"], beat["plant"], beat["agent"], sortable(beat["time"]), whole or text(beat))


def finding_row(finding: Event, whole: str | None = None) -> Row:
    """A row of ``findings``."""
    values = [finding.get(name) for name in ("finding_id", "plant", "verdict", "severity")]
    values += [sortable(finding["first_seen"]), sortable(finding["last_seen"])]
    values += [finding.get(name) for name in ("who", "source", "destination", "nearest_hop")]
    return (*values, whole or text(finding))


def merged(kept: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The finding as the newer event says it, with what only the older one knew."""
    later, earlier = (new, kept) if sortable(new["last_seen"]) >= sortable(kept["last_seen"]) else (kept, new)
    both = earlier | later
    both["first_seen"] = min(kept["first_seen"], new["first_seen"], key=sortable)
    both["severity"] = max(kept["severity"], new["severity"], key=SEVERITIES.index)
    both["windows"] = max(kept.get("windows", 1), new.get("windows", 1))
    both["evidence"] = list(dict.fromkeys([*kept.get("evidence", ()), *new.get("evidence", ())]))[:EVIDENCE_MAX]
    both["observed"] = _observed(kept.get("observed", {}), new.get("observed", {}))
    said = {(entry["question"], entry["declared"]): entry for entry in [*earlier.get("differences", ()), *later.get("differences", ())]}
    both["differences"] = list(said.values())
    return both


def _observed(kept: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The larger of two accumulations; lists are united."""
    both = kept | new
    for name in kept.keys() & new.keys():
        if isinstance(kept[name], list):
            both[name] = list(dict.fromkeys([*kept[name], *new[name]]))
        elif isinstance(kept[name], int):
            both[name] = max(kept[name], new[name])
    return both
