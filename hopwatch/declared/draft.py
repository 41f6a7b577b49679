"""From a finding to the hop that would approve it: text for a person to review, to change and to bring before who approves.

A draft is no declaration. It says what was observed in the words of the file, keeps apart what a person must decide (``DECIDE``), and
does not load until that is done: nobody can apply it unread. It is always a hop of its own, never a neighbour's hop made wider, and
what it needs beside the hop (an account, an asset, data that nothing classes, a conduit) is drafted with it.

Whether the movement is *wanted* the draft cannot know. It begins with what speaks against it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from hopwatch.declared.match import Index
from hopwatch.declared.model import NAME_PATTERN, Architecture
from hopwatch.declared.quantity import Limit, Unit
from hopwatch.declared.table import heading
from hopwatch.show import clean, grouped, instant, size

Json = Mapping[str, Any]  # Any: one JSON object.

DECIDE: Final = "DECIDE"
"""What stands where a person must decide; no account, class or zone has this name, and no duration is written so."""

OBJECTS_DRAFTED_MAX: Final = 20
"""Objects that a draft names; of more it says how many."""

_PERSON: Final = "person:"
_NAME: Final = re.compile(NAME_PATTERN)
_PLAIN: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./@-]*")
_KINDS: Final = {
    "postgresql": "tables",
    "mysql": "tables",
    "tns": "tables",
    "mqtt": "topics",
    "sparkplug": "topics",
    "opcua": "nodes",
    "http": "paths",
}
_CONTROL: Final = ("connect", "refused", "attempt")
_STEPS: Final = (1, 2, 5)
_BYTE_UNITS: Final = (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10), ("B", 1))
_READS_AS_OTHER: Final = re.compile(r"[0-9.]+|true|false|yes|no|on|off|null|~", re.IGNORECASE)


def draft(architecture: Architecture, finding: Json, flows: Sequence[Json] = ()) -> str:
    """The YAML of a hop to review, with comments; ``flows`` are windows of the finding, which know operations and protocol.

    Pure: the same finding under the same declaration gives the same text.
    """
    return "\n".join(_Draft(architecture, finding, flows).lines()) + "\n"


class _Draft:
    """One draft in the making: ends, names and what is missing in the file."""

    def __init__(self, architecture: Architecture, finding: Json, flows: Sequence[Json]) -> None:
        self.architecture, self.finding, self.flows = architecture, finding, flows
        self.index = Index(architecture)
        self.observed: Json = finding.get("observed") or {}
        self.assets: dict[str, tuple[str, str]] = {}
        """Assets that the file lacks: the zone, and where it answers."""
        self.source, self.source_zone = self._end(str(finding["source"]))
        self.destination, self.destination_zone = self._end(str(finding["destination"]))
        self.protocol = next((str(flow["protocol"]) for flow in flows if flow.get("protocol")), None)
        self.client = self._client()

    def lines(self) -> Iterator[str]:
        """The whole text."""
        finding = self.finding
        yield f"# A hop to review, drafted from finding {remark(finding['finding_id'])}. It declares nothing, and does not load while"
        yield f"# {DECIDE} stands in it: decide each, take the sections into the plant file, raise its version, let it be approved."
        yield f"# Judged against {remark(heading(self.architecture))}."
        yield "#"
        yield f"# What speaks against it: {remark(finding['severity'])} {remark(finding['verdict'])}"
        for entry in finding.get("differences") or ():
            question = str(entry["question"]).replace("_", " ")
            yield f"#   {remark(question)}: {remark(entry['declared'])} -> {remark(entry['observed'])}"
        counted = [(unit, int(self.observed.get(unit) or 0)) for unit in ("rows", "values", "messages")]
        amounts = [f"{grouped(count)} {unit}" for unit, count in counted if count]
        moved = ", ".join([*amounts, size(int(self.observed.get("bytes") or 0))])
        yield f"# What moved: {moved} in {grouped(int(finding.get('windows', 1)))} windows,"
        yield f"#   {instant(finding['first_seen'])} to {instant(finding['last_seen'])}"
        never = [one for one in self.observed.get("classes") or () if one in self.architecture.classes and self._never(one)]
        if never:
            yield f"# NOTE: {', '.join(map(remark, never))} may never leave the site, and {remark(self.destination)} is off site:"
            yield "#   no hop can approve this."
        if finding.get("completeness", "complete") != "complete":
            yield f"# NOTE: what was seen is {remark(finding['completeness'])}; more may have moved."
        yield ""
        yield from self._assets()
        yield from self._accounts()
        what, unclassed = self._what()
        yield from self._data(unclassed)
        via, conduit = self._via()
        yield from conduit
        yield "hops:"
        yield f"  {self._name()}:"
        yield f"    who: {self._who()}"
        yield f"    from: {quoted(self.source)}"
        yield f"    to: {quoted(self.destination)}"
        yield from via
        yield f"    may: [{', '.join(self._may()) or DECIDE}]"
        yield f"    what: [{', '.join(what) or DECIDE}]" + ("" if what else "   # nothing of the content could be read")
        yield f"    limit: {self._limit()}   # what was observed in all, rounded up; decide how much is needed"
        yield f"    keep: {DECIDE}   # how long the copy may live at the destination, such as 90d"
        yield f"    why: {DECIDE}   # the purpose, in words of who needs it"
        yield f"    approved: {{by: {DECIDE}, ticket: {DECIDE}}}"

    # Ends

    def _end(self, shown: str) -> tuple[str, str | None]:
        """An end as the file names it; one that it lacks becomes an asset of the draft."""
        if shown in self.architecture.assets:
            return shown, self.architecture.assets[shown].zone
        if shown in self.architecture.zones:
            return shown, shown
        end = self.index.end(shown, 0, ())
        if end.host is not None:
            return end.host, end.zone
        name = "host-" + re.sub(r"[^A-Za-z0-9]+", "-", shown).strip("-")[:100]
        self.assets[name] = (end.zone or DECIDE, shown)
        return name, end.zone

    def _assets(self) -> Iterator[str]:
        if not self.assets:
            return
        yield "assets:"
        for name, (zone, at) in self.assets.items():
            why = "   # it lies in no declared zone: declare one, off_site with operator and terms if it is" if zone == DECIDE else ""
            yield f"  {quoted(name)}: {{zone: {quoted(zone)}, kind: {DECIDE}, at: {quoted(at)}}}{why}"
        yield ""

    def _client(self) -> str:
        """The end that dialled, as an account's ``from`` would name it."""
        said = str(self.finding.get("client") or "")
        name = re.fullmatch(r"(\S+) \((\S+)\)", said)
        asked = name[1] if name else said
        if asked in self.architecture.assets:
            return asked
        for asset, (_, at) in self.assets.items():
            if asked == at:
                return asset
        return asked or DECIDE

    # Who

    def _who(self) -> str:
        who = self.finding.get("who")
        if not who:
            return f"{DECIDE}   # the account could not be read"
        if str(who).startswith(_PERSON):
            return f"{DECIDE}   # the store keeps this account as {remark(who)}; its owner is not in the file"
        account = self.index.account(str(who))
        return quoted(account or str(who)) if account or _NAME.fullmatch(str(who)) else f"{DECIDE}   # seen as {remark(who)}"

    def _accounts(self) -> Iterator[str]:
        who = self.finding.get("who")
        if not who or str(who).startswith(_PERSON):
            return
        known = self.index.account(str(who))
        if known is None:
            if not _NAME.fullmatch(str(who)):
                return
            yield "accounts:"
            yield f"  {quoted(str(who))}: {{kind: {DECIDE}, owner: {DECIDE}, from: [{quoted(self.client)}], auth: {self._login()}}}"
            yield ""
        elif self.client != DECIDE and not self._comes_from(known):
            hosts = ", ".join(map(remark, self.architecture.accounts[known].from_))
            yield f"# Account {remark(known)} may come from {hosts} alone, and came from {remark(self.client)}."
            yield "# Add it to the account's from, or better: give this use an account of its own."
            yield ""

    def _comes_from(self, account: str) -> bool:
        asset = self.architecture.assets.get(self.client)
        return bool({self.client, asset.zone if asset else None} & set(self.architecture.accounts[account].from_))

    def _login(self) -> str:
        logins = ((flow.get("protection") or {}).get("authentication") for flow in self.flows)
        said = next((str(one) for one in logins if one), "")
        return said if said in ("certificate", "scram-sha-256", "password", "kerberos", "token", "md5") else DECIDE

    # What

    def _what(self) -> tuple[list[str], dict[str, list[str]]]:
        """Entries of ``data`` that were met, and objects that none of them classes, by the asset that holds them."""
        entries: dict[str, None] = {}
        unclassed: dict[str, list[str]] = {}
        for name in list(self.observed.get("objects") or ())[:OBJECTS_DRAFTED_MAX]:
            home, found = self._home(str(name))
            if found:
                entries |= dict.fromkeys(found)
            elif not str(name).startswith("account:") and str(name) not in ("unknown", "*"):
                unclassed.setdefault(home, []).append(str(name))
        names = sorted(entries, key=list(self.architecture.data).index)
        return [*map(quoted, names), *(quoted(f"data-{home}") for home in unclassed)], unclassed

    def _home(self, name: str) -> tuple[str, list[str]]:
        for asset in (self.source, self.destination):
            met = self.index.classify(asset, name)
            if met.entries or met.metadata:
                return asset, sorted(met.entries)
        return self.source if self.source in self.architecture.assets else self.destination, []

    def _data(self, unclassed: Mapping[str, Sequence[str]]) -> Iterator[str]:
        if not unclassed:
            return
        kind = _KINDS.get(self.protocol or "", "tables")
        yield "data:"
        for home, names in unclassed.items():
            yield f"  {quoted(f'data-{home}')}: {{class: {DECIDE}, in: [{quoted(home)}], {kind}: [{', '.join(map(quoted, names))}]}}"
        more = len(self.observed.get("objects") or ()) - OBJECTS_DRAFTED_MAX
        if more > 0:
            yield f"  # and {more} objects more"
        yield ""

    # Where

    def _via(self) -> tuple[list[str], list[str]]:
        via, conduits = way(self.architecture, self.source_zone, self.destination_zone)
        head = "conduits:   # no conduit leads this way: is there to be one, and what enforces it?"
        return via, [head, *conduits, ""] if conduits else []

    def _never(self, class_name: str) -> bool:
        return self.architecture.classes[class_name].off_site == "never" and self.index.is_off_site(self.destination_zone)

    # How

    def _may(self) -> list[str]:
        operations = dict.fromkeys(str(flow["operation"]) for flow in self.flows if flow.get("operation"))
        return [name for name in operations if name not in _CONTROL]

    def _limit(self) -> str:
        for unit in ("rows", "values"):
            count = int(self.observed.get(unit) or 0)
            if count > 0:
                return f"{_rounded(count)} {unit} / 1d"
        count = max(int(self.observed.get("bytes") or 0), 1)
        name, factor = next((name, factor) for name, factor in _BYTE_UNITS if count >= factor)
        made = Limit.parse(f"{_step(-(-count // factor))} {name} / 1d")
        assert made.unit is Unit.BYTES and made.amount >= count
        return str(made)

    def _name(self) -> str:
        ends = f"{self.source}-to-{self.destination}"
        name = re.sub(r"[^A-Za-z0-9_.-]+", "-", ends)[:100]
        number = 2
        wanted = name
        while wanted in self.architecture.hops:
            wanted = f"{name}-{number}"
            number += 1
        return wanted


def _step(count: int) -> int:
    """The next of 1, 2, 5, 10, 20, 50 and so on."""
    magnitude = 1
    while True:
        for step in _STEPS:
            if step * magnitude >= count:
                return step * magnitude
        magnitude *= 10


def _rounded(count: int) -> str:
    whole = _step(count)
    for multiple, factor in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if whole >= factor and whole % factor == 0:
            return f"{whole // factor}{multiple}"
    return str(whole)


def way(architecture: Architecture, source_zone: str | None, destination_zone: str | None) -> tuple[list[str], list[str]]:
    """The lines of a hop that say the way, and the line of the conduit that the file lacks between the two zones."""
    if source_zone is not None and source_zone == destination_zone:
        inside = (hop.agent for hop in architecture.hops.values() if source_zone in architecture.zones_of(hop.from_))
        agent = next(filter(None, inside), DECIDE)
        return [f"    agent: {quoted(agent)}   # it stays inside {remark(source_zone)}", "    sees: decoded"], []
    for name, conduit in architecture.conduits.items():
        if source_zone in conduit.from_ and destination_zone in conduit.to:
            return [f"    via: {quoted(name)}"], []
    source, destination = source_zone or DECIDE, destination_zone or DECIDE
    name = f"c-{source}-{destination}" if DECIDE not in (source, destination) else "c-new"
    made = f"  {quoted(name)}: {{from: {quoted(source)}, to: {quoted(destination)}, agent: {DECIDE}, sees: {DECIDE}}}"
    return [f"    via: {quoted(name)}"], [made]


def quoted(value: str) -> str:
    """A scalar that reads as this text and nothing else, whoever wrote it: quoted as JSON, which YAML 1.2 contains, if in doubt."""
    plain = _PLAIN.fullmatch(value) and not _READS_AS_OTHER.fullmatch(value) and ":" not in value
    return value if plain else json.dumps(clean(value))


def remark(value: object) -> str:
    """Text in a comment: one line, whatever came off the wire."""
    return clean(value)[:300]
