"""Judged windows of plant-north, as the online detectors get them."""

from dataclasses import replace
from functools import cache
from typing import Any

from north import architecture, detector

from detectors.moved import Moved
from hopwatch.declared.model import Architecture
from hopwatch.events import Declaration, Flow, time_ns

QUOTED = Declaration(plant="north", version=14, commit=None, signed=False)
HOUR_NS = 3_600 * 10**9
DAY_NS = 24 * HOUR_NS


def moved(window: Flow, plant: Architecture | None = None, **changes: Any) -> Moved:  # Any: fields of Moved
    """The window as a detector that has seen nothing else judges it; its amounts are all new."""
    judge = detector(architecture=plant or _north())
    (judgement,) = judge.observe(window)
    index = judge.index
    source = index.end(window.source.address, window.source.port, window.source.names)
    destination = index.end(window.destination.address, window.destination.port, window.destination.names)
    server, client = (destination, source) if window.opened_by == "source" else (source, destination)
    declared = index.account(window.account)
    made = Moved(
        flow=window,
        verdict=judgement.verdict,
        hop=judgement.hop,
        account=declared or window.account,
        declared=declared is not None,
        source=source,
        destination=destination,
        client=client,
        server=server,
        classes=judgement.classes,
        start_ns=time_ns(window.start),
        end_ns=time_ns(window.end),
        rows=window.rows,
        values=window.values,
        messages=window.messages,
        bytes=window.bytes,
        bytes_back=window.bytes_back,
        complete=window.completeness.state in ("complete", "encrypted"),
    )
    return replace(made, **changes)


@cache
def _north() -> Architecture:
    return architecture()


def later(one: Moved, ns: int, **changes: Any) -> Moved:  # Any: fields of Moved
    """The same window at another time."""
    return replace(one, start_ns=one.start_ns + ns, end_ns=one.end_ns + ns, **changes)
