"""Common Event Format, version 0 (ArcSight Common Event Format Implementation Standard, revision 25).

One line: a header of seven fields parted by ``|``, then ``key=value`` pairs parted by spaces. In the header ``\\`` and ``|`` are
escaped, in a value ``\\`` and ``=``; line ends cannot occur, for a view has none. Keys are those of the standard's dictionary, values
are cut at its lengths, and custom fields bear their labels.
"""

from ipaddress import IPv4Address
from typing import Final

from alerts.formats.view import PRODUCT, VENDOR, Origin, Side, View, cut, milliseconds, view
from hopwatch.events import Alert

# Lengths of the dictionary's strings, in characters.
LENGTHS: Final = {
    "act": 63, "cat": 1023, "cs1": 4000, "cs2": 4000, "cs3": 4000, "cs4": 4000, "cs5": 4000, "cs6": 4000, "deviceExternalId": 255,
    "dhost": 1023, "dvchost": 100, "externalId": 40, "flexString1": 1023, "flexString2": 1023, "msg": 1023, "outcome": 63,
    "reason": 1023, "request": 1023, "shost": 1023, "suser": 1023,
}  # fmt: skip
NAME_MAX: Final = 512
"""Characters of the header's name."""

COUNT_MAX: Final = 2**31 - 1
"""The largest ``cnt``, an integer of 32 bits; more is said as this much."""


def render(alert: Alert, origin: Origin | None = None) -> str:
    """One line."""
    seen = view(alert, origin)
    header = (VENDOR, PRODUCT, seen.origin.version, seen.verdict, cut(seen.title, NAME_MAX), str(seen.severity_10))
    pairs = " ".join(f"{key}={_value(key, value)}" for key, value in _pairs(seen))
    return "|".join(["CEF:0", *map(_header, header), pairs])


def _pairs(seen: View) -> list[tuple[str, str]]:
    differences = "; ".join(f"{question}: {declared} -> {observed}" for question, declared, observed in seen.differences)
    pairs = [
        ("externalId", seen.alert_id),
        ("deviceExternalId", seen.plant),
        ("dvchost", "" if seen.origin.host == "-" else seen.origin.host),
        ("rt", str(milliseconds(seen.time_ns))),
        ("start", str(milliseconds(seen.first_ns))),
        ("end", str(milliseconds(seen.last_ns))),
        ("cat", "canary" if seen.canary else "alert"),
        ("act", seen.change),
        ("outcome", seen.state),
        ("reason", seen.because),
        ("cnt", str(min(seen.windows, COUNT_MAX))),
        ("suser", seen.who),
        *_side("s", "2", "Source IPv6 Address", seen.source),
        *_side("d", "3", "Destination IPv6 Address", seen.destination),
        ("request", seen.url),
        ("msg", seen.message),
    ]
    labelled = [
        ("cs1", "finding", seen.finding_id),
        ("cs2", "nearestHop", seen.hop),
        ("cs3", "classes", ", ".join(seen.classes)),
        ("cs4", "objects", ", ".join(seen.objects)),
        ("cs5", "differences", differences),
        ("cs6", "techniques", ", ".join(seen.technique_ids)),
        ("cn1", "rows", str(seen.rows)),
        ("cn2", "bytes", str(seen.bytes)),
        ("cn3", "revision", str(seen.revision)),
        ("flexString1", "client", "" if seen.client is None else seen.client.name),
        ("flexString2", "page", seen.page),
        ("flexNumber1", "values", str(seen.values)),
        ("flexNumber2", "messages", str(seen.messages)),
    ]
    pairs += [pair for key, label, value in labelled if value for pair in ((key, value), (f"{key}Label", label))]
    return [(key, value) for key, value in pairs if value]


def _side(letter: str, custom: str, label: str, side: Side) -> list[tuple[str, str]]:
    """``src`` and ``dst`` take IPv4 alone; IPv6 has custom fields of its own, whose labels the standard gives."""
    pairs = [(f"{letter}host", side.host)]
    if isinstance(side.address, IPv4Address):
        return [(f"{letter}{'rc' if letter == 's' else 'st'}", str(side.address)), *pairs]
    if side.address is not None:
        pairs += [(f"c6a{custom}", str(side.address)), (f"c6a{custom}Label", label)]
    return pairs


def _header(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|")


def _value(key: str, text: str) -> str:
    return cut(text, LENGTHS.get(key, 1023)).replace("\\", "\\\\").replace("=", "\\=")
