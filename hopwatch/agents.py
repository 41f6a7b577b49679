"""`hopwatch agent`: the program at one boundary. It reads packets, keeps events in its spool and publishes them; it judges nothing.

Exit status: 0 the broker has everything (or a live run was ended: what waits is in the spool), 2 a wrong command or input, or
a run that could not go on.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from agent.pump import Pump
from agent.run import Agent
from agent.spool import Spool
from collectors import packets
from hopwatch.bus.connection import Connection
from hopwatch.bus.kafka import Publisher
from hopwatch.config import AgentSettings, ConfigError, chosen, kafka

DONE, WRONG = 0, 2


Ending = Callable[[Callable[[], None]], AbstractContextManager[None]]
"""Calls what it is given when the process is asked to end."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of `hopwatch agent` beyond those of capturing."""
    parser.add_argument("--brokers", metavar="HOST:PORT,…", help="some brokers of the Kafka cluster")
    parser.add_argument("--plant", metavar="NAME", help="the plant the events belong to")
    parser.add_argument("--spool", type=Path, metavar="PATH", help="the file in which events wait for the broker (default hopwatch.spool)")
    parser.add_argument("--spool-bytes-max", type=int, metavar="BYTES", help="bound of that file")


def run(arguments: argparse.Namespace, sensors: packets.Sensors, ending: Ending) -> int:
    """`hopwatch agent`.

    Raises:
        ConfigError, LogError, CaptureError: one line each.
    """
    settings = chosen(AgentSettings, vars(arguments), arguments.config)
    files: list[str] | None = arguments.files
    if not files and not settings.interfaces:
        raise ConfigError("agent: something to read is needed: -r FILE or -i INTERFACE")
    if settings.plant is None:
        raise ConfigError("agent: the plant is needed: --plant NAME")
    reached = kafka({"bootstrap_servers": arguments.brokers}, arguments.config)
    sensor = sensors(
        settings.plant,
        settings.agent,
        tap=settings.tap,
        verify_checksums=settings.verify_checksums,
        vlans_equal=settings.vlans_equal,
        tap_of=settings.tap_of,
    )
    spool = Spool(settings.spool, size_bytes_max=settings.spool_bytes_max)
    try:
        pump = Pump(spool, lambda: _publisher(reached, settings), time.monotonic)
        agent = Agent(spool, pump, time.monotonic, time.sleep)
        over = packets.until(settings.duration)

        def stopping() -> bool:
            return agent.stopping() or over()

        if files:
            batches = packets.from_files(sensor, files, stopping)
        else:
            batches = packets.from_interfaces(sensor, settings.interfaces, stopping, bpf=settings.bpf, snaplen=settings.snaplen)
        with ending(agent.stop):
            ended = agent.run(batches, (packets.CaptureError,), live=not files)
    finally:
        spool.close()
    for error in ended.errors:
        print(f"hopwatch: {error}", file=sys.stderr)
    if ended.waiting:
        print(f"hopwatch: {settings.spool}: {ended.waiting} events wait for the broker; the next run publishes them", file=sys.stderr)
    return WRONG if ended.errors or (files and ended.waiting) else DONE


def _publisher(reached: Connection, settings: AgentSettings) -> Publisher[int]:
    return Publisher(reached, speaker=f"agents/{settings.agent}", shards=settings.shards)
