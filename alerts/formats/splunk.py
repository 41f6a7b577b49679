"""Events for Splunk's HTTP Event Collector, /services/collector/event: one object an alert, several simply follow each other.

``fields`` are indexed as they are; the rest of the alert is the event. ``time`` is in seconds since 1970, with a fraction.
"""

from typing import Any, Final

from alerts.formats.view import Origin, view
from hopwatch.events import Alert

SOURCE_TYPE: Final = "hopwatch:alert"


def event(alert: Alert, origin: Origin | None = None) -> dict[str, Any]:  # Any: JSON values
    """One object of the collector's request; the index is what the token says."""
    seen = view(alert, origin)
    body: dict[str, Any] = {
        "alert_id": seen.alert_id,
        "finding_id": seen.finding_id,
        "event_id": seen.event_id,
        "revision": seen.revision,
        "change": seen.change,
        "why": seen.why,
        "state": seen.state,
        "disposition": seen.disposition,
        "severity": seen.severity,
        "severity_because": seen.because,
        "verdict": seen.verdict,
        "plant": seen.plant,
        "message": seen.message,
        "user": seen.who,
        "client": "" if seen.client is None else seen.client.name,
        "src": str(seen.source.address or seen.source.name),
        "src_name": seen.source.name,
        "dest": str(seen.destination.address or seen.destination.name),
        "dest_name": seen.destination.name,
        **seen.moved,
        "nearest_hop": seen.hop,
        "differences": seen.differing,
        "mitre_technique_id": list(seen.technique_ids),
        "first_seen": alert.finding.first_seen,
        "last_seen": alert.finding.last_seen,
        "raised": alert.raised,
        "owner": seen.owner,
        "page": seen.page,
        "url": seen.url,
        "canary": seen.canary,
    }
    return {
        "time": round(seen.time_ns / 1e9, 6),
        "host": seen.origin.host,
        "source": "hopwatch",
        "sourcetype": SOURCE_TYPE,
        "event": {name: value for name, value in body.items() if value not in ("", [])},
        "fields": {"plant": seen.plant, "verdict": seen.verdict, "severity": seen.severity, "alert_id": seen.alert_id},
    }
