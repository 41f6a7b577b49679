"""Findings by identity: one for each (plant, verdict, who, source, destination, hop), updated for as long as it goes on.

An update accumulates windows, amounts, objects and classes; its severity is the worst so far. Flows without payload are one
finding per source and verdict, so that a scan of a thousand ports is one line. What a session says to begin and end (``connect``,
``refused``) always runs to the server; it belongs to the finding of the data that the session moves, whichever way that goes.
"""

import json
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

from detectors.changes import put, tail
from detectors.compare import CONTROL
from detectors.judgement import RESUMED_NS, Outcome, highest
from detectors.offsite import OffsiteList
from hopwatch.declared.match import End, Remembered
from hopwatch.events import Answer, Declaration, Difference, Finding, Flow, Observed, Severity, time_ns

FINDINGS_MAX: Final = 10_000
"""Findings kept open; the one updated longest ago is forgotten and would start anew."""

EVIDENCE_KEPT: Final = 64
"""Event ids one finding quotes; ``evidence_total`` counts them all."""

OBJECTS_SHOWN: Final = 64
"""Objects one finding names; ``objects_total`` is not kept, a store can list the windows."""

DIFFERENCES_SHOWN: Final = 32
"""Differences one finding lists."""

ADDED: Final = "+ "
"""What begins an observed line that adds to what is declared."""

ADDED_SHOWN: Final = 240
"""Characters after which what else was added is only said to be more."""

_WEAKNESS: Final[dict[Answer, int]] = {"checked": 0, "assumed": 1, "unknown": 2}

_NOTHING: Final = Observed()


class Findings:
    """Every open finding, newest update last."""

    def __init__(self, declaration: Declaration, offsite: OffsiteList, severities: Mapping[str, Severity]) -> None:
        """``severities``: how bad each class of data is."""
        self._declaration = declaration
        self._severities = severities
        self._place = Remembered(offsite.find)
        self._open: OrderedDict[str, Finding] = OrderedDict()
        self._sessions: OrderedDict[str, tuple[str, str | None]] = OrderedDict()
        """By verdict, who, hop and the two ends: the finding that their logins count on, and the identity of the data in it."""
        self._touched: set[str] | None = None
        self._sessions_touched: set[str] | None = None
        self.forgotten_total = 0
        self.sessions_forgotten_total = 0

    def update(self, flow: Flow, said: Outcome, new: Mapping[str, int]) -> Finding:
        """The finding after this window; ``new`` is what it adds to what all views of the connection have counted."""
        assert said.severity is not None, "what is quiet is no finding"
        verdict, severity, hop, checked = said.verdict, said.severity, said.hop, said.checked
        source, destination, who = said.source, said.destination, said.who
        attempt = flow.operation == "attempt"
        identity = [flow.plant, verdict, who or "", source.shown, destination.shown, hop or ""]
        if attempt:
            identity[2], identity[4], identity[5] = "", "any", ""
        control = flow.operation in CONTROL
        # Until data follows it, a login is a movement of its own, not one that writes to the server.
        finding_id = _hashed([*identity, "login"] if control else identity)
        if not attempt:
            finding_id = self._of_session(_hashed([*identity[:3], *sorted(identity[3:5]), identity[5]]), finding_id, control)
        before = self._open.get(finding_id)
        # A login says nothing of which way the data goes, and knows less of what it is nearest to.
        place = before if before is not None and (control or attempt) else None
        windows = 1 if before is None else before.windows + 1
        was = _NOTHING if before is None else before.observed
        extra: dict[str, Any] = {"hop": hop, "evidence_total": windows, "known_places": self._places(destination, flow)}
        classes = sorted({*was.classes, *said.classes})
        made = Finding(
            event_id=blake2b(f"{finding_id}/{flow.event_id}".encode(), digest_size=16).hexdigest(),
            finding_id=finding_id,
            verdict=verdict,
            severity=severity if before is None else highest((severity, before.severity)),
            plant=flow.plant,
            first_seen=flow.start if before is None else min(flow.start, before.first_seen, key=time_ns),
            last_seen=flow.end if before is None else max(flow.end, before.last_seen, key=time_ns),
            windows=windows,
            who=who,
            client=said.client,
            source=source.shown if place is None else place.source,
            destination=destination.shown if place is None else place.destination,
            observed=Observed(
                rows=max(0, was.rows + new["rows"]),
                values=max(0, was.values + new["values"]),
                messages=max(0, was.messages + new["messages"]),
                bytes=max(0, was.bytes + new["bytes"]),
                objects=_more(was.objects, [name for part in flow.objects for name in part.names], OBJECTS_SHOWN),
                classes=classes,
            ),
            checked=dict(checked)
            if before is None
            else {key: _weaker(checked[key], before.checked.get(key, "checked")) for key in checked},
            nearest_hop=said.nearest_hop if place is None else place.nearest_hop,
            differences=_distinct(before, said.differences, news=place is None),
            declaration=self._declaration,
            evidence=[*([] if before is None else before.evidence), flow.event_id][:EVIDENCE_KEPT],
            completeness=flow.completeness.state if before is None or before.completeness == "complete" else before.completeness,
            ratio=max(filter(None, (said.ratio, None if before is None else before.ratio)), default=None),
            class_severities={name: self._severities[name] for name in classes if name in self._severities},
            resumed=_resumed(before, flow.start),
            **{key: value for key, value in extra.items() if value is not None},
        )
        if self._touched is not None:
            self._touched.add(finding_id)
        self._open[finding_id] = made
        self._open.move_to_end(finding_id)
        if len(self._open) > FINDINGS_MAX:
            self._open.popitem(last=False)
            self.forgotten_total += 1
        return made

    def notice(self, flow: Flow, verdict: str, severity: Severity, who: str | None, what: str, stamp: str, said: Difference) -> Finding:
        """A finding about something other than the window that showed it; said once, so it is not kept open."""
        identity = [flow.plant, verdict, who or "", what, stamp]
        finding_id = _hashed(identity)
        return Finding(
            event_id=blake2b(f"{finding_id}/{flow.event_id}".encode(), digest_size=16).hexdigest(),
            finding_id=finding_id,
            verdict=verdict,
            severity=severity,
            plant=flow.plant,
            first_seen=flow.start,
            last_seen=flow.end,
            who=who,
            source=what,
            destination=what,
            differences=[said],
            declaration=self._declaration,
            evidence=[flow.event_id],
        )

    def state(self) -> dict[str, Any]:  # Any: JSON values
        """Every open finding as JSON values."""
        return {"open": [finding.model_dump() for finding in self._open.values()], "sessions": list(self._sessions.items())}

    def restore(self, state: dict[str, Any]) -> None:  # Any: JSON values
        """Take over what ``state`` gave."""
        self._open = OrderedDict((str(said["finding_id"]), Finding.model_validate(said)) for said in state["open"])
        self._sessions = OrderedDict((str(ends), (str(finding_id), data)) for ends, (finding_id, data) in state["sessions"])

    def changes(self) -> dict[str, Any]:  # Any: JSON values
        """The findings updated since the last call, in order; the first call only begins to note them."""
        touched, self._touched = self._touched, set()
        sessions, self._sessions_touched = self._sessions_touched, set()
        made = {
            "open": [finding.model_dump() for _, finding in tail(self._open, touched or ())],
            "sessions": tail(self._sessions, sessions or ()),
        }
        return {name: entries for name, entries in made.items() if entries}

    def merge(self, changes: dict[str, Any]) -> None:  # Any: JSON values
        """Take over what ``changes`` gave."""
        for said in changes.get("open", ()):
            put(self._open, str(said["finding_id"]), Finding.model_validate(said), FINDINGS_MAX)
        for ends, (finding_id, data) in changes.get("sessions", ()):
            put(self._sessions, str(ends), (str(finding_id), data), FINDINGS_MAX)

    def __len__(self) -> int:
        return len(self._open)

    @property
    def sessions(self) -> int:
        """How many pairs of ends are remembered with the finding of their login."""
        return len(self._sessions)

    def _of_session(self, ends: str, own: str, control: bool) -> str:
        """The finding of a window between two ends: a login's is taken over by the first data that follows it."""
        finding_id, data = self._sessions.pop(ends, (own, None))
        if not control and data is None:
            data = own
        if self._sessions_touched is not None:
            self._sessions_touched.add(ends)
        self._sessions[ends] = (finding_id, data)
        if len(self._sessions) > FINDINGS_MAX:
            self._sessions.popitem(last=False)
            self.sessions_forgotten_total += 1
        return finding_id if control or data == own else own

    def _places(self, destination: End, flow: Flow) -> list[dict[str, str]] | None:
        """What the dated list knows of the names the destination goes by, confirmed or claimed."""
        known = []
        for name in dict.fromkeys(one.name for one in (*flow.destination.names, *flow.source.names)):
            place = self._place(name)
            if place is not None:
                confirmed = "yes" if name.rstrip(".").lower() == destination.name else "no"
                known.append(
                    {"name": name, "category": place.category, "provider": place.provider, "list": place.list_date, "confirmed": confirmed}
                )
        return known or None


def _resumed(before: Finding | None, start: str) -> str | None:
    """When the finding last went on after a day of quiet."""
    if before is None:
        return None
    return start if time_ns(start) - time_ns(before.last_seen) >= RESUMED_NS else before.resumed


def _hashed(identity: list[str]) -> str:
    return _id_of(tuple(identity))


# What goes on says its identity with every window.
@lru_cache(maxsize=16_384)
def _id_of(identity: tuple[str, ...]) -> str:
    return "F-" + blake2b(json.dumps(identity).encode(), digest_size=8).hexdigest()


def _distinct(before: Finding | None, differences: Iterable[Difference], *, news: bool) -> list[Difference]:
    """One wording of each difference, named by its question and what is declared: the latest if it is ``news``, as amounts grow."""
    kept = {} if before is None else {(one.question, one.declared): one for one in before.differences}
    said: dict[tuple[str, str], Difference] = {}
    for one in differences:
        other = said.get((one.question, one.declared))
        said[one.question, one.declared] = one if other is None else _both(other, one)
    for key, one in said.items():
        if news or key not in kept:
            kept[key] = one
    return list(kept.values())[-DIFFERENCES_SHOWN:]


def _both(one: Difference, other: Difference) -> Difference:
    """What two object sets of a window add to the same, in one line as far as it goes; else the later wording."""
    if not (one.observed.startswith(ADDED) and other.observed.startswith(ADDED)):
        return other
    if len(one.observed) > ADDED_SHOWN:
        return one if one.observed.endswith(" and more") else one.model_copy(update={"observed": f"{one.observed} and more"})
    return one.model_copy(update={"observed": f"{one.observed}, {other.observed.removeprefix(ADDED)}"})


def _more(were: list[str], names: list[str], most: int) -> list[str]:
    return list(dict.fromkeys((*were, *names)))[:most]


def _weaker(one: Answer, other: Answer) -> Answer:
    return max(one, other, key=_WEAKNESS.__getitem__)
