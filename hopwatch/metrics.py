"""Figures for Prometheus: what every program of the house counts, served on the loopback interface unless it is said otherwise.

Names and units follow https://prometheus.io/docs/practices/naming/. A metric is said once, as a ``Metric``, and docs/metrics.md is
made from what is said. No label bears an account, an address or an object; what a label bears is bounded (``SERIES_MAX``), and what
finds no room any more is counted under ``~other``. Values are added by the program's own thread and read by that of the server.
"""

from __future__ import annotations

import ipaddress
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Thread
from typing import Final, Literal
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector

from hopwatch.version import version

SERIES_MAX: Final = 1_000
"""Sets of labels one metric tells apart; what would be a further one is counted under ``~other``."""

OTHER: Final = "~other"
"""In place of every label, beyond the bound. No name of a declaration begins with a tilde."""

EXPOSED: Final = "exposed:"
"""Before an address that is not of the loopback interface: a container's own, which only its network reaches."""

BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Bounds of a histogram of seconds."""

Labels = tuple[str, ...]


class MetricsError(ValueError):
    """An address that cannot be served, or must not be."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric as it is exposed; ``programs`` are the commands that have it."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    about: str
    labels: Labels = ()
    programs: tuple[str, ...] = ()


@dataclass(slots=True)
class _Histogram:
    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))
    sum_s: float = 0.0


class Figures(Collector):
    """The values of some metrics; ``sensor`` gives the counters of the packet path, where there is one."""

    def __init__(
        self, metrics: Iterable[Metric], sensor: Callable[[], Mapping[str, int]] | None = None, *, series_max: int = SERIES_MAX
    ) -> None:
        self._metrics = {metric.name: metric for metric in metrics}
        self._series_max, self._sensor = series_max, sensor
        self._values: dict[str, dict[Labels, float]] = {name: {} for name in self._metrics}
        self._owed: dict[tuple[str, Labels], float] = {}
        self._times: dict[str, _Histogram] = {metric.name: _Histogram() for metric in self._metrics.values() if metric.kind == "histogram"}
        self._asked: dict[str, Callable[[], float | Mapping[Labels, float]]] = {}
        for metric in self._metrics.values():
            if metric.kind == "counter" and not metric.labels:
                self._values[metric.name][()] = 0.0  # A counter is there before it counts: else its first step shows in no rate.

    def add(self, name: str, amount: float = 1, *labels: str) -> None:
        """Count so much more. What is corrected downwards is taken off what comes next, since a counter never falls."""
        values = self._values[name]
        labels = self._room(values, labels)
        if self._owed:
            amount -= self._owed.pop((name, labels), 0.0)
        if amount < 0:
            self._owed[name, labels] = -amount
            amount = 0
        values[labels] = values.get(labels, 0.0) + amount

    def put(self, name: str, value: float, *labels: str) -> None:
        """The value now."""
        values = self._values[name]
        values[self._room(values, labels)] = value

    def took(self, name: str, seconds: float) -> None:
        """Something lasted so long."""
        times = self._times[name]
        times.counts[bisect_left(BUCKETS_S, seconds)] += 1
        times.sum_s += seconds

    def ask(self, name: str, value: Callable[[], float | Mapping[Labels, float]]) -> None:
        """What gives the value when it is asked for: one, or one for each set of labels. It runs in the server's thread."""
        assert name in self._metrics, name
        self._asked[name] = value

    def collect(self) -> Iterator[Family]:
        """Every figure as it is now."""
        for metric in self._metrics.values():
            yield self._family(metric)
        if self._sensor is not None:
            for name, count in sorted(self._sensor().items()):
                yield CounterMetricFamily(f"{SENSOR}{name}", f"{name.replace('_', ' ')}, as the packet path counts them", value=count)

    def _family(self, metric: Metric) -> Family:
        if metric.kind == "histogram":
            return self._histogram(metric)
        family = (CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily)(metric.name, metric.about, labels=metric.labels)
        # A copy is one step of the interpreter: nothing grows while it is made.
        values = self._values[metric.name].copy()
        if (asked := self._asked.get(metric.name)) is not None:
            said = asked()
            values = dict(said) if isinstance(said, Mapping) else {(): said}
        for labels, value in sorted(values.items()):
            family.add_metric(labels, value)
        return family

    def _histogram(self, metric: Metric) -> Family:
        times = self._times[metric.name]
        total, buckets = 0, []
        for bound, count in zip((*map(str, BUCKETS_S), "+Inf"), list(times.counts), strict=True):
            total += count
            buckets.append((bound, float(total)))
        family = HistogramMetricFamily(metric.name, metric.about)
        family.add_metric((), buckets, sum_value=times.sum_s)
        return family

    def _room(self, values: Mapping[Labels, float], labels: Labels) -> Labels:
        return labels if labels in values or len(values) < self._series_max else (OTHER,) * len(labels)


SENSOR: Final = "hopwatch_sensor_"
"""Before the names of the packet path's own counters, which ``hopwatch inspect --json`` has too."""


def address(text: str) -> tuple[str, int]:
    """``127.0.0.1:9464`` or ``[::1]:9464``; another address only as ``exposed:0.0.0.0:9464``.

    Figures name plants, zones and agents, and nobody is asked for a password: that others can reach them is said with a word, so
    that no address does it by oversight.

    Raises:
        MetricsError: it is none, or not of the loopback interface without that word.
    """
    exposed = text.startswith(EXPOSED)
    host, colon, port = text.removeprefix(EXPOSED).rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise MetricsError(f"{text}: expected an address and a port, 127.0.0.1:9464")
    try:
        loopback = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host).is_loopback
    except ValueError:
        raise MetricsError(f"{text}: expected an address and a port, 127.0.0.1:9464") from None
    if not loopback and not exposed:
        raise MetricsError(f"{text}: expected an address of the loopback interface; {EXPOSED}{text} serves whoever can reach it")
    return ("127.0.0.1" if host == "localhost" else host), int(port)


def serve(where: str, *collectors: Collector) -> tuple[WSGIServer, Thread]:
    """Serve the figures under ``where`` until the server is shut down, and with them what the process itself takes.

    Raises:
        MetricsError: the address is wrong or taken.
    """
    host, port = address(where)
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    for collector in (_Build(), *collectors):
        registry.register(collector)
    try:
        return start_http_server(port, host, registry)
    except OSError as error:
        raise MetricsError(f"{where}: {error.strerror}") from error


class _Build(Collector):
    """Which version runs."""

    def collect(self) -> Iterator[Family]:
        yield InfoMetricFamily("hopwatch_build", "The version that runs.", value={"version": version()})


def said_twice(groups: Sequence[Sequence[Metric]]) -> list[str]:
    """Names that two groups give to different metrics."""
    first: dict[str, Metric] = {}
    return [metric.name for group in groups for metric in group if first.setdefault(metric.name, metric) != metric]
