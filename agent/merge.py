"""Windows of one flow become one window, when there is no room for each: sums, never a folded amount.

Two windows are merged if the second follows the first in ``sequence`` and they differ in nothing but times, counts, objects and
totals; the sum then says of bytes, rows, values, messages and packets what both said, and the conservation law of a connection
holds as before. The merged window bears the last one's ``sequence``; ``merged`` names the first, how many there were, and the
numbers the agent had given them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from hashlib import blake2b
from typing import Any, Final

from hopwatch.bus.numbers import Ranges, joined
from hopwatch.events import COUNT_MAX, OBJECTS_MAX, time_ns

ACCOUNT_OPERATIONS: Final = frozenset({"connect", "refused", "admin", "ddl"})
"""Who logged in, who was refused, whose rights changed: few, and worth more than any amount."""

RANGES_MAX: Final = 256
"""Runs of numbers one merged window or one loss names; then another begins."""

_SUMMED: Final = ("rows", "values", "messages", "bytes", "bytes_back", "packets")
_OBJECT_SUMMED: Final = ("rows", "values", "messages", "bytes")
_OBJECT_FIELDS: Final = {"names", "columns", *_OBJECT_SUMMED}
"""Of most sets; one that says more is told apart by all that it says."""
_OWN: Final = frozenset(
    {"event_id", "sequence", "final", "start", "end", "objects", "totals", "completeness", "merged", "agent_sequence", *_SUMMED}
)
_STATES: Final = ("complete", "encrypted", "one-sided", "late", "lossy", "malformed")
"""From what is known best to what is known least; of several windows the last named holds."""


def is_low_value(event: dict[str, Any]) -> bool:  # Any: JSON values.
    """Whether the event may be merged or dropped before those that tell of accounts."""
    return event.get("kind") == "heartbeat" or (event.get("kind") == "flow" and event.get("operation") not in ACCOUNT_OPERATIONS)


class Merged:
    """One window being made of several; begins as the first of them, and rests where the last of them stood."""

    def __init__(self, position: int, window: dict[str, Any]) -> None:  # Any: JSON values.
        self.position = position
        self.taken: list[int] = []
        self._first = window
        self._alike = _alike(window)
        self._last = window
        self._numbers: Ranges = joined(numbers_of(window))
        self._windows = _windows(window)
        self._sums = {name: window.get(name, 0) for name in _SUMMED}
        self._objects: dict[object, dict[str, Any]] = {}
        self._completeness = dict(window.get("completeness") or {})
        self._put(window)

    def take(self, position: int, window: dict[str, Any]) -> bool:  # Any: JSON values.
        """Add the window, if it is the next of this flow and there is room for it; False leaves everything as it was."""
        if _sequence_first(window) != self._last["sequence"] + 1 or _alike(window) != self._alike:
            return False
        if len(self._objects.keys() | {_object_key(one) for one in window.get("objects") or ()}) > OBJECTS_MAX:
            return False
        number = window["agent_sequence"]
        if number > self._numbers[-1][1] + 1 and "merged" not in window:
            numbers = [*self._numbers, [number, number]]
        else:
            numbers = joined([*self._numbers, *numbers_of(window)])
        sums = {name: self._sums[name] + window.get(name, 0) for name in _SUMMED}
        if len(numbers) > RANGES_MAX or any(abs(count) > COUNT_MAX for count in sums.values()):
            return False
        self._numbers, self._sums = numbers, sums
        self._put(window)
        self._windows += _windows(window)
        self._completeness = _worse(self._completeness, window.get("completeness") or {})
        self.taken.append(self.position)
        self.position = position
        self._last = window
        return True

    def _put(self, window: dict[str, Any]) -> None:
        for one in window.get("objects") or ():
            kept = self._objects.setdefault(_object_key(one), dict(one) | dict.fromkeys(_OBJECT_SUMMED, 0))
            for name in _OBJECT_SUMMED:
                kept[name] += one.get(name, 0)

    def event(self) -> dict[str, Any]:  # Any: JSON values.
        """The one window that says what all of them said."""
        first, last = self._first, self._last
        sequence = _sequence_first(first)
        identity = blake2b(f"merged {last['flow_id']} {sequence} {last['sequence']}".encode(), digest_size=16).hexdigest()
        return last | self._sums | {
            "event_id": identity,
            "start": min(first["start"], last["start"], key=time_ns),
            "objects": list(self._objects.values()),
            "completeness": self._completeness,
            "merged": {"windows": self._windows, "sequence_first": sequence, "agent_sequences": self._numbers},
        }  # fmt: skip


def numbers_of(event: dict[str, Any]) -> Ranges:  # Any: JSON values.
    """Every number of the agent's that the event answers for."""
    said = (event.get("merged") or {}).get("agent_sequences") or event.get("agent_sequences") or []
    return [*said, [event["agent_sequence"], event["agent_sequence"]]]


def merge(windows: Iterable[tuple[int, dict[str, Any]]]) -> list[Merged]:  # Any: JSON values.
    """Windows with their positions, in order: those of one flow merged as far as they can be. Only what took in others is returned."""
    open_: dict[str, Merged] = {}
    done: list[Merged] = []
    for position, window in windows:
        flow = window["flow_id"]
        held = open_.get(flow)
        if held is None or not held.take(position, window):
            if held is not None and held.taken:
                done.append(held)
            open_[flow] = Merged(position, window)
    done += (held for held in open_.values() if held.taken)
    return done


def _alike(window: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in window.items() if name not in _OWN}


def _object_key(one: dict[str, Any]) -> object:
    if one.keys() == _OBJECT_FIELDS:
        return tuple(one["names"]), tuple(one["columns"])
    return json.dumps({name: value for name, value in one.items() if name not in _OBJECT_SUMMED}, sort_keys=True)


def _sequence_first(window: dict[str, Any]) -> int:
    return int((window.get("merged") or {}).get("sequence_first", window["sequence"]))


def _windows(window: dict[str, Any]) -> int:
    return int((window.get("merged") or {}).get("windows", 1))


def _worse(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    states = [state for state in (one.get("state"), other.get("state")) if state is not None]
    return one | other | {
        "state": max(states, key=lambda state: _STATES.index(state) if state in _STATES else len(_STATES), default="complete"),
        "lost_bytes": one.get("lost_bytes", 0) + other.get("lost_bytes", 0),
        **{name: bool(one.get(name) or other.get(name)) for name in ("joined_late", "one_sided", "estimated")},
    }  # fmt: skip
