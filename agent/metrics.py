"""What an agent says to Prometheus: queue, spool, lag, retries, clock; each is read when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from hopwatch.metrics import Figures, Metric

_AGENT: Final = ("agent",)

METRICS: Final = (
    Metric("hopwatch_agent_spool_events", "gauge", "Events that wait to be published.", programs=_AGENT),
    Metric("hopwatch_agent_spool_bytes", "gauge", "Bytes in use of the spool.", programs=_AGENT),
    Metric("hopwatch_agent_spool_limit_bytes", "gauge", "Bound of the spool.", programs=_AGENT),
    Metric("hopwatch_agent_oldest_event_age_seconds", "gauge", "Since the oldest event that waits ended.", programs=_AGENT),
    Metric("hopwatch_agent_in_flight_events", "gauge", "Events sent and not acknowledged.", programs=_AGENT),
    Metric("hopwatch_agent_in_flight_bytes", "gauge", "Bytes of those events.", programs=_AGENT),
    Metric("hopwatch_agent_stalled_partitions", "gauge", "Keys that wait while the broker answers for others.", programs=_AGENT),
    Metric("hopwatch_agent_publishing", "gauge", "1 while the broker answers.", programs=_AGENT),
    Metric("hopwatch_agent_clock_offset_seconds", "gauge", "The clock's offset, as the kernel knows it.", programs=_AGENT),
    Metric("hopwatch_agent_clock_error_seconds", "gauge", "The largest error of the clock.", programs=_AGENT),
    Metric("hopwatch_agent_clock_synchronised", "gauge", "1 while something keeps the clock.", programs=_AGENT),
    Metric("hopwatch_agent_events_published_total", "counter", "Events the broker acknowledged.", programs=_AGENT),
    Metric("hopwatch_agent_events_repeated_total", "counter", "Events sent once more after a refusal.", programs=_AGENT),
    Metric("hopwatch_agent_events_refused_total", "counter", "Events the broker will never take.", programs=_AGENT),
    Metric("hopwatch_agent_events_dropped_total", "counter", "Events the spool's bound has cost.", programs=_AGENT),
    Metric("hopwatch_agent_windows_merged_total", "counter", "Windows put into others at the spool's bound.", programs=_AGENT),
    Metric("hopwatch_agent_client_retries_total", "counter", "Requests the client repeated.", programs=_AGENT),
    Metric("hopwatch_agent_reloads_total", "counter", "Configurations read again.", programs=_AGENT),
    Metric("hopwatch_agent_reloads_refused_total", "counter", "Configurations that were wrong and not used.", programs=_AGENT),
)


def figures(values: Mapping[str, Callable[[], float]], sensor: Callable[[], Mapping[str, int]]) -> Figures:
    """The figures of an agent; ``values`` has what gives each of ``METRICS``, by its name without ``hopwatch_agent_``."""
    made = Figures(METRICS, sensor)
    for name, value in values.items():
        made.ask(f"hopwatch_agent_{name}", value)
    return made
