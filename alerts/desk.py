"""Findings become alerts: one for each finding, over all its life, and a person is told only of what is new.

The desk has no clock, no file and no socket: findings, decisions, heartbeats and the time come in, revisions go out, and what it
remembers is a ``Held``. Everything may be said twice and late; what was taken in already changes nothing.

- **News**: it is there; it became more severe; its ratio doubled; a higher class joined; it went on after 24 hours of quiet; it went on
  after somebody resolved it as true. Anything else is an update: for the record, at most one in ``UPDATE_S``. What is ``info`` is listed
  and calls nobody.
- **Groups**: of a plant's account one notification goes at once, what comes in the minute after it waits for the end of the minute, and
  from then on a batch goes every ``BATCH_S``; only what is worse than all that was told before does not wait for the batch. Of a plant
  more than ``FLOOD_MAX`` in ``FLOOD_S`` is a flood (ISA-18.2, 16.5: ten alarms in ten minutes) and is gathered for the whole plant.
- **Folding**: beyond ``ALIKE_MAX`` open alerts of one verdict and group, and ``OPEN_MAX`` of one verdict and plant, findings become
  members of one alert that counts them. No finding is lost, and a list stays one that can be read.
- **Inhibition**: an account that is not declared makes its limits needless, an agent that is silent what is unseen without it. Only an
  alert that is seen itself inhibits; when it ends, what it kept quiet is told.
- **Suppression** is of one alert or of a scope of one to three fields, **shelving** of one alert; both end by themselves and count what
  they hid. An acknowledged alert is in progress, not closed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, Final

from alerts.memory import INHIBITED, INHIBITS, SCOPE, UPDATE_S, Group, Held, Kept, Rule, Told, place_of
from alerts.severity import because, rank, worst
from hopwatch.events import Alert, AlertChange, AlertState, Decision, Finding, Severity, time_ns, time_text

FIRST_S: Final = 60
"""After the first notification of a group nothing is told for so long."""

BATCH_S: Final = 300
"""How often a group that goes on is told of."""

WAITING_MAX: Final = 1_000
"""Alerts whose notification waits that a group names; of more it knows how many (`waiting_more`)."""

BATCH_NAMED: Final = 32
"""Alerts that a notification of many names; ``batch.alerts`` counts them all."""

FLOOD_MAX: Final = 10
"""Notifications of a plant in ``FLOOD_S``; of more, those no worse than what was told wait for the plant's batch (`flooded`)."""

FLOOD_S: Final = 600

ALIKE_MAX: Final = 20
"""Open alerts of one verdict and group; further findings are folded into one alert (`folded`)."""

OPEN_MAX: Final = 200
"""Open alerts of one verdict and plant; further findings are folded into one alert (`folded`)."""

QUIET_S: Final = 86_400
"""After so long without a window it is news that a finding goes on."""

GOES_ON_S: Final = 3_600
"""So long after it was resolved as true a finding that goes on is news."""

RATIO_NEWS: Final = 2.0
SCOPE_MAX: Final = 3
"""Fields that a scope names; one of more is refused."""

SUPPRESS_DAYS_MAX: Final = 366
"""A suppression ends after so many days at most, a shelf after SHELVE_DAYS_MAX; a later end is refused."""

SHELVE_DAYS_MAX: Final = 31
"""A shelf ends after so many days at most; a later end is refused."""

RULES_MAX: Final = 1_000
"""Suppressions by scope in force in a plant; one more is refused."""

REASON_CHARACTERS_MAX: Final = 1_000
"""Characters of a reason; a longer one is refused."""

CLASSES_NAMED: Final = 4

About = Callable[[str], tuple[list[str], str]]
"""Of a verdict: the techniques it may be, and where its page is."""


class DecisionRefused(ValueError):
    """What a person decided cannot be done; the message says why, in one line."""


def alert_id(finding_id: str) -> str:
    """The alert of a finding."""
    return f"A-{finding_id.removeprefix('F-')}"


def group_name(finding: Finding) -> str:
    """What is told of together: one account's doings in a plant; without an account those of one end."""
    return f"{finding.plant}/{finding.who or finding.client or finding.source}"


class Desk:
    """Takes in what happened and says the revisions; all it knows is in ``held``."""

    def __init__(self, held: Held, about: About = lambda verdict: ([], f"docs/verdicts/{verdict}.md")) -> None:
        self.held = held
        self.counted: Counter[str] = Counter()
        """How often a bound was reached, and what was taken in."""

        self._about = about
        self._now_ns = 0
        self._made: list[Alert] = []

    def taken(self) -> list[Alert]:
        """The revisions since the last call, in their order."""
        made, self._made = self._made, []
        return made

    # What happened

    def found(self, finding: Finding, now_ns: int) -> None:
        """A finding is there, or says more."""
        self._now_ns = now_ns
        self.counted["findings"] += 1
        own = alert_id(finding.finding_id)
        kept = self.held.alert(own)
        if kept is None:
            folded = self.held.fold(finding.finding_id)
            if folded is None:
                into = self._folds_into(finding)
                if into is None:
                    self._raise(own, finding)
                else:
                    self._fold(into, finding, known=False)
            elif folded[1] != finding.event_id:
                self._fold(folded[0], finding, known=True)
            return
        if finding.event_id != kept.finding.event_id and (said := _with(kept.finding, finding)) != kept.finding:
            self._again(kept, said)

    def heard(self, plant: str, agent: str, at_ns: int, now_ns: int) -> None:
        """An agent said something at ``at_ns``: if it was silent, that has ended."""
        self._now_ns = now_ns
        for kept in self.held.at(f"agent/{plant}/{agent}"):
            if kept.finding.verdict in INHIBITS and not kept.over and kept.open and at_ns > time_ns(kept.finding.last_seen):
                kept.over = True
                self._revise(kept, "updated", f"{agent} was heard again at {time_text(at_ns)}")
                self._inhibiting(kept)

    def passed(self, now_ns: int) -> None:
        """Time has come to ``now_ns``: shelves and suppressions end, batches go, updates are said."""
        self._now_ns = now_ns
        for rule in list(self.held.rules.values()):
            if rule.ended is None and not rule.holds(now_ns):
                self._end(rule)
        for kept in list(self.held.due_alerts(now_ns)):
            self._due(kept)
        for group in list(self.held.due_groups(now_ns)):
            self._batch(group)

    def decided(self, decision: Decision) -> None:
        """What a person decided, about one alert or every alert in a scope.

        Raises:
            DecisionRefused: it cannot be done; nothing has changed.
        """
        self._now_ns = time_ns(decision.time)
        if not decision.reason.strip() or not decision.person.strip():
            raise DecisionRefused(f"{decision.action}: a person and a reason are needed")
        if len(decision.reason) > REASON_CHARACTERS_MAX:
            raise DecisionRefused(f"reason: {len(decision.reason)} characters, expected at most {REASON_CHARACTERS_MAX}")
        if decision.alert_id is None:
            self._decided_of_scope(decision)
        elif (kept := self.held.alert(decision.alert_id)) is None:
            raise DecisionRefused(f"{decision.alert_id}: no such alert")
        else:
            _DECIDED[decision.action](self, kept, decision)
        self.counted["decisions"] += 1

    # Findings

    def _raise(self, own: str, finding: Finding, **more: Any) -> None:  # Any: fields of an alert readers need not know
        techniques, page = self._about(finding.verdict)
        group = group_name(finding)
        alert = Alert(
            event_id="", alert_id=own, plant=finding.plant, time=time_text(self._now_ns), change="raised", severity=finding.severity,
            techniques=techniques, group=group, raised=time_text(self._now_ns), page=page, finding=finding, **more,
        )  # fmt: skip
        kept = Kept(alert)
        self._count(kept, 1)
        self.held.put(kept)
        quiet = self._quieted(kept)
        _tell(kept.told, finding)
        self._say(kept, "raised", f"first seen{quiet}", first=True)
        self._inhibiting(kept)
        self.counted["raised"] += 1

    def _again(self, kept: Kept, finding: Finding) -> None:
        """More of a finding that is known."""
        news = _news(kept, finding)
        if not kept.open and kept.judged == "true-positive" and kept.resolved is not None and not news:
            after_s = (time_ns(finding.last_seen) - time_ns(kept.resolved)) / 10**9
            if after_s >= GOES_ON_S:
                news = "goes on after it was resolved"
        was_over, kept.over = kept.over, kept.over and time_ns(finding.last_seen) <= time_ns(kept.finding.last_seen)
        if was_over and not kept.over:
            news = news or "once more, after it had ended"
        if not news:
            kept.pending = finding
            self.held.put(kept)
            if self._now_ns - kept.said_ns >= UPDATE_S * 10**9:
                self._revise(kept, "updated", "went on")
        else:
            _tell(kept.told, finding)
            kept.pending = finding
            if not kept.open:
                kept.alert = kept.alert.model_copy(update={"state": "new", "disposition": None, "owner": None})
                kept.resolved = kept.acknowledged = None
                self._count(kept, 1)
            self._quieted(kept)
            self._say(kept, "raised-again", news)
        if news or was_over != kept.over:
            self._inhibiting(kept)

    def _folds_into(self, finding: Finding) -> str | None:
        """The alert for one more of a kind of which there are enough; None if there are not."""
        for name, most in ((group_name(finding), ALIKE_MAX), (_flood_name(finding.plant), OPEN_MAX)):
            if self.held.group(name).counts.get(finding.verdict, 0) >= most:
                digest = blake2b(f"{name}\n{finding.verdict}".encode(), digest_size=8).hexdigest()
                return f"A-{digest}"
        return None

    def _fold(self, into: str, finding: Finding, *, known: bool) -> None:
        """One finding more, or more of it, in the alert of those that are alike."""
        self.held.put_fold(finding.finding_id, into, finding.event_id)
        kept = self.held.alert(into)
        if not known:
            self.counted["folded"] += 1
        if kept is None:
            self._raise(into, finding, folded=1)
            return
        if not known:
            folded = (kept.alert.model_extra or {}).get("folded", 0) + 1
            kept.alert = kept.alert.model_copy(update={"folded": folded})
        # The worst of them stands for all; what any of them has is said of it.
        self._again(kept, _together(kept.finding, finding))

    # Notifications

    def _say(self, kept: Kept, change: AlertChange, why: str, *, first: bool = False) -> None:
        """A revision that a person is told of, unless it is kept quiet or waits for others."""
        if kept.quiet:
            self._hide(kept)
            self._revise(kept, change, why, first=first)
            return
        if kept.told.severity == "info":
            # It is listed for who owns the declaration; nobody is called.
            self._revise(kept, change, why, first=first)
            return
        if self._tells(kept):
            self._revise(kept, change, why, notify=True, first=first)
            return
        kept.waiting = True
        self._revise(kept, change, why, first=first)

    def _tells(self, kept: Kept) -> bool:
        """Whether it is told now; if not, it waits in a group."""
        severity = kept.told.severity
        group = self.held.group(kept.alert.group)
        if 0 < group.due_ns <= self._now_ns:
            self._batch(group)
        idle = group.due_ns == 0
        if not idle and (group.first or rank(severity) <= rank(group.severity)):
            _wait(group, kept.alert.alert_id)
            return False
        group.due_ns = self._now_ns + (FIRST_S if idle else BATCH_S) * 10**9
        group.first = idle
        plant = self.held.group(_flood_name(kept.alert.plant))
        if self._floods(plant, severity):
            _wait(plant, kept.alert.alert_id)
            return False
        # What waits in the group and is of no news by itself goes with the next batch; of what is told the worst is remembered.
        group.severity = severity if idle else worst(group.severity, severity)
        plant.severity = worst(plant.severity, severity) if plant.told else severity
        plant.told = [*plant.told, self._now_ns][-FLOOD_MAX:]
        return True

    def _floods(self, plant: Group, severity: Severity) -> bool:
        """Whether so much was told of the plant lately that this waits; the plant's own batch then has its time."""
        plant.told = [at for at in plant.told if self._now_ns - at < FLOOD_S * 10**9]
        if len(plant.told) < FLOOD_MAX or rank(severity) > rank(plant.severity):
            return False
        self.counted["flooded"] += 1
        if plant.due_ns == 0:
            plant.due_ns = self._now_ns + BATCH_S * 10**9
        return True

    def _batch(self, group: Group) -> None:
        """Tell of what waits in a group, in one notification; a group in which nothing waits is quiet again."""
        group = self.held.group(group.name)
        waiting = [kept for one in group.waiting if (kept := self.held.alert(one)) is not None and kept.waiting]
        more, group.waiting, group.waiting_more = group.waiting_more, [], 0
        for kept in waiting:
            kept.waiting = False
            self.held.put(kept)
        told = [kept for kept in waiting if kept.open and not kept.quiet]
        if not told:
            group.due_ns, group.first, group.severity = 0, False, "info"
            return
        group.due_ns, group.first = self._now_ns + BATCH_S * 10**9, False
        told.sort(key=lambda kept: (-rank(kept.told.severity), kept.alert.alert_id))
        front = told[0]
        flood = self.held.group(_flood_name(front.alert.plant))
        if group is not flood and self._floods(flood, front.told.severity):
            for kept in told:
                kept.waiting = True
                _wait(flood, kept.alert.alert_id)
            flood.waiting_more += more
            return
        group.severity = worst(group.severity, front.told.severity)
        flood.told = [*flood.told, self._now_ns][-FLOOD_MAX:]
        change: AlertChange = "raised-again" if front.alert.notified else "raised"
        if len(told) + more == 1:
            self._revise(front, change, "told with the batch of its group", notify=True)
            return
        verdicts = Counter(kept.finding.verdict for kept in told)
        counted = ", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items()))
        others = f"{counted}{f' and {more} more' if more else ''}"
        batch = {"alerts": len(told) + more, "ids": [kept.alert.alert_id for kept in told[:BATCH_NAMED]], "verdicts": dict(verdicts)}
        self._revise(front, change, f"{len(told) + more} alerts of {group.name}: {others}", notify=True, batch=batch)

    def _revise(
        self, kept: Kept, change: AlertChange, why: str, *, notify: bool = False, first: bool = False, **more: Any
    ) -> None:  # Any: fields of an alert
        """Make the next revision of an alert from everything that is known of it."""
        finding = kept.finding
        revision = 0 if first else kept.alert.revision + 1
        identity = f"{kept.alert.alert_id}/{revision}"
        said = {
            "event_id": blake2b(identity.encode(), digest_size=16).hexdigest(),
            "revision": revision,
            "time": time_text(max(self._now_ns, kept.said_ns)),
            "change": change,
            "why": why,
            "notify": notify,
            "state": _state(kept),
            "severity": finding.severity,
            "severity_because": because(finding),
            "notified": kept.alert.notified + notify,
            "finding": finding,
        }
        kept.alert = kept.alert.model_copy(update=said | more)
        if "batch" not in more and kept.alert.model_extra:
            # It is of the notification before.
            kept.alert.model_extra.pop("batch", None)
        kept.pending = None
        kept.said_ns = max(self._now_ns, kept.said_ns)
        self.held.put(kept)
        self._made.append(kept.alert)
        self.counted["revisions"] += 1
        if notify:
            kept.waiting = False
            self.counted["notified"] += 1

    def _hide(self, kept: Kept) -> None:
        """Count what nobody is told of, with the alert and with what keeps it quiet."""
        kept.alert = kept.alert.model_copy(update={"hidden": kept.alert.hidden + 1})
        kept.worst_hidden = worst(kept.worst_hidden or "info", kept.told.severity)
        rule = self.held.rules.get(kept.alert.suppressed_by or "")
        if rule is not None:
            rule.hidden += 1
            self.held.put_rule(rule)
        self.counted["hidden"] += 1

    # What keeps quiet

    def _quieted(self, kept: Kept) -> str:
        """Let a suppression or another alert keep it quiet, if one does; says which."""
        alert = kept.alert
        if alert.suppressed_by is None:
            rule = next((one for one in self.held.rules_of(alert.plant) if one.holds(self._now_ns) and one.covers(kept.finding)), None)
            if rule is not None:
                kept.alert = alert.model_copy(update={"suppressed_by": rule.id})
                kept.suppressed_until = rule.decision.until
                return f"; suppressed by {rule.decision.person} until {rule.decision.until}: {rule.decision.reason}"
        if alert.inhibited_by is None and (place := place_of(kept.finding, INHIBITED)) is not None:
            by = next((one for one in self.held.at(place) if _inhibits(one)), None)
            if by is not None:
                kept.alert = kept.alert.model_copy(update={"inhibited_by": by.alert.alert_id})
                return f"; needless while {by.finding.verdict} ({by.alert.alert_id}) is open"
        return ""

    def _inhibiting(self, kept: Kept) -> None:
        """After a change of an alert: what it makes needless falls quiet, what it no longer does is told."""
        place = place_of(kept.finding, INHIBITS)
        if place is None:
            return
        holds, own = _inhibits(kept), kept.alert.alert_id
        for other in self.held.at(place):
            if other.finding.verdict not in INHIBITED or not other.open:
                continue
            if holds and other.alert.inhibited_by is None:
                other.alert = other.alert.model_copy(update={"inhibited_by": own})
                self._revise(other, "inhibited", f"needless while {kept.finding.verdict} ({own}) is open")
            elif not holds and other.alert.inhibited_by == own:
                # Another one may take its place.
                other.alert = other.alert.model_copy(update={"inhibited_by": None})
                if self._quieted(other):
                    self.held.put(other)
                else:
                    self._say(other, "released", f"{own} no longer makes it needless{_hid(other)}")

    def _due(self, kept: Kept) -> None:
        """What time decides about one alert."""
        alert, now_ns = kept.alert, self._now_ns
        returned = ""
        if alert.shelved_until is not None and time_ns(alert.shelved_until) <= now_ns:
            alert, returned = alert.model_copy(update={"shelved_until": None}), "the shelf ended"
        if kept.suppressed_until is not None and time_ns(kept.suppressed_until) <= now_ns:
            alert, returned = alert.model_copy(update={"suppressed_by": None}), "the suppression ended"
            kept.suppressed_until = None
        if returned:
            kept.alert = alert
            self._return(kept, returned)
        elif kept.pending is not None and now_ns - kept.said_ns >= UPDATE_S * 10**9:
            self._revise(kept, "updated", "went on")

    def _return(self, kept: Kept, why: str) -> None:
        self._quieted(kept)
        if kept.open:
            self._say(kept, "returned", f"{why}{_hid(kept)}")
        else:
            self._revise(kept, "returned", why)
        kept.worst_hidden = None
        self._inhibiting(kept)

    def _end(self, rule: Rule) -> None:
        """A suppression is over; the alerts it kept quiet come back when their own time is looked at."""
        rule.ended = time_text(self._now_ns)
        self.held.put_rule(rule)

    # Decisions

    def _decided_of_scope(self, decision: Decision) -> None:
        scope = decision.scope
        if decision.action not in ("suppress", "unsuppress", "acknowledge", "resolve"):
            raise DecisionRefused(f"{decision.action}: is of one alert, not of a scope")
        if not 0 < len(scope) <= SCOPE_MAX or not set(scope) <= set(SCOPE):
            raise DecisionRefused(f"scope: expected one to {SCOPE_MAX} of {', '.join(SCOPE)}")
        if decision.action == "suppress":
            self._check_until(decision, SUPPRESS_DAYS_MAX)
            if sum(1 for _ in self.held.rules_of(decision.plant)) >= RULES_MAX:
                raise DecisionRefused(f"suppress: {RULES_MAX} suppressions are in force in {decision.plant}, end one first")
            rule = Rule(decision)
            self.held.put_rule(rule)
            for kept in list(self.held.where(decision.plant, scope)):
                if kept.alert.suppressed_by is None:
                    kept.alert = kept.alert.model_copy(update={"suppressed_by": rule.id})
                    kept.suppressed_until = decision.until
                    self._revise(kept, "decided", _by("suppressed", decision))
                    self._inhibiting(kept)
        elif decision.action == "unsuppress":
            rules = [rule for rule in self.held.rules_of(decision.plant) if rule.decision.scope == scope]
            if not rules:
                raise DecisionRefused(f"unsuppress: nothing is suppressed in {decision.plant} with exactly this scope")
            for rule in rules:
                self._end(rule)
                for kept in list(self.held.suppressed_by(rule.id)):
                    self._unsuppress(kept, decision)
        else:
            of_scope = [
                kept for kept in self.held.where(decision.plant, scope) if decision.action == "resolve" or kept.alert.state == "new"
            ]
            if not of_scope:
                raise DecisionRefused(f"{decision.action}: no alert of {decision.plant} that it would change has such a scope")
            for kept in of_scope:
                _DECIDED[decision.action](self, kept, decision)

    def _check_until(self, decision: Decision, days: int) -> None:
        if decision.until is None:
            raise DecisionRefused(f"{decision.action}: an end is needed")
        left_s = (time_ns(decision.until) - self._now_ns) / 10**9
        if not 0 < left_s <= days * 86_400:
            raise DecisionRefused(f"{decision.action}: an end within {days} days is needed, not {decision.until}")

    def _needs_open(self, kept: Kept, decision: Decision) -> None:
        if not kept.open:
            raise DecisionRefused(f"{kept.alert.alert_id}: is resolved; reopen it first")

    def _acknowledge(self, kept: Kept, decision: Decision) -> None:
        self._needs_open(kept, decision)
        kept.acknowledged = kept.acknowledged or time_text(self._now_ns)
        kept.alert = kept.alert.model_copy(update={"owner": decision.person})
        kept.waiting = False
        self._revise(kept, "decided", _by("acknowledged", decision))

    def _comment(self, kept: Kept, decision: Decision) -> None:
        self._revise(kept, "decided", _by("comment", decision))

    def _suppress(self, kept: Kept, decision: Decision) -> None:
        self._needs_open(kept, decision)
        self._check_until(decision, SUPPRESS_DAYS_MAX)
        kept.alert = kept.alert.model_copy(update={"suppressed_by": decision.event_id})
        kept.suppressed_until, kept.waiting = decision.until, False
        self._revise(kept, "decided", _by(f"suppressed until {decision.until}", decision))
        self._inhibiting(kept)

    def _unsuppress(self, kept: Kept, decision: Decision) -> None:
        if kept.alert.suppressed_by is None:
            raise DecisionRefused(f"{kept.alert.alert_id}: is not suppressed")
        kept.alert = kept.alert.model_copy(update={"suppressed_by": None})
        kept.suppressed_until = None
        self._quieted(kept)
        self._revise(kept, "decided", _by(f"no longer suppressed{_hid(kept)}", decision))
        kept.worst_hidden = None
        self._inhibiting(kept)

    def _shelve(self, kept: Kept, decision: Decision) -> None:
        self._needs_open(kept, decision)
        self._check_until(decision, SHELVE_DAYS_MAX)
        kept.alert = kept.alert.model_copy(update={"shelved_until": decision.until})
        kept.waiting = False
        self._revise(kept, "decided", _by(f"shelved until {decision.until}", decision))
        self._inhibiting(kept)

    def _unshelve(self, kept: Kept, decision: Decision) -> None:
        if kept.alert.shelved_until is None:
            raise DecisionRefused(f"{kept.alert.alert_id}: is not shelved")
        kept.alert = kept.alert.model_copy(update={"shelved_until": None})
        self._revise(kept, "decided", _by(f"taken from the shelf{_hid(kept)}", decision))
        kept.worst_hidden = None
        self._inhibiting(kept)

    def _resolve(self, kept: Kept, decision: Decision) -> None:
        if decision.disposition is None:
            raise DecisionRefused("resolve: a disposition is needed")
        if kept.open:
            self._count(kept, -1)
        kept.alert = kept.alert.model_copy(
            update={"state": "resolved", "disposition": decision.disposition, "shelved_until": None, "suppressed_by": None,
                    "inhibited_by": None, "owner": kept.alert.owner or decision.person}
        )  # fmt: skip
        kept.resolved, kept.judged = time_text(self._now_ns), decision.disposition
        kept.acknowledged = kept.acknowledged or kept.resolved
        kept.suppressed_until, kept.waiting, kept.worst_hidden = None, False, None
        # Whatever was not told until now is known to whoever resolves it.
        _tell(kept.told, kept.finding)
        self._revise(kept, "decided", _by(f"resolved as {decision.disposition}", decision))
        self._inhibiting(kept)

    def _reopen(self, kept: Kept, decision: Decision) -> None:
        if kept.open:
            raise DecisionRefused(f"{kept.alert.alert_id}: is not resolved")
        kept.resolved = None
        kept.alert = kept.alert.model_copy(update={"state": "new", "disposition": None})
        self._count(kept, 1)
        self._quieted(kept)
        self._revise(kept, "decided", _by("reopened", decision))
        self._inhibiting(kept)

    def _count(self, kept: Kept, more: int) -> None:
        """Count open alerts of a verdict, in the group and in the plant."""
        if "folded" in (kept.alert.model_extra or {}):
            return
        for name in (kept.alert.group, _flood_name(kept.alert.plant)):
            counts = self.held.group(name).counts
            count = counts.get(kept.finding.verdict, 0) + more
            counts[kept.finding.verdict] = count
            if count <= 0:
                del counts[kept.finding.verdict]


_DECIDED: Final[dict[str, Callable[[Desk, Kept, Decision], None]]] = {
    "acknowledge": Desk._acknowledge,
    "comment": Desk._comment,
    "suppress": Desk._suppress,
    "unsuppress": Desk._unsuppress,
    "shelve": Desk._shelve,
    "unshelve": Desk._unshelve,
    "resolve": Desk._resolve,
    "reopen": Desk._reopen,
}


def _flood_name(plant: str) -> str:
    return f"{plant}/*"


def _wait(group: Group, one: str) -> None:
    if one in group.waiting:
        return
    if len(group.waiting) < WAITING_MAX:
        group.waiting.append(one)
    else:
        group.waiting_more += 1


def _state(kept: Kept) -> AlertState:
    alert = kept.alert
    if alert.state == "resolved":
        return "resolved"
    if alert.suppressed_by is not None:
        return "suppressed"
    return "new" if alert.owner is None else "in-progress"


def _inhibits(kept: Kept) -> bool:
    """Whether it makes others needless: a person sees it, and what it says goes on."""
    return kept.finding.verdict in INHIBITS and kept.open and not kept.over and not kept.quiet


def _by(what: str, decision: Decision) -> str:
    ticket = f" ({decision.ticket})" if decision.ticket else ""
    return f"{what} by {decision.person}: {' '.join(decision.reason.split())}{ticket}"


def _hid(kept: Kept) -> str:
    return "" if kept.worst_hidden is None else f"; {kept.alert.hidden} were hidden, the worst {kept.worst_hidden}"


def _tell(told: Told, finding: Finding) -> None:
    """What a person knows once they are told of the finding."""
    told.severity = worst(told.severity, finding.severity)
    told.ratio = max(told.ratio, finding.ratio or 1.0)
    told.classes = sorted({*told.classes, *finding.observed.classes})
    told.resumed = finding.resumed or told.resumed


def _news(kept: Kept, finding: Finding) -> str:
    """Why a person should be told again; nothing if it merely goes on."""
    told, before = kept.told, kept.finding
    if rank(finding.severity) > rank(told.severity):
        return f"{finding.severity}, was {told.severity}: {because(finding)}"
    joined = [name for name in finding.observed.classes if name not in told.classes and _higher(name, finding, told)]
    if joined:
        return f"data of {', '.join(joined[:CLASSES_NAMED])} joined"
    if finding.ratio is not None and finding.ratio >= RATIO_NEWS * told.ratio:
        return f"{finding.ratio:.1f} times the limit, was {told.ratio:.1f}"
    if finding.resumed is not None and finding.resumed != told.resumed:
        return f"goes on since {finding.resumed} after more than 24 hours of quiet"
    gap_s = (time_ns(finding.last_seen) - time_ns(before.last_seen)) / 10**9
    # Of a detector that does not say so itself: nothing lies between the two words if there is but one window more, or it began anew.
    if finding.resumed is None and gap_s >= QUIET_S and (finding.windows <= before.windows or finding.windows == before.windows + 1):
        return f"goes on after {gap_s / 3_600:.0f} hours of quiet"
    return ""


def _higher(name: str, finding: Finding, told: Told) -> bool:
    """Whether a class is above those that were told; one of which nobody knows how high it is may be."""
    severities = finding.class_severities
    if name not in severities:
        return True
    return all(one not in severities or rank(severities[name]) > rank(severities[one]) for one in told.classes)


def _with(before: Finding, said: Finding) -> Finding:
    """The latest word; one that comes late adds only what is worse."""
    if time_ns(said.last_seen) >= time_ns(before.last_seen):
        severity: Severity = worst(before.severity, said.severity)
        return said if severity == said.severity else said.model_copy(update={"severity": severity})
    return _together(before, said).model_copy(update={"event_id": before.event_id})


def _together(front: Finding, other: Finding) -> Finding:
    """The worse of two findings, with the classes and the ratio of both."""
    worse, milder = (other, front) if rank(other.severity) > rank(front.severity) else (front, other)
    classes = sorted({*front.observed.classes, *other.observed.classes})
    resumed = max(filter(None, (front.resumed, other.resumed)), key=time_ns, default=None)
    return worse.model_copy(
        update={
            "observed": worse.observed.model_copy(update={"classes": classes}),
            "class_severities": {**milder.class_severities, **worse.class_severities},
            "ratio": max(filter(None, (front.ratio, other.ratio)), default=None),
            "resumed": resumed,
            "first_seen": min(front.first_seen, other.first_seen, key=time_ns),
            "last_seen": max(front.last_seen, other.last_seen, key=time_ns),
            "event_id": other.event_id,
        }
    )
