"""`hopwatch capture check`: reads a capture or listens a while, and says whether a monitor behind this port could be trusted."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.table import Table
from rich.text import Text

from collectors import packets
from collectors.quality import Fault, faults
from hopwatch.declared.load import load
from hopwatch.show import clean, grouped, size

SECONDS = 30.0
"""How long interfaces are listened to, unless said otherwise."""


class Measuring(packets.Sensor, Protocol):
    """A sensor that measures the capture it reads."""

    def measure(self, expected: Sequence[str] = ()) -> None:
        """Measure from now on; hosts of the ``expected`` networks should be seen."""

    def measured(self) -> bytes:
        """The measures, as one JSON object; complete after ``finish``."""
        ...


def expected(declaration: Path) -> list[str]:
    """The networks of the plant's zones; what is off site need not be seen from inside."""
    zones = load(declaration).zones.values()
    return [str(net) for zone in zones if not zone.off_site for net in zone.nets]


def check(
    sensor: Measuring,
    nets: Sequence[str],
    files: Sequence[str],
    interfaces: Sequence[str],
    stopping: Callable[[], bool],
    bpf: str | None = None,
) -> tuple[list[Fault], dict[str, Any]]:  # Any: JSON values.
    """The faults of the captures, or of what the interfaces bring until ``stopping``, and the report for programs.

    Raises:
        CaptureError: a capture or an interface cannot be read, or not to its end.
    """
    sensor.measure(list(nets))
    batches = packets.from_files(sensor, files, stopping) if files else packets.from_interfaces(sensor, interfaces, stopping, bpf=bpf)
    for _ in batches:
        pass  # Events are not asked for: what is measured lies in the sensor.
    measured, counters = sensor.measured(), sensor.counters()
    found = faults(measured, counters)
    report = {
        "kind": "capture-check",
        "read": list(files or interfaces),
        "good": not found,
        "faults": [fault.said() for fault in found],
        "measured": json.loads(measured),
        "counters": counters,
    }
    return found, report


def show(console: Console, found: Sequence[Fault], report: dict[str, Any]) -> None:  # Any: JSON values.
    """The report for a person: what was read, then each fault with what to do."""
    counters, measured = report["counters"], report["measured"]
    amount = f"{grouped(counters.get('packets', 0))} packets, {size(counters.get('bytes', 0))}"
    span = f"{measured['first'] or '-'} to {measured['last'] or '-'}"
    console.print(Text(f"{', '.join(map(clean, report['read']))}: {amount}, {span}"), soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    for heading in ("VLAN", "packets", "copies", "connections", "one-sided"):
        table.add_column(heading, justify="left" if heading == "VLAN" else "right")
    for context in measured["contexts"]:
        name = ".".join(map(str, context["vlans"])) or "none"
        table.add_row(name, *(grouped(context[key]) for key in ("packets", "copies", "conversing", "one_sided")))
    console.print(table)
    if not found:
        console.print(Text("good: no fault found"))
    for fault in found:
        console.print(Text(f"\n{fault.fault}: {fault.seen}", style="bold"), soft_wrap=True)
        console.print(Text(textwrap.indent(fault.do, "  ")), soft_wrap=True)
