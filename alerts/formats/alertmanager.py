"""Alerts of Prometheus Alertmanager's API v2 (``POST /api/v2/alerts`` takes a list of them).

Alertmanager knows an alert by its labels and lets it fire until ``endsAt``. What may change while it is open is therefore an
annotation, except the severity, which routes need: when it has risen, the alert under the labels of before is ended in the same list.
No label names an account, an end or an object, so that labels stay few; annotations do.
"""

from typing import Any, Final

from alerts.formats.view import Origin, View, view
from hopwatch.events import SEVERITIES, Alert, Severity, time_text

FIRING_S: Final = 86_400
"""How long an open alert goes on firing without word from hopwatch: what goes on is said again within a day, or begins anew."""

# A resolved alert that Alertmanager never heard of is taken and forgotten, and notifies nobody.
_RISES: Final = ("updated", "raised-again", "released", "returned")


def alerts(alert: Alert, origin: Origin | None = None, *, firing_s: int = FIRING_S) -> list[dict[str, Any]]:  # Any: JSON values
    """The alert, firing or ended, after those that it stands for now."""
    seen = view(alert, origin)
    quiet = alert.shelved_until or alert.suppressed_by or alert.inhibited_by or seen.severity == "info"
    firing = seen.state in ("new", "in-progress") and not quiet
    ends_ns = seen.time_ns + firing_s * 10**9 if firing else seen.time_ns
    before = SEVERITIES[: SEVERITIES.index(seen.severity)] if seen.revision and seen.change in _RISES else ()
    said = [{"labels": _labels(seen, severity), **_instants(seen, seen.time_ns)} for severity in before]
    now: dict[str, Any] = {"labels": _labels(seen, seen.severity), **_instants(seen, ends_ns), "annotations": _annotations(seen)}
    if seen.url:
        now["generatorURL"] = seen.url
    return [*said, now]


def _labels(seen: View, severity: Severity) -> dict[str, str]:
    labels = {"alertname": "hopwatch", "verdict": seen.verdict, "plant": seen.plant, "alert_id": seen.alert_id, "severity": severity}
    return labels | ({"canary": "true"} if seen.canary else {})


def _instants(seen: View, ends_ns: int) -> dict[str, str]:
    """``startsAt`` may not be after ``endsAt``."""
    return {"startsAt": time_text(min(seen.raised_ns, ends_ns)), "endsAt": time_text(ends_ns)}


def _annotations(seen: View) -> dict[str, str]:
    said = {
        "summary": seen.title,
        "description": seen.message,
        "account": seen.who,
        "source": seen.source.name,
        "destination": seen.destination.name,
        "severity_because": seen.because,
        "state": seen.state,
        "techniques": ", ".join(seen.technique_ids),
        "finding": seen.finding_id,
        "runbook_url": seen.page,
    }
    return {name: value for name, value in said.items() if value}
