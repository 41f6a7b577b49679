"""Is a capture any good? What the sensor measured becomes faults: each with what was seen, and what a person at the switch can do.

The sensor counts (``hopwatch_wire.Sensor.measure``); this module decides what is too much. A good capture has no fault. A fault
says nothing about the plant's traffic: it says what a monitor behind this port cannot know.

Blind to: what no packet shows. A mirror that leaves a whole VLAN out is named only if its network is expected; tags that were
taken off are named where two directions differ, where a router shows both its sides, or where hosts of several expected networks
speak on one untagged segment; a clock set forward is named where TCP contradicts the silence.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ONE_SIDED_SHARE_MAX = 0.01
"""Connections of one context with one side only; a capture begins and ends in the middle of some."""

COPIES_SHARE_MAX = 0.01
"""Packets of one context seen again; a switch floods a frame now and then."""

NAMED_MAX = 10
"""Networks named in one fault; beyond, how many more."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a capture: its name for programs, what was seen, what to do, and the figures."""

    fault: str
    seen: str
    do: str
    context: str | None
    figures: Mapping[str, Any]  # Any: JSON values.

    def said(self) -> dict[str, Any]:  # Any: JSON values.
        """The fault as a JSON object."""
        return {"fault": self.fault, "context": self.context, "seen": self.seen, "do": self.do, "figures": dict(self.figures)}


def faults(measured: bytes, counters: Mapping[str, int]) -> list[Fault]:
    """What is wrong with the capture; empty if it is good.

    ``measured`` is what ``Sensor.measured`` gave after ``finish``, ``counters`` what ``Sensor.counters`` gave.
    """
    of: dict[str, Any] = json.loads(measured)  # Any: JSON values.
    found: list[Fault] = []
    for context in of["contexts"]:
        found += _context(context, len(of["contexts"]))
    found += [
        fault
        for fault in (
            _tags(of["tags"], of["expected"]),
            _upstream(of["lost"], counters),
            _kernel(counters),
            _cut(of["cut"], counters),
            _giants(of["giants"]),
            *_clock(of["clock"]),
            _unseen(of["expected"]),
            _empty(of["contexts"], counters),
        )
        if fault is not None
    ]
    return found


def _context(context: Mapping[str, Any], contexts: int) -> list[Fault]:
    name = ".".join(str(vlan) for vlan in context["vlans"])
    where = f"VLAN {name}" if name else "untagged frames" if contexts > 1 else "the capture"
    tag = f"vlan:{name}" if name else None
    found = []
    conversing, one_sided = context["conversing"], context["one_sided"]
    if conversing and one_sided / conversing > ONE_SIDED_SHARE_MAX:
        found.append(
            Fault(
                "one-sided",
                f"{where}: of {conversing} connections {one_sided} ({one_sided / conversing:.0%}) show one direction only",
                "Mirror both directions (SPAN source `both`, or both fibres of the tap). If they are mirrored, the answers take another"
                " way: capture that way too (a second `-i`), or on the far side of the router.",
                tag,
                {"connections": conversing, "one_sided": one_sided, "share": round(one_sided / conversing, 4)},
            )
        )
    packets, copies = context["packets"], context["copies"]
    if packets and copies / packets > COPIES_SHARE_MAX:
        found.append(
            Fault(
                "copies",
                f"{where}: {copies} of {packets} packets ({copies / packets:.0%}) were seen before",
                "They are counted once, but they fill the mirror port. Mirror each port or VLAN once: one direction of every port, or both"
                " directions of the uplink alone, and one side of a router.",
                tag,
                {"packets": packets, "copies": copies, "share": round(copies / packets, 4)},
            )
        )
    return found


def _tags(tags: Mapping[str, int], expected: list[Mapping[str, Any]]) -> Fault | None:
    untagged = [net["net"] for net in expected if net["announced_untagged"]]
    figures = {**tags, "announced_untagged": untagged}
    if tags["half_untagged"]:
        seen = f"{tags['half_untagged']} connections have a VLAN tag in one direction and none in the other"
    elif tags["split"]:
        seen = f"{tags['split']} connections have one VLAN tag in one direction and another in the other"
        return Fault("tags-differ", seen, "Declare the two VLANs equal, or mirror where both directions have one tag.", None, figures)
    elif tags["routed_untagged"]:
        seen = f"{tags['routed_untagged']} packets were seen on both sides of a router, without a VLAN tag on either"
    elif len(untagged) > 1:
        seen = f"hosts of {len(untagged)} networks ({_few(untagged)}) speak to their own segment, and no VLAN tag tells the segments apart"
    else:
        return None
    do = (
        "Keep the tags: on the switch `encapsulation replicate` (or a trunk as the destination port); on a virtual switch trunk all VLANs"
        " to the monitor's port; on the monitor `ethtool -K IFACE rxvlan off` if another program recorded. Without tags, machines that"
        " use the same addresses cannot be told apart."
    )
    return Fault("tags-stripped", seen, do, None, figures)


def _upstream(lost: Mapping[str, int], counters: Mapping[str, int]) -> Fault | None:
    if not lost["gaps"]:
        return None
    dropped = counters.get("kernel_drops", 0)
    whose = (
        f"This machine dropped {dropped} packets, which may be all of it: see kernel-drops first."
        if dropped
        else "This machine dropped nothing: the mirror or tap did."
    )
    return Fault(
        "upstream-loss",
        f"{lost['bytes']} bytes in {lost['gaps']} gaps of {lost['connections']} connections were acknowledged by their receiver and never"
        " seen here",
        f"{whose} A mirror port carries both directions on one line: compare its load with its speed, mirror fewer ports, or use a"
        " faster port or a tap. Look at the output drops of the mirror port on the switch.",
        None,
        dict(lost),
    )


def _kernel(counters: Mapping[str, int]) -> Fault | None:
    dropped = counters.get("kernel_drops", 0)
    if not dropped:
        return None
    return Fault(
        "kernel-drops",
        f"{dropped} packets reached this machine and were dropped before they were read",
        "Give the capture a processor of its own, share the interface among several (`fanout`), filter what nobody asks about"
        " (`--bpf`), or keep less of each packet (`--snaplen`, above the headers).",
        None,
        {"packets": dropped},
    )


def _cut(cut: Mapping[str, int], counters: Mapping[str, int]) -> Fault | None:
    if not cut["frames"]:
        return None
    return Fault(
        "snap-length",
        f"{cut['frames']} of {counters.get('packets', 0)} frames were cut at {cut['at_bytes']} bytes or before",
        "Capture whole frames: `tcpdump -s 0`, `dumpcap -s 0`, hopwatch without `--snaplen`. What was cut off is counted as lost, and"
        " rows or values in it cannot be counted.",
        None,
        dict(cut),
    )


def _giants(giants: Mapping[str, int]) -> Fault | None:
    if not giants["packets"]:
        return None
    return Fault(
        "offload",
        f"{giants['packets']} packets, the largest of {giants['bytes_max']} bytes, are larger than the network carries: the network card or"
        " the kernel joined several",
        "On the capturing machine: `ethtool -K IFACE gro off lro off tso off gso off`. Bytes and rows are right all the same; packets,"
        " their sizes, times and checksums are not those of the wire.",
        None,
        dict(giants),
    )


def _clock(clock: Mapping[str, Mapping[str, Any]]) -> list[Fault]:
    found = []
    for way, fault, word in (("back", "clock-back", "back"), ("forward", "clock-forward", "forward")):
        jump = clock[way]
        if jump["count"]:
            paused = ", or the capture paused" if way == "forward" else ""
            found.append(
                Fault(
                    fault,
                    f"the clock went {word} {_times(jump['count'])}, by {jump['largest_s']:.3f} s at most, first at {jump['first']}"
                    + paused,
                    "Synchronise the capturing machine (NTP or PTP) before it captures, and let it slew the clock, not step it (chrony"
                    " `makestep` only at start). Merge captures in the order of time (`mergecap`), not one behind the other.",
                    None,
                    dict(jump),
                )
            )
    return found


def _unseen(expected: list[Mapping[str, Any]]) -> Fault | None:
    unseen = [net["net"] for net in expected if not net["packets"]]
    if not unseen:
        return None
    return Fault(
        "unseen-networks",
        f"no host of {_few(unseen)} sent a packet",
        "Look whether these networks pass the mirrored ports at all: add their switch, port or VLAN to the mirror session, or place"
        " another sensor. If nothing is there any more, take them out of the declaration.",
        None,
        {"nets": unseen},
    )


def _empty(contexts: list[Mapping[str, Any]], counters: Mapping[str, int]) -> Fault | None:
    if contexts:
        return None
    return Fault(
        "nothing-seen",
        f"no IP packet among {counters.get('packets', 0)} frames",
        "Look whether the cable, the interface and the mirror session are up (`ip -s link`, the switch's session status).",
        None,
        {},
    )


def _few(names: list[str]) -> str:
    more = f" and {len(names) - NAMED_MAX} more" if len(names) > NAMED_MAX else ""
    return ", ".join(names[:NAMED_MAX]) + more


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
