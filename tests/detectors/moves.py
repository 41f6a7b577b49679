"""Judged windows of plant-north, as the online detectors get them."""

from functools import cache
from typing import Any

from north import architecture, detector

from detectors.moved import Moved
from detectors.online import moved_of
from hopwatch.declared.model import Architecture
from hopwatch.events import Declaration, Flow

QUOTED = Declaration(plant="north", version=14, commit=None, signed=False)
HOUR_NS = 3_600 * 10**9
DAY_NS = 24 * HOUR_NS


def moved(window: Flow, plant: Architecture | None = None, **changes: Any) -> Moved:  # Any: fields of Moved
    """The window as a detector that has seen nothing else judges it; its amounts are all new."""
    judge = detector(architecture=plant or _north())
    (judgement,) = judge.observe(window)
    return moved_of(judgement, judge.index).but(**changes)


@cache
def _north() -> Architecture:
    return architecture()


def later(one: Moved, ns: int, **changes: Any) -> Moved:  # Any: fields of Moved
    """The same window at another time."""
    return one.but(start_ns=one.start_ns + ns, end_ns=one.end_ns + ns, **changes)
