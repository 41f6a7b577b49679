"""Windows as a sensor says them, as many and as large as a test of the spool needs."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from hopwatch.events import time_text

Event = dict[str, Any]  # Any: JSON values.
START_NS = 1_775_558_528 * 10**9
SUMMED = ("rows", "messages", "bytes", "bytes_back", "packets")


def window(flow: int, sequence: int, operation: str = "select", *, at_s: float = 0.0, table: str = "mes.lot", **said: Any) -> bytes:
    """One window of one flow, in the sensor's spelling and order."""
    start_ns = START_NS + int(at_s * 10**9)
    counts = {"rows": 10 + sequence, "values": 0, "messages": 1, "bytes": 1000 + sequence}
    event = {
        "kind": "flow", "event_id": f"{flow:016x}{sequence:016x}", "plant": "north", "agent": "tap-idmz", "tap": None, "context": None,
        "connection": f"{flow:032x}", "flow_id": f"{flow + (1 << 64):032x}", "sequence": sequence, "final": False,
        "start": time_text(start_ns), "end": time_text(start_ns + 10**9),
        "source": {"address": "10.20.1.21", "port": 5432, "names": []},
        "destination": {"address": "10.40.9.77", "port": 40_000 + flow, "names": []},
        "opened_by": "destination", "transport": "tcp", "protocol": "postgresql", "account": f"svc_{flow}", "operation": operation,
        "statement": None, "objects": [{"names": [table], "columns": ["*"], **counts}], **counts, "bytes_back": 60, "packets": 12,
        "totals": {"rows": 0, "values": 0, "messages": 0, "bytes": 0}, "protection": {"transport": "none"}, "depth": "decoded",
        "completeness": {"state": "complete", "lost_bytes": 0, "joined_late": False, "one_sided": False, "estimated": False},
    } | said  # fmt: skip
    return json.dumps(event, separators=(",", ":")).encode()


def stream(seconds: Iterable[int], flows: int, *, account_every: int = 0) -> list[bytes]:
    """A window a second of every flow; with ``account_every`` a login of its own for each so many seconds."""
    said = []
    for second in seconds:
        said += [window(flow, second, at_s=second) for flow in range(flows)]
        if account_every and second % account_every == 0:
            said.append(window(1_000_000 + second, 0, "connect", at_s=second))
    return said


def sums(events: Iterable[Event]) -> dict[str, int]:
    """What the windows amount to."""
    said = [event for event in events if event["kind"] == "flow"]
    return {name: sum(event[name] for event in said) for name in SUMMED}


def parsed(lines: Sequence[bytes]) -> list[Event]:
    return [json.loads(line) for line in lines]
