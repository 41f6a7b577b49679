"""The numbers an agent gives its events prove that nothing between it and a reader was lost.

Every event an agent says bears ``spool``, the identity of the log it waited in, and ``agent_sequence``, its number there: 0, 1, 2
and so on, without a gap, given once and kept through every restart. Of what never came out of a spool another event answers for
the numbers: a merged window (``merged.agent_sequences``) or a ``loss`` of stage ``spool`` (``agent_sequences``, which is said to be
lost). A number that nobody answers for while a higher one is there is a hole: what bore it was lost on the way.

Held against what arrives, before anything is left out as a repetition: a repeated event answers for its number once more.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

Ranges = list[list[int]]
"""Runs of numbers, both ends in them, in order and apart from one another."""

SPOOLS_MAX: Final = 4_096
"""Spools told apart; what further ones say is counted and not checked."""

RUNS_MAX: Final = 65_536
"""Runs of numbers kept for one spool; beyond it the lowest hole is said for good and taken as known."""


def joined(ranges: Iterable[Iterable[int]]) -> Ranges:
    """The same numbers in as few runs as there are."""
    runs: Ranges = []
    for first, last in sorted((int(first), int(last)) for first, last in ranges):
        if runs and first <= runs[-1][1] + 1:
            runs[-1][1] = max(runs[-1][1], last)
        else:
            runs.append([first, last])
    return runs


@dataclass(slots=True)
class Numbered:
    """What of one spool was seen."""

    agent: str
    runs: Ranges = field(default_factory=list)
    events: int = 0
    lost: int = 0
    holes_forgotten: int = 0

    def add(self, first: int, last: int) -> None:
        """The numbers from ``first`` to ``last`` are answered for."""
        at = bisect_right(self.runs, first, key=lambda run: run[0])
        if at and self.runs[at - 1][1] >= first - 1:
            at -= 1
            first, last = self.runs[at][0], max(last, self.runs[at][1])
        end = at
        while end < len(self.runs) and self.runs[end][0] <= last + 1:
            last = max(last, self.runs[end][1])
            end += 1
        self.runs[at:end] = [[first, last]]
        if len(self.runs) > RUNS_MAX:
            self.holes_forgotten += self.runs[1][0] - self.runs[0][1] - 1
            self.runs[:2] = [[self.runs[0][0], self.runs[1][1]]]

    def holes(self, first: int = 0) -> Ranges:
        """The numbers from ``first`` on that nobody answered for, below the highest that was seen."""
        found: Ranges = []
        expected = first
        for run_first, run_last in self.runs:
            if run_first > expected:
                found.append([expected, run_first - 1])
            expected = max(expected, run_last + 1)
        return found


class Numbers:
    """Every spool's numbers, as a reader of the stream meets them."""

    def __init__(self) -> None:
        self.spools: dict[str, Numbered] = {}
        self.unnumbered_total = 0

    def take(self, event: Mapping[str, Any]) -> None:  # Any: JSON values.
        """One event, as it came."""
        spool, number = event.get("spool"), event.get("agent_sequence")
        known = isinstance(spool, str) and (spool in self.spools or len(self.spools) < SPOOLS_MAX)
        if not known or not isinstance(number, int):
            self.unnumbered_total += 1
            return
        of = self.spools.setdefault(str(spool), Numbered(str(event.get("agent"))))
        of.events += 1
        merged = event.get("merged")
        answered = merged.get("agent_sequences") if isinstance(merged, Mapping) else event.get("agent_sequences")
        for first, last in [*(answered or []), [number, number]]:
            of.add(first, last)
        if event.get("kind") == "loss" and event.get("stage") == "spool":
            of.lost += int(event.get("events", 0))

    def holes(self) -> dict[str, Ranges]:
        """The spools that have holes, and which."""
        return {spool: holes for spool, of in self.spools.items() if (holes := of.holes())}
