"""Figures for Prometheus: queue, spool, lag, retries, clock. Served on the loopback interface only, made when they are asked for.

Names follow https://prometheus.io/docs/practices/naming/. No label bears an account, an address or an object.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Mapping
from threading import Thread
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class MetricsError(ValueError):
    """An address that cannot be served, or must not be."""


class AgentCollector(Collector):
    """Reads the figures from ``gauges`` and ``counters``: name, help, and what gives the value now."""

    def __init__(
        self,
        gauges: Mapping[str, tuple[str, Callable[[], float]]],
        counters: Mapping[str, tuple[str, Callable[[], float]]],
        sensor: Callable[[], Mapping[str, int]],
    ) -> None:
        self._gauges, self._counters, self._sensor = gauges, counters, sensor

    def collect(self) -> Iterator[Metric]:
        """Every figure as it is now."""
        for name, (about, value) in self._gauges.items():
            yield GaugeMetricFamily(f"hopwatch_agent_{name}", about, value=value())
        for name, (about, value) in self._counters.items():
            yield CounterMetricFamily(f"hopwatch_agent_{name}", about, value=value())
        for name, count in sorted(self._sensor().items()):
            yield CounterMetricFamily(
                f"hopwatch_agent_sensor_{name}", f"{name.replace('_', ' ')}, as the packet path counts them", value=count
            )


def address(text: str) -> tuple[str, int]:
    """``127.0.0.1:9464`` or ``[::1]:9464``.

    Raises:
        MetricsError: it is none, or not of the loopback interface.
    """
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise MetricsError(f"{text}: expected an address and a port, 127.0.0.1:9464")
    try:
        loopback = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host).is_loopback
    except ValueError:
        raise MetricsError(f"{text}: expected an address and a port, 127.0.0.1:9464") from None
    if not loopback:
        raise MetricsError(f"{text}: expected an address of the loopback interface; what scrapes from elsewhere goes through a proxy")
    return ("127.0.0.1" if host == "localhost" else host), int(port)


def serve(where: str, collector: Collector) -> tuple[WSGIServer, Thread]:
    """Serve the figures under ``where`` until the server is shut down.

    Raises:
        MetricsError: the address is wrong or taken.
    """
    host, port = address(where)
    registry = CollectorRegistry()
    registry.register(collector)
    try:
        return start_http_server(port, host, registry)
    except OSError as error:
        raise MetricsError(f"{where}: {error.strerror}") from error
