"""`hopwatch inspect` and `hopwatch capture check`: what captures hold, and whether they are any good."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any, cast

from rich.console import Console

from collectors import packets
from hopwatch import flags
from hopwatch.capture import SECONDS, Measuring, check, expected, show
from hopwatch.process import FINDINGS, NOTHING, WRONG, Wrong, ending, say
from hopwatch.show import clean, grouped, loss_line, size

_UNWELL = frozenset(
    ("checksum_errors", "decode_errors", "evicted", "flows_folded", "gaps", "kernel_drops", "lost_bytes", "conversations_dropped")
)


def add_inspect(parser: argparse.ArgumentParser) -> None:
    """The flags of `hopwatch inspect`."""
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--json", action="store_true", help="one line a conversation, one loss a line, then the summary")
    parser.add_argument("--verify-checksums", action="store_true", help="drop segments whose checksum is wrong")
    flags.vlans_equal(parser)


def add_capture(parser: argparse.ArgumentParser) -> None:
    """The commands of `hopwatch capture`, and their flags."""
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    checking = commands.add_parser("check", help="is this capture any good, and what to do about it", allow_abbrev=False)
    source = checking.add_mutually_exclusive_group(required=True)
    source.add_argument("-i", "--interface", dest="interfaces", nargs="+", metavar="IFACE", default=(), help="listen on these interfaces")
    source.add_argument("-r", "--read", dest="files", nargs="+", metavar="FILE", default=(), help="read captures; - is standard input")
    checking.add_argument("--bpf", metavar="FILTER", help="what of the interfaces is looked at, pcap-filter(7)")
    checking.add_argument("--seconds", type=_seconds, metavar="N", help=f"listen for so long (default {SECONDS:.0f})")
    checking.add_argument("-d", "--declaration", type=Path, metavar="FILE", help="name the declared networks that are not seen")
    checking.add_argument("--json", action="store_true", help="the report as one JSON object")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 86_400:
        raise argparse.ArgumentTypeError(f"{text}: expected seconds, more than 0 and at most 86400")
    return seconds


def inspect(arguments: argparse.Namespace, sensors: packets.Sensors) -> int:
    """Each capture by itself: a file that fails hides no other."""
    status = NOTHING
    for path in arguments.files:
        sensor = sensors(
            "inspect",
            "inspect",
            conversations=True,
            verify_checksums=arguments.verify_checksums,
            vlans_equal=arguments.vlans_equal or (),
        )
        losses: list[bytes] = []
        conversations: list[bytes] = []
        started = time.monotonic()
        try:
            for batch in packets.from_files(sensor, [path]):
                losses += (event for event in batch if b'"kind":"loss"' in event[:64])
                conversations += sensor.conversations()
        except packets.CaptureError as error:
            # A capture that breaks off is something found in it; what is no capture is a wrong input.
            say(str(error))
            status = max(status, FINDINGS if packets.damaged(error) else WRONG)
        conversations += sensor.conversations()
        counters = sensor.counters()
        if arguments.json:
            for line in (*conversations, *losses):
                print(line.decode())
            summary = {"kind": "summary", "file": path, "counters": counters, "seconds": round(time.monotonic() - started, 3)}
            print(json.dumps(summary))
        else:
            _print_capture(path, [json.loads(line) for line in conversations], [json.loads(line) for line in losses], counters)
    return status


def _print_capture(path: str, conversations: list[dict[str, Any]], losses: list[dict[str, Any]], counters: dict[str, int]) -> None:
    """What is in a capture, in a few lines; Any: JSON values."""
    amount = f"{grouped(counters.get('packets', 0))} packets, {size(counters.get('bytes', 0))}"
    print(f"{clean(path)}: {amount}, {len(conversations)} conversations")
    for one in conversations:
        read = ", ".join(one.get("facts") or ()) or "unread"
        vlans = f"  vlan {','.join(map(str, one['vlans']))}" if one.get("vlans") else ""
        print(
            f"  {one['transport']:5} {one['a']}:{one['a_port']} - {one['b']}:{one['b_port']}  "
            f"{grouped(one.get('packets_ab') or 0)} -> {size(one.get('payload_bytes_ab') or 0)}, "
            f"{grouped(one.get('packets_ba') or 0)} <- {size(one.get('payload_bytes_ba') or 0)}  {clean(read)}{vlans}"
        )
    for loss in losses:
        print("  " + loss_line(loss))
    wrong = {name: count for name, count in counters.items() if count and (name.startswith("malformed_") or name in _UNWELL)}
    if wrong:
        print("  not read well: " + ", ".join(f"{name.replace('_', ' ')} {grouped(count)}" for name, count in sorted(wrong.items())))


def check_capture(arguments: argparse.Namespace, sensors: packets.Sensors) -> int:
    nets = expected(arguments.declaration) if arguments.declaration else []
    if arguments.files and (arguments.seconds is not None or arguments.bpf is not None):
        raise Wrong("capture check: --seconds and --bpf are for interfaces; a file is read to its end")
    over = packets.until(None if arguments.files else arguments.seconds or SECONDS)
    asked = False

    def stop() -> None:
        nonlocal asked
        asked = True

    sensor = cast(Measuring, sensors("check", "check"))  # What `sensors` makes measures too; other commands do not ask for it.
    with ending(stop):
        found, report = check(sensor, nets, arguments.files, arguments.interfaces, lambda: asked or over(), arguments.bpf)
    if arguments.json:
        print(json.dumps(report))
    else:
        show(Console(highlight=False), found, report)
    return FINDINGS if found else NOTHING
