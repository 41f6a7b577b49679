"""Why an alert is as severe as it is: verdict, class of data and ratio, in the words a person reads.

The severity itself is the finding's: the detector that judged knows the declaration. Here it is taken apart again, from what the
finding carries, so that whoever reads the alert sees what it follows from; where the parts do not add up to it, the differences do, and
that is what is said. ``severity`` is the rule: it grows with each of the three and never falls (docs/verdicts.md).
"""

from __future__ import annotations

from typing import Final

from hopwatch.events import SEVERITIES, Finding, Severity

FIXED: Final[dict[str, Severity]] = {
    "decoy": "critical",
    "undeclared-destination": "critical",
    "undeclared-account": "high",
    "unapproved-operation": "high",
    "outside-window": "medium",
    "blind": "low",
}
"""Verdicts that are as severe whatever the data."""

CLASSED: Final = ("over-limit", "undeclared-data", "under-protected")
"""Verdicts whose severity is that of the data."""

STEPS: Final = ((10.0, 2), (2.0, 1))
"""From how many times the limit how many steps are added."""


def rank(severity: Severity) -> int:
    """Its place among the severities, the mildest first."""
    return SEVERITIES.index(severity)


def worst(*severities: Severity) -> Severity:
    """The most severe of them; ``info`` of none."""
    return max(severities, key=rank, default="info")


def steps(ratio: float | None) -> int:
    """How many steps a ratio adds."""
    return next((more for least, more in STEPS if ratio is not None and ratio >= least), 0)


def severity(base: Severity, classes: dict[str, Severity], ratio: float | None) -> Severity:
    """The base or the worst class, whichever is worse, raised by the ratio; monotone in all three."""
    whole = rank(worst(base, *classes.values()))
    return SEVERITIES[min(whole + steps(ratio), len(SEVERITIES) - 1)]


def because(finding: Finding) -> str:
    """One line: what the severity follows from."""
    parts: list[str] = []
    classes = dict(finding.class_severities)
    by_class = finding.verdict in CLASSED
    base = FIXED.get(finding.verdict)
    if base is not None:
        parts.append(f"{finding.verdict} is {base}")
    if by_class and classes:
        name = max(sorted(classes), key=lambda one: rank(classes[one]))
        parts.append(f"{name} is {classes[name]}")
    elif by_class and finding.observed.classes:
        parts.append(f"data of {', '.join(finding.observed.classes)}")
    more = steps(finding.ratio)
    if more:
        parts.append(f"{finding.ratio:.1f} times the limit is {'two steps' if more == 2 else 'one step'} worse")
    said = severity(base or "info", classes if by_class else {}, finding.ratio)
    if not parts or said != finding.severity:
        count = len(finding.differences)
        differences = "its difference" if count == 1 else f"the worst of its {count} differences"
        parts.append(f"{finding.severity} by {differences if count else finding.verdict}")
    return "; ".join(parts)
