"""What an agent says of itself every ten seconds: that it lives, how deep it sees where, how good its clock is, what it counted.

An agent knows no conduits; it says its coverage by tap and context (VLAN, VNI), and whoever has the declaration joins the two.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import blake2b
from typing import Any, Final, get_args

from agent.clock import ClockState
from hopwatch.events import Depth, Heartbeat, dump, time_text

HEARTBEAT_S: Final = 10.0

CONTEXTS_MAX: Final = 256
"""Taps and contexts one heartbeat tells apart; the windows of further ones are counted under none."""

_WHERE: Final = re.compile(rb'"tap":(?:"([^"]*)"|null),"context":(?:"([^"]*)"|null)')
_DEPTH, _ONE_SIDED = b'"depth":"', b'"one_sided":true'
_DEPTHS: Final = get_args(Depth)


class Coverage:
    """What was seen of each tap and context since it was last said."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str | None, str | None], dict[str, int]] = {}

    def take(self, lines: Iterable[bytes]) -> None:
        """The windows of a batch; read without parsing all of each, which is done often and costs the capture time."""
        for line in lines:
            if not line.startswith(b'{"kind":"flow"'):
                continue
            where, at = _WHERE.search(line), line.rfind(_DEPTH) + len(_DEPTH)
            key = (_text(where[1]), _text(where[2])) if where else (None, None)
            if key not in self._seen and len(self._seen) >= CONTEXTS_MAX:
                key = (None, None)
            counted = self._seen.setdefault(key, {"windows": 0, "one_sided": 0})
            counted["windows"] += 1
            counted["one_sided"] += line.find(_ONE_SIDED, at) >= 0
            depth = line[at : line.find(b'"', at)].decode("ascii", "replace")
            if depth in _DEPTHS:
                counted[depth] = counted.get(depth, 0) + 1

    def said(self) -> list[dict[str, Any]]:  # Any: JSON values.
        """By tap and context: the depth most windows had, windows by depth, the share of those that showed one side only."""
        seen, self._seen = self._seen, {}
        told = []
        for (tap, context), counted in sorted(seen.items(), key=str):
            depths = {depth: counted[depth] for depth in _DEPTHS if depth in counted}
            told.append(
                {
                    "tap": tap,
                    "context": context,
                    "depth": max(depths, key=lambda depth: depths[depth], default="blind"),
                    "depths": depths,
                    "windows": counted["windows"],
                    "one_sided_share": round(counted["one_sided"] / counted["windows"], 4),
                }
            )
        return told


class Health:
    """Makes heartbeats."""

    def __init__(self, plant: str, agent: str, version: str, clock: ClockState) -> None:
        self._plant, self._agent, self._version, self._clock = plant, agent, version, clock
        self.coverage = Coverage()
        self.clock_now = clock.now()

    def heartbeat(self, time_ns: int, counters: Mapping[str, int]) -> bytes:
        """The heartbeat of this moment."""
        self.clock_now = self._clock.now()
        said = {
            "event_id": blake2b(f"heartbeat {self._plant} {self._agent} {time_ns}".encode(), digest_size=16).hexdigest(),
            "plant": self._plant,
            "agent": self._agent,
            "time": time_text(time_ns),
            "version": self._version,
            "clock": self.clock_now,
            "counters": {name: count for name, count in counters.items() if count},
            "coverage": self.coverage.said(),
        }
        return dump(Heartbeat.model_validate(said))


def beating(
    batches: Iterable[list[bytes]],
    health: Health,
    counters: Callable[[], Mapping[str, int]],
    clock: Callable[[], float],
    time_ns: Callable[[], int],
    lives: Callable[[], bool] = lambda: True,
) -> Iterator[list[bytes]]:
    """The batches of a live capture, with a heartbeat behind the first of every HEARTBEAT_S, as long as the source ``lives``."""
    due_s = clock()
    for batch in batches:
        health.coverage.take(batch)
        if clock() >= due_s and lives():
            due_s = clock() + HEARTBEAT_S
            yield [*batch, health.heartbeat(time_ns(), counters())]
        else:
            yield batch


def _text(found: bytes | None) -> str | None:
    return None if found is None else found.decode("utf-8", "replace")
