"""Elastic Common Schema 9.4.0: one document an alert, for any index that follows the schema (Elasticsearch, OpenSearch).

What the schema has no field for stands under ``hopwatch``, the product's own name, as the schema asks of custom fields.
"""

from typing import Any, Final

from alerts.formats.view import PRODUCT, VENDOR, Origin, Side, View, instant, severity_number, view
from hopwatch.events import Alert

VERSION: Final = "9.4.0"

Json = dict[str, Any]  # Any: JSON values


def document(alert: Alert, origin: Origin | None = None) -> Json:
    """One document."""
    seen = view(alert, origin)
    said: Json = {
        "@timestamp": _time(seen.time_ns),
        "ecs": {"version": VERSION},
        "message": seen.message,
        "tags": ["hopwatch", *(["canary"] if seen.canary else [])],
        "labels": {"plant": seen.plant, "verdict": seen.verdict},
        "event": _event(seen),
        "rule": {
            "id": seen.verdict,
            "name": seen.verdict,
            "category": "data movement",
            "ruleset": seen.declaration,
            "version": seen.commit,
            "reference": seen.page,
        },
        "source": _side(seen.source),
        "destination": _side(seen.destination),
        "client": {} if seen.client is None else _side(seen.client),
        "user": {"name": seen.who},
        "related": {
            "ip": sorted({str(side.address) for side in _sides(seen) if side.address is not None}),
            "hosts": sorted({side.host for side in _sides(seen) if side.host}),
            "user": [seen.who] if seen.who else [],
        },
        "network": {"bytes": seen.bytes} if seen.bytes >= 0 else {},
        "observer": {
            "vendor": VENDOR,
            "product": PRODUCT,
            "type": "sensor",
            "version": seen.origin.version,
            "hostname": "" if seen.origin.host == "-" else seen.origin.host,
        },
        "threat": _threat(seen),
        "hopwatch": _own(seen),
    }
    return {name: value for name, part in said.items() if (value := _told(part)) not in ({}, [], "")}


def _event(seen: View) -> Json:
    return {
        "kind": "alert",
        "category": ["intrusion_detection", "network"],
        "type": ["info"],
        "action": seen.change,
        "code": seen.verdict,
        "created": _time(seen.time_ns),
        "start": _time(seen.first_ns),
        "end": _time(seen.last_ns),
        "dataset": "hopwatch.alert",
        "module": "hopwatch",
        "provider": "hopwatch",
        "id": seen.event_id,
        "sequence": seen.revision,
        # The schema leaves the scale to the source: 1 informational to 5 critical.
        "severity": severity_number(seen.severity),
        "reason": seen.because,
        "url": seen.url,
        "reference": seen.page,
    }


def _threat(seen: View) -> Json:
    """Fields of one technique are lists, a member for each."""
    if not seen.techniques:
        return {}
    whole = [one for one in seen.techniques if one.parent == one.id]
    parts = [one for one in seen.techniques if one.parent != one.id]
    technique: Json = {
        "id": [one.id for one in whole],
        "name": [one.name for one in whole],
        "reference": [one.url for one in whole],
        "subtechnique": {
            "id": [one.id for one in parts],
            "name": [one.name for one in parts],
            "reference": [one.url for one in parts],
        },
    }
    return {"framework": "MITRE ATT&CK", "technique": technique, "tactic": {"name": sorted({one.tactic for one in seen.techniques})}}


def _own(seen: View) -> Json:
    return {
        "alert": {
            "id": seen.alert_id,
            "revision": seen.revision,
            "state": seen.state,
            "disposition": seen.disposition,
            "severity": seen.severity,
            "raised": _time(seen.raised_ns),
            "owner": seen.owner,
            "group": seen.group,
            "hidden": seen.hidden,
            "canary": seen.canary,
            "why": seen.why,
        },
        "finding": {
            "id": seen.finding_id,
            **seen.moved,
            "nearest_hop": seen.hop,
            "differences": seen.differing,
            "completeness": seen.completeness,
            "signed": seen.signed,
        },
    }


def _sides(seen: View) -> list[Side]:
    return [seen.source, seen.destination, *([] if seen.client is None else [seen.client])]


def _side(side: Side) -> Json:
    """``address`` is whatever is known (the schema asks for it where a value may be a name or an address), ``ip`` only an address."""
    return {"address": side.name} | ({} if side.address is None else {"ip": str(side.address)})


def _told(part: Any) -> Any:  # Any: JSON values
    """Without fields that say nothing."""
    if not isinstance(part, dict):
        return part
    inner = {name: _told(value) for name, value in part.items()}
    return {name: value for name, value in inner.items() if value not in ("", {}, [])}


def _time(instant_ns: int) -> str:
    """With nine digits of a second, as a ``date_nanos`` may have; a ``date`` reads them too."""
    return instant(instant_ns, 9)
