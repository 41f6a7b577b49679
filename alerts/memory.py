"""What the desk remembers: alerts, the groups that notifications are gathered in, suppressions, and what was folded.

``Held`` has all of it in dictionaries: enough for a test, and the working set of a book, which fills it from its tables before a
batch and writes back what was touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from hopwatch.events import Alert, Decision, Finding, Severity, time_ns


@dataclass(slots=True)
class Told:
    """What a person was told of a finding last: only more than this is news."""

    severity: Severity = "info"
    ratio: float = 1.0
    classes: list[str] = field(default_factory=list)
    resumed: str | None = None


@dataclass(slots=True)
class Kept:
    """One alert: its last revision, and what the desk must know besides to make the next."""

    alert: Alert
    told: Told = field(default_factory=Told)
    pending: Finding | None = None
    """The latest word of the finding, where no revision says it yet."""

    said_ns: int = 0
    """When the last revision was made."""

    suppressed_until: str | None = None
    waiting: bool = False
    """Its notification waits in its group."""

    over: bool = False
    """What it says has ended: an agent that is heard again inhibits nothing."""

    acknowledged: str | None = None
    resolved: str | None = None
    judged: str | None = None
    """The disposition given last, also of an alert that was raised again since."""

    worst_hidden: Severity | None = None

    @property
    def finding(self) -> Finding:
        """The latest word of the finding."""
        return self.pending or self.alert.finding

    @property
    def open(self) -> bool:
        """Whether it awaits anything of a person."""
        return self.alert.state != "resolved"

    @property
    def quiet(self) -> bool:
        """Whether a person is told nothing of it now."""
        alert = self.alert
        return alert.suppressed_by is not None or alert.shelved_until is not None or alert.inhibited_by is not None

    def state(self) -> dict[str, Any]:  # Any: JSON values
        """Everything but the revision, as JSON values."""
        return {
            "told": asdict(self.told),
            "pending": None if self.pending is None else self.pending.model_dump(),
            "said_ns": self.said_ns,
            "suppressed_until": self.suppressed_until,
            "waiting": self.waiting,
            "over": self.over,
            "acknowledged": self.acknowledged,
            "resolved": self.resolved,
            "judged": self.judged,
            "worst_hidden": self.worst_hidden,
        }

    @classmethod
    def restored(cls, alert: Alert, state: dict[str, Any]) -> Kept:  # Any: JSON values
        """The same again."""
        more = dict(state)
        told, pending = Told(**more.pop("told")), more.pop("pending")
        return cls(alert, told, None if pending is None else Finding.model_validate(pending), **more)


@dataclass(slots=True)
class Group:
    """Alerts that are told of together; ``name`` is ``plant/account``, or ``plant/*`` for a flood of a whole plant."""

    name: str
    due_ns: int = 0
    """When what waits is told; 0 while nothing was told lately."""

    first: bool = False
    """The minute after the first notification is not over: nothing is told in it."""

    severity: Severity = "info"
    """The worst that was told since the group was quiet."""

    waiting: list[str] = field(default_factory=list)
    """Alerts whose notification waits."""

    waiting_more: int = 0
    """How many more wait than ``waiting`` names."""

    counts: dict[str, int] = field(default_factory=dict)
    """Open alerts by verdict."""

    told: list[int] = field(default_factory=list)
    """When a plant's last notifications were told."""

    def state(self) -> dict[str, Any]:  # Any: JSON values
        """As JSON values."""
        return asdict(self)


@dataclass(slots=True)
class Rule:
    """A suppression by scope: whose fields are those of ``decision.scope`` is not told of until it ends."""

    decision: Decision
    hidden: int = 0
    ended: str | None = None

    @property
    def id(self) -> str:
        """What ``suppressed_by`` of an alert names."""
        return self.decision.event_id

    def holds(self, now_ns: int) -> bool:
        """Whether it is in force."""
        until = self.decision.until
        return self.ended is None and until is not None and now_ns < time_ns(until)

    def covers(self, finding: Finding) -> bool:
        """Whether the finding is of its plant, and has every field that it names."""
        return finding.plant == self.decision.plant and in_scope(self.decision.scope, finding)


SCOPE = ("verdict", "who", "source", "destination", "hop", "client")
"""Fields a scope may name."""


def in_scope(scope: dict[str, str], finding: Finding) -> bool:
    """Whether every field that the scope names is the finding's."""
    return all(_value(finding, name) == value for name, value in scope.items())


def _value(finding: Finding, name: str) -> str | None:
    # ``hop`` is the joined hop where one joined, else the nearest: what a person sees as the hop of the finding.
    value = (finding.model_extra or {}).get("hop") or finding.nearest_hop if name == "hop" else getattr(finding, name)
    return None if value is None else str(value)


INHIBITS = {"undeclared-account": "account", "agent-silent": "agent"}
"""Verdicts that make others needless while they are open, and what they concern."""

INHIBITED = {"over-limit": "account", "unseen": "agent", "drifting": "agent"}


def place_of(finding: Finding, table: dict[str, str]) -> str | None:
    """What the finding concerns, as far as inhibition goes: an account of the plant, or what an agent of it watches."""
    kind = table.get(finding.verdict)
    if kind == "account" and finding.who is not None:
        return f"account/{finding.plant}/{finding.who}"
    if kind == "agent":
        agent = finding.source if finding.verdict in INHIBITS else finding.agent
        return None if agent is None else f"agent/{finding.plant}/{agent}"
    return None


class Held:
    """Everything remembered, in dictionaries; what was changed is in ``touched``."""

    def __init__(self) -> None:
        self.alerts: dict[str, Kept] = {}
        self.groups: dict[str, Group] = {}
        self.rules: dict[str, Rule] = {}
        self.folded: dict[str, tuple[str, str]] = {}
        """By finding: the alert it is folded into, and the event of it that was taken in last."""

        self.touched_alerts: set[str] = set()
        self.touched_groups: set[str] = set()
        self.touched_rules: set[str] = set()
        self.touched_folded: set[str] = set()
        self._places: dict[str, set[str]] = {}

    def alert(self, alert_id: str) -> Kept | None:
        """The alert, if there is one."""
        return self.alerts.get(alert_id)

    def put(self, kept: Kept) -> None:
        """Remember an alert, new or changed."""
        self.hold(kept)
        self.touched_alerts.add(kept.alert.alert_id)

    def hold(self, kept: Kept) -> None:
        """Remember an alert as it is kept elsewhere."""
        finding = kept.alert.finding
        self.alerts[kept.alert.alert_id] = kept
        for place in (place_of(finding, INHIBITS), place_of(finding, INHIBITED)):
            if place is not None:
                self._places.setdefault(place, set()).add(kept.alert.alert_id)

    def group(self, name: str) -> Group:
        """The group, new if nothing is known of it; whoever asks changes it."""
        self.touched_groups.add(name)
        found = self.groups.get(name)
        if found is None:
            found = self.groups[name] = Group(name)
        return found

    def rules_of(self, plant: str) -> Iterable[Rule]:
        """Every rule of the plant that has not ended."""
        return [rule for rule in self.rules.values() if rule.decision.plant == plant and rule.ended is None]

    def put_rule(self, rule: Rule) -> None:
        """Remember a rule, new or changed."""
        self.rules[rule.id] = rule
        self.touched_rules.add(rule.id)

    def fold(self, finding_id: str) -> tuple[str, str] | None:
        """The alert that the finding is folded into, and the last event of it that was taken in."""
        return self.folded.get(finding_id)

    def put_fold(self, finding_id: str, alert_id: str, event_id: str) -> None:
        """The finding is folded into the alert."""
        self.folded[finding_id] = (alert_id, event_id)
        self.touched_folded.add(finding_id)

    def at(self, place: str) -> list[Kept]:
        """Alerts that concern the place, inhibiting or inhibited."""
        return [self.alerts[one] for one in sorted(self._places.get(place, ()))]

    def where(self, plant: str, scope: dict[str, str]) -> Iterator[Kept]:
        """Open alerts of the plant that the scope covers."""
        for kept in list(self.alerts.values()):
            if kept.open and kept.alert.plant == plant and in_scope(scope, kept.alert.finding):
                yield kept

    def suppressed_by(self, rule_id: str) -> Iterator[Kept]:
        """Alerts that a rule keeps quiet."""
        for kept in list(self.alerts.values()):
            if kept.alert.suppressed_by == rule_id:
                yield kept

    def due_alerts(self, now_ns: int) -> Iterator[Kept]:
        """Alerts with something that time decides, and which is due."""
        for kept in list(self.alerts.values()):
            due = due_ns(kept)
            if due is not None and due <= now_ns:
                yield kept

    def due_groups(self, now_ns: int) -> Iterator[Group]:
        """Groups whose time has come."""
        for group in list(self.groups.values()):
            if 0 < group.due_ns <= now_ns:
                yield group


UPDATE_S = 300
"""How often a finding that merely goes on makes a new revision of its alert."""


def due_ns(kept: Kept) -> int | None:
    """When time next decides something about the alert; None if never."""
    times = [time_ns(until) for until in (kept.alert.shelved_until, kept.suppressed_until) if until is not None]
    if kept.pending is not None:
        times.append(kept.said_ns + UPDATE_S * 10**9)
    return min(times, default=None)
