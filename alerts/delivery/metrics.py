"""Figures of delivery for Prometheus. The only label is the destination, of which a configuration has at most DESTINATIONS_MAX."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector

from alerts.delivery.sender import DELAY_BUCKETS_S, Delays, Sender
from alerts.outbox import QueueState
from hopwatch.events import time_ns
from hopwatch.metrics import Metric
from hopwatch.store import StoreError

_CIRCUIT: Final = {"closed": 0.0, "retrying": 1.0, "open": 2.0}
_AGE: Final = "oldest_letter_age_seconds"
_GAUGES: Final[dict[str, tuple[str, Callable[[QueueState, int], float | None]]]] = {
    "queue_letters": ("Letters that wait.", lambda state, now_ns: state.waiting),
    "dead_letters": ("Letters that were refused for good and are kept.", lambda state, now_ns: state.dead),
    "queue_over_letters": ("Letters above the queue's bound, all of which raise an alert.", lambda state, now_ns: state.over),
    _AGE: (
        "Since the letter at the front was queued, less what its destination gathers letters for; 0 while none waits.",
        lambda state, now_ns: 0.0 if state.oldest_time is None else (now_ns - time_ns(state.oldest_time)) / 1e9,
    ),
    "circuit_state": ("0 it takes letters, 1 it failed, 2 it failed often in a row.", lambda state, now_ns: _CIRCUIT[state.circuit]),
    "last_success_timestamp_seconds": ("When it last took something.", lambda state, now_ns: _seconds(state.last_sent_time)),
    "canary_last_success_timestamp_seconds": ("When it last took a canary.", lambda state, now_ns: _seconds(state.canary_time)),
    "canary_delay_seconds": ("From making the last canary to the receiver's acknowledgement.", lambda state, now_ns: state.canary_delay_s),
}
_COUNTERS: Final[dict[str, tuple[str, Callable[[QueueState], int]]]] = {
    "sent": ("Letters the destination took.", lambda state: state.sent_total),
    "retried": ("Attempts that failed and are made again.", lambda state: state.retried_total),
    "dead": ("Letters refused for good.", lambda state: state.dead_total),
    "dropped": ("Updates the queue's bound has cost.", lambda state: state.dropped_total),
    "dead_dropped": ("Dead letters their bound has cost.", lambda state: state.dead_dropped_total),
}
_PREFIX: Final = "hopwatch_delivery_"
_LABELS: Final = ("destination",)
_PROGRAMS: Final = ("alerts run",)
_READABLE: Final = Metric(_PREFIX + "queues_readable", "gauge", "1 while the queues can be read.", (), _PROGRAMS)
_DELAY: Final = Metric(_PREFIX + "delay_seconds", "histogram", "From queue to acknowledgement.", _LABELS, _PROGRAMS)
_ALERT_DELAY: Final = Metric(
    _PREFIX + "alert_delay_seconds", "histogram", "From the alert's own time to acknowledgement.", _LABELS, _PROGRAMS
)
_CANARY_INTERVAL: Final = Metric(
    _PREFIX + "canary_interval_seconds",
    "gauge",
    "How far apart canaries are; as far as letters are gathered, if that is longer.",
    _LABELS,
    _PROGRAMS,
)
_CANARY_BEGUN: Final = Metric(
    _PREFIX + "canary_begun_timestamp_seconds", "gauge", "Since when this program sends canaries.", _LABELS, _PROGRAMS
)

METRICS: Final = (
    *(Metric(_PREFIX + name, "gauge", about, _LABELS, _PROGRAMS) for name, (about, _) in _GAUGES.items()),
    *(Metric(f"{_PREFIX}{name}_total", "counter", about, _LABELS, _PROGRAMS) for name, (about, _) in _COUNTERS.items()),
    _DELAY,
    _ALERT_DELAY,
    _CANARY_INTERVAL,
    _CANARY_BEGUN,
    _READABLE,
)


class DeliveryCollector(Collector):
    """Reads the figures when they are asked for; destinations that are no longer configured are left out."""

    def __init__(
        self,
        states: Callable[[], Sequence[QueueState]],
        names: Sequence[str],
        senders: Mapping[str, Sender],
        clock_ns: Callable[[], int] = time.time_ns,
        gathers_s: Mapping[str, float] | None = None,
        canaries_s: Mapping[str, float] | None = None,
    ) -> None:
        """``gathers_s``: how long a destination gathers letters for one mail; they are not late by that.

        ``canaries_s``: how far apart canaries are, of destinations that have them.
        """
        self._gathers_s, self._canaries_s, self._begun_s = gathers_s or {}, canaries_s or {}, clock_ns() / 1e9
        self._states, self._names, self._senders, self._clock_ns = states, frozenset(names), senders, clock_ns

    def collect(self) -> Iterator[Family]:
        """Every figure as it is now; without the queues only what this process counted, and that they cannot be read."""
        readable = True
        try:
            states = [state for state in self._states() if state.destination in self._names]
        except StoreError:
            states, readable = [], False
        yield GaugeMetricFamily(_READABLE.name, _READABLE.about, value=float(readable))
        now_ns = self._clock_ns()
        for name, (about, of) in _GAUGES.items():
            gauge = GaugeMetricFamily(_PREFIX + name, about, labels=_LABELS)
            for state in states:
                if (value := of(state, now_ns)) is not None:
                    if name == _AGE:
                        value = max(0.0, value - self._gathers_s.get(state.destination, 0.0))
                    gauge.add_metric([state.destination], value)
            yield gauge
        for name, (about, count) in _COUNTERS.items():
            counter = CounterMetricFamily(_PREFIX + name, about, labels=_LABELS)
            for state in states:
                counter.add_metric([state.destination], count(state))
            yield counter
        interval = GaugeMetricFamily(_CANARY_INTERVAL.name, _CANARY_INTERVAL.about, labels=_LABELS)
        begun = GaugeMetricFamily(_CANARY_BEGUN.name, _CANARY_BEGUN.about, labels=_LABELS)
        for name, canary_s in self._canaries_s.items():
            interval.add_metric([name], max(canary_s, self._gathers_s.get(name, 0.0)))
            begun.add_metric([name], self._begun_s)
        yield interval
        yield begun
        senders = sorted(self._senders.items())
        yield _histogram(_DELAY, {name: one.delays for name, one in senders})
        yield _histogram(_ALERT_DELAY, {name: one.alert_delays for name, one in senders})


def _histogram(metric: Metric, delays: Mapping[str, Delays]) -> HistogramMetricFamily:
    family = HistogramMetricFamily(metric.name, metric.about, labels=metric.labels)
    for destination, one in delays.items():
        total, buckets = 0, []
        for bound, count in zip((*map(str, DELAY_BUCKETS_S), "+Inf"), one.counts, strict=True):
            total += count
            buckets.append((bound, total))
        family.add_metric([destination], buckets, one.sum_s)
    return family


def _seconds(time: str | None) -> float | None:
    return None if time is None else time_ns(time) / 1e9
