"""What every format says of an alert, read once: words without control characters, instants as numbers, ends with their address.

A name may have come off the wire, and a client may call itself anything. Whatever is no printable character is replaced here, before
any format sees it (``show.clean``), so that no name can begin a new line, a new field, a new header or a terminal's escape sequence in
whatever reads the format; what a format's own separators are, the format escapes. The event itself (topic, file) keeps every name as
it is. A view holds what the alert holds and no more: no payload is in it, and no account but those that the finding names.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Final

from alerts.techniques import Technique, technique
from hopwatch.events import Alert, Severity, time_ns
from hopwatch.show import amounts, clean

VENDOR: Final = "hopwatch"
PRODUCT: Final = "hopwatch"

OBJECTS_MAX: Final = 64
"""Objects that a format names."""

TEXT_CHARACTERS_MAX: Final = 1024
"""Characters of one value; longer ones are cut and end with ``...``."""

_IN_BRACKETS: Final = re.compile(r"\(([0-9A-Fa-f:.]+)\)$")
_SEVERITY_10: Final[dict[Severity, int]] = {"info": 1, "low": 3, "medium": 5, "high": 8, "critical": 10}


@dataclass(frozen=True, slots=True)
class Origin:
    """Who sends: the machine's name, the product's version, where its console answers, if it has one (``https://host:port``), and where
    the documents of this version are to be read: what the page of a verdict is below.
    """

    host: str = "-"
    version: str = "0"
    console: str = ""
    pages: str = ""


@dataclass(frozen=True, slots=True)
class Side:
    """One end: as a finding names it, and its address where that is known."""

    name: str
    address: IPv4Address | IPv6Address | None

    @property
    def host(self) -> str:
        """The name, unless that is only the address."""
        return "" if self.address is not None and self.name == str(self.address) else self.name


@dataclass(frozen=True, slots=True)
class View:
    """One revision of an alert as formats say it."""

    event_id: str
    alert_id: str
    revision: int
    plant: str
    change: str
    why: str
    notify: bool
    state: str
    disposition: str
    severity: Severity
    because: str
    techniques: tuple[Technique, ...]
    technique_ids: tuple[str, ...]
    group: str
    notified: int
    hidden: int
    owner: str
    page: str
    canary: bool
    finding_id: str
    verdict: str
    who: str
    client: Side | None
    source: Side
    destination: Side
    rows: int
    values: int
    messages: int
    bytes: int
    objects: tuple[str, ...]
    classes: tuple[str, ...]
    hop: str
    differences: tuple[tuple[str, str, str], ...]
    declaration: str
    commit: str
    signed: bool
    windows: int
    evidence: tuple[str, ...]
    completeness: str
    time_ns: int
    raised_ns: int
    first_ns: int
    last_ns: int
    url: str
    origin: Origin

    @property
    def title(self) -> str:
        """What it is, in one short line."""
        return f"{'CANARY ' if self.canary else ''}{self.verdict}: {self.source.name} -> {self.destination.name}"

    @property
    def message(self) -> str:
        """What happened, in one line."""
        moved = {"rows": self.rows, "values": self.values, "messages": self.messages, "bytes": max(self.bytes, 0)}
        parts = [f"{self.title} ({self.plant})", f"account {self.who or 'unread'}", amounts(moved)]
        parts += [f"{question.replace('_', ' ')}: {declared} -> {observed}" for question, declared, observed in self.differences[:3]]
        parts += ["a test of the way to this place, no alert"] if self.canary else []
        return cut("; ".join(parts))

    @property
    def moved(self) -> dict[str, Any]:  # Any: JSON values
        """What moved, in the words that every format of JSON has for it."""
        return {
            "rows": self.rows,
            "values": self.values,
            "messages": self.messages,
            "bytes": self.bytes,
            "windows": self.windows,
            "objects": list(self.objects),
            "classes": list(self.classes),
        }

    @property
    def differing(self) -> list[dict[str, str]]:
        """How it differs from what was declared, likewise."""
        return [{"question": question, "declared": declared, "observed": observed} for question, declared, observed in self.differences]

    @property
    def ends(self) -> list[tuple[str, str]]:
        """Both ends, what moved between them and how much, in the words that formats of names and texts have for it."""
        return [
            ("source", self.source.name),
            ("destination", self.destination.name),
            ("classes", ", ".join(self.classes)),
            ("rows", str(self.rows)),
            ("values", str(self.values)),
            ("messages", str(self.messages)),
            ("bytes", str(self.bytes)),
        ]

    @property
    def closed(self) -> bool:
        """Whether nothing more is asked of anybody."""
        return self.state == "resolved"

    @property
    def first_told(self) -> bool:
        """Whether this is the first that a destination hears of the alert: its first revision, or the first that a person is told of."""
        return self.revision == 0 or (self.notify and self.notified <= 1)

    @property
    def severity_10(self) -> int:
        """The severity on the scale of CEF and LEEF, 1 to 10."""
        return _SEVERITY_10[self.severity]


def view(alert: Alert, origin: Origin | None = None) -> View:
    """The alert as formats say it."""
    origin = origin or Origin()
    finding = alert.finding
    seen = finding.observed
    declaration = finding.declaration
    ids = tuple(dict.fromkeys(map(said, alert.techniques)))
    known = (technique(id) for id in ids)
    return View(
        event_id=said(alert.event_id),
        alert_id=said(alert.alert_id),
        revision=alert.revision,
        plant=said(alert.plant),
        change=alert.change,
        why=said(alert.why),
        notify=alert.notify,
        state=alert.state,
        disposition=alert.disposition or "",
        severity=alert.severity,
        because=said(alert.severity_because),
        techniques=tuple(one for one in known if one is not None),
        technique_ids=ids,
        group=said(alert.group),
        notified=alert.notified,
        hidden=alert.hidden,
        owner=said(alert.owner or ""),
        page=said(f"{origin.pages.rstrip('/')}/{alert.page}" if origin.pages and alert.page else alert.page),
        canary=alert.canary,
        finding_id=said(finding.finding_id),
        verdict=said(finding.verdict),
        who=said(finding.who or ""),
        client=None if finding.client is None else side(finding.client),
        source=side(finding.source),
        destination=side(finding.destination),
        rows=seen.rows,
        values=seen.values,
        messages=seen.messages,
        bytes=seen.bytes,
        objects=tuple(map(said, seen.objects[:OBJECTS_MAX])),
        classes=tuple(map(said, seen.classes[:OBJECTS_MAX])),
        hop=said(finding.nearest_hop or ""),
        differences=tuple((said(one.question), said(one.declared), said(one.observed)) for one in finding.differences),
        declaration="" if declaration is None else said(f"{declaration.plant} v{declaration.version}"),
        commit="" if declaration is None else said(declaration.commit or ""),
        signed=declaration is not None and declaration.signed,
        windows=finding.windows,
        evidence=tuple(map(said, finding.evidence)),
        completeness=finding.completeness,
        time_ns=time_ns(alert.time),
        raised_ns=time_ns(alert.raised),
        first_ns=time_ns(finding.first_seen),
        last_ns=time_ns(finding.last_seen),
        url=f"{origin.console.rstrip('/')}/alerts/{said(alert.alert_id)}" if origin.console else "",
        origin=Origin(said(origin.host) or "-", said(origin.version) or "0", said(origin.console), said(origin.pages)),
    )


def said(text: str) -> str:
    """The text in one line, printable, and not endless."""
    return cut(clean(text))


def cut(text: str, most: int = TEXT_CHARACTERS_MAX) -> str:
    """The text, with ``...`` in the place of what is beyond ``most`` characters."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def side(text: str) -> Side:
    """An end; its address is the text itself, or what stands in brackets behind a name: ``mw (10.30.0.20)``."""
    name = said(text)
    in_brackets = _IN_BRACKETS.search(name)
    for one in (name, in_brackets[1] if in_brackets else ""):
        try:
            address = ip_address(one)
        except ValueError:
            continue
        # A zone index (RFC 4007, 11) means nothing elsewhere, and may be any text.
        return Side(name, IPv6Address(int(address)) if isinstance(address, IPv6Address) else address)
    return Side(name, None)


def severity_number(severity: Severity) -> int:
    """1 to 5, the worst last (OCSF ``severity_id``)."""
    return {"info": 1, "low": 2, "medium": 3, "high": 4, "critical": 5}[severity]


def instant(at_ns: int, digits: int) -> str:
    """RFC 3339 in UTC, the second with so many digits behind its point."""
    made = datetime.fromtimestamp(at_ns // 10**9, UTC)
    return f"{made:%Y-%m-%dT%H:%M:%S}.{at_ns % 10**9 // 10 ** (9 - digits):0{digits}d}Z"


def milliseconds(instant_ns: int) -> int:
    """Since 1970, as most formats count."""
    return instant_ns // 1_000_000
