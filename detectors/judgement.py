"""The table of verdicts, and what is said about one window.

The order of ``TABLE`` is the rule: a window gets the first verdict that applies, top to bottom.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, get_args

from msgspec import Struct

from hopwatch.declared.match import End
from hopwatch.declared.model import SENSITIVITY_SEVERITY, Architecture
from hopwatch.declared.quantity import Limit
from hopwatch.events import QUESTIONS, RATIO_MAX, SEVERITIES, Answer, Difference, Finding, Flow, Severity

if TYPE_CHECKING:
    from detectors.course import Course

Verdict = Literal[
    "decoy",
    "service",
    "undeclared-destination",
    "undeclared-hop",
    "undeclared-account",
    "undeclared-data",
    "unapproved-operation",
    "over-limit",
    "outside-window",
    "under-protected",
    "expired",
    "blind",
    "declared-in-part",
    "declared",
]

TABLE: Final[tuple[Verdict, ...]] = get_args(Verdict)
_SEVERITY_ORDER: Final = {severity: place for place, severity in enumerate(SEVERITIES)}
ROW: Final = {verdict: row for row, verdict in enumerate(TABLE)}

QUIET: Final[frozenset[Verdict]] = frozenset({"service", "declared-in-part", "declared"})
"""Verdicts that are counted and raise no finding."""

# When several things are known about one question, the weakest answer is the honest one.
_ANSWER_ORDER: Final[dict[Answer, int]] = {"checked": 0, "assumed": 1, "unknown": 2}


class Differing(Struct, frozen=True, gc=False):
    """One thing that differs: the row it puts the window in, and how bad it is."""

    verdict: Verdict
    severity: Severity
    question: str
    declared: str
    observed: str
    ratio: float | None = None

    @property
    def said(self) -> Difference:
        """As a finding shows it."""
        return Difference(question=self.question, declared=self.declared, observed=self.observed)


@dataclass(slots=True)
class Opinion:
    """What one hop, or no hop, says of one object set or window."""

    hop: str | None
    checked: dict[str, Answer] = field(default_factory=lambda: dict.fromkeys(QUESTIONS, "checked"))
    differing: list[Differing] = field(default_factory=list)
    classes: set[str] = field(default_factory=set)

    def copy(self) -> "Opinion":
        """The same, to be added to."""
        return Opinion(self.hop, dict(self.checked), list(self.differing), set(self.classes))

    def answer(self, question: str, answer: Answer) -> None:
        """Lower what is known about a question; it never rises again."""
        if _ANSWER_ORDER[answer] > _ANSWER_ORDER[self.checked[question]]:
            self.checked[question] = answer

    def differ(self, verdict: Verdict, severity: Severity, question: str, declared: str, observed: str, ratio: float | None = None) -> None:
        """Note one difference, once; ``ratio`` is that of an amount to its limit."""
        one = Differing(verdict, severity, question, declared, observed, None if ratio is None else min(ratio, RATIO_MAX))
        if one not in self.differing:
            self.differing.append(one)

    @property
    def verdict(self) -> Verdict:
        """The first row that applies."""
        if self.differing:
            return min((one.verdict for one in self.differing), key=ROW.__getitem__)
        answers = self.checked.values()
        return "blind" if "unknown" in answers else "declared-in-part" if "assumed" in answers else "declared"

    @property
    def ratio(self) -> float | None:
        """The largest of the differences; None if none of them is about an amount."""
        return max((one.ratio for one in self.differing if one.ratio is not None), default=None)

    @property
    def severity(self) -> Severity | None:
        """The highest among the differences; low for a blind window, None where nothing is wrong."""
        if self.differing:
            return highest(one.severity for one in self.differing)
        return "low" if self.verdict == "blind" else None


class Outcome(Struct, frozen=True, gc=False):
    """What is said of a window, and of every window like it."""

    verdict: Verdict
    severity: Severity | None
    hop: str | None
    nearest_hop: str | None
    checked: dict[str, Answer]
    differences: tuple[Difference, ...]
    classes: tuple[str, ...]
    service: str | None
    who: str | None
    client: str
    source: End
    destination: End
    declaration: dict[str, Any]  # Any: JSON values
    """The edition it was judged against."""
    highest: str | None = None
    """The highest of the classes."""

    ratio: float | None = None
    """The largest among the differences."""

    @property
    def places(self) -> tuple[str | None, str | None, str | None, str | None]:
        """Zone and name of both ends. What is as it should be is said of anyone in a zone: only an asset is named there."""
        source, destination = self.source, self.destination
        if self.verdict in QUIET:
            return source.zone, source.asset or source.host, destination.zone, destination.asset or destination.host
        return source.zone, source.shown, destination.zone, destination.shown

    @property
    def event(self) -> dict[str, Any]:  # Any: JSON values
        """What of it is shown and stored beside each window."""
        return {
            "verdict": self.verdict,
            "severity": self.severity,
            "hop": self.hop,
            "service": self.service,
            "checked": dict(self.checked),
            "differences": [one.model_dump() for one in self.differences],
            "classes": list(self.classes),
            "declaration": dict(self.declaration),
        }


class Spent(NamedTuple):
    """A limit that the window was charged to, and what it has counted now.

    ``key`` begins with what it is a limit of: ``hop:``, ``budget:``, ``account:``, ``session:``, or what a ticket or the judge itself
    allows. ``name`` says it to a person, except of a hop's own limit.
    """

    key: str
    limit: Limit
    name: str
    used: int


class Judgement(Struct, gc=False):
    """The one verdict of one window."""

    flow: Flow
    outcome: Outcome
    finding: Finding | None = None
    notices: tuple[Finding, ...] = ()
    """What this window brought to light that is not about the window: a failover, an overdue review."""

    new: dict[str, int] = {}
    """What no other view of the connection has counted of it: rows, values, messages, bytes, and ``back``, the bytes the other way.

    So much was charged. ``net`` is what it adds to the sum of all views."""

    up: bool = False
    """The data runs from the client to the server."""

    complete: bool = True
    """Nothing of it was lost."""

    spent: tuple[Spent, ...] = ()
    """The limits it was charged to."""

    start_ns: int = 0
    """When it began, by a clock put right."""

    righted_ns: int = 0
    """By how much that is later than the window says."""

    kept: bool = False
    """The very same outcome is given to windows like this one."""

    net: dict[str, int] = {}
    """As ``new``, for sums: less than nothing where it shows that an estimate had said too much."""

    course: "Course | None" = None
    """What is known of the windows of its flow that are like it."""

    @property
    def verdict(self) -> Verdict:
        """The first row of the table that applies."""
        return self.outcome.verdict

    @property
    def severity(self) -> Severity | None:
        """The highest among the differences; None where nothing is wrong."""
        return self.outcome.severity

    @property
    def hop(self) -> str | None:
        """The joined hop that it is judged by."""
        return self.outcome.hop

    @property
    def checked(self) -> dict[str, Answer]:
        """How sure each answer is."""
        return self.outcome.checked

    @property
    def differences(self) -> tuple[Difference, ...]:
        """Everything that differs, the worst first."""
        return self.outcome.differences

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of what moved."""
        return self.outcome.classes

    @property
    def service(self) -> str | None:
        """The infrastructure it belongs to."""
        return self.outcome.service

    @property
    def event(self) -> dict[str, Any]:  # Any: JSON values
        """The judgement as JSON, for whoever shows or stores it beside its flow."""
        return self.outcome.event | {"finding_id": None if self.finding is None else self.finding.finding_id}


def highest(severities: Iterable[Severity]) -> Severity:
    """The worst of them; ``info`` of none."""
    return max(severities, key=_SEVERITY_ORDER.__getitem__, default="info")


def raised(severity: Severity, ratio: float) -> Severity:
    """One step up from twice the limit, two from ten times."""
    steps = 2 if ratio >= 10 else 1 if ratio >= 2 else 0
    return SEVERITIES[min(SEVERITIES.index(severity) + steps, len(SEVERITIES) - 1)]


def class_severity(architecture: Architecture, classes: Iterable[str], *, unclassified: bool = False, leaves: bool = False) -> Severity:
    """How bad data of these classes is; unclassified counts as the highest class, and what may never leave is critical off site.

    Monotone: a class more, or unclassified data more, never lowers it.
    """
    known = [architecture.classes[name] for name in classes if name in architecture.classes]
    if leaves and any(known_class.off_site == "never" for known_class in known):
        return "critical"
    counted = architecture.classes.values() if unclassified else known
    return highest([SENSITIVITY_SEVERITY[one.sensitivity] for one in counted] or ["low"])


def severities_of(architecture: Architecture) -> dict[str, Severity]:
    """How bad data of each class is, as a finding quotes it."""
    return {name: SENSITIVITY_SEVERITY[one.sensitivity] for name, one in architecture.classes.items()}


RESUMED_NS: Final = 86_400 * 10**9
"""Quiet after which it is news that a finding goes on."""
