"""Open Cybersecurity Schema Framework 1.6.0: Detection Finding (2004), and Data Security Finding (2006) for who keeps those apart.

An alert is one finding of OCSF under one ``finding_info.uid``: Create when a destination first hears of it, Update while it goes on,
Close when it is resolved. Profile ``incident`` says what a person found out (``verdict_id`` from the disposition). Instants are
milliseconds since 1970 (``timestamp_t``).
"""

from typing import Any, Final

from alerts.formats.view import PRODUCT, VENDOR, Origin, Side, View, milliseconds, severity_number, view
from alerts.techniques import Technique
from hopwatch.events import Alert, Severity

VERSION: Final = "1.6.0"
RELATED_MAX: Final = 64
"""Flow records that a finding names."""

_SEVERITIES: Final[dict[Severity, str]] = {
    "info": "Informational", "low": "Low", "medium": "Medium", "high": "High", "critical": "Critical",
}  # fmt: skip
_STATUSES: Final = {
    "new": (1, "New"), "in-progress": (2, "In Progress"), "suppressed": (3, "Suppressed"), "resolved": (4, "Resolved"),
}  # fmt: skip
_DISPOSITIONS: Final = {
    "false-positive": (1, "False Positive"), "true-positive": (2, "True Positive"), "benign-trigger": (5, "Benign"), "test": (6, "Test"),
    "duplicate": (10, "Duplicate"),
}  # fmt: skip
_ACTIVITIES: Final = {1: "Create", 2: "Update", 3: "Close"}
# What is a person's account and what a service's is known to the declaration, not to the alert.
_USER_TYPE: Final = 0
_STATISTICS: Final = frozenset({"volume", "slow", "beacon"})

Json = dict[str, Any]  # Any: JSON values


def detection_finding(alert: Alert, origin: Origin | None = None) -> Json:
    """The alert as a Detection Finding (class 2004)."""
    seen = view(alert, origin)
    evidence = _ends(seen) | _actor(seen) | {"name": seen.verdict, "data": _data(seen)}
    said = _finding(seen, 2004, "Detection Finding") | {"evidences": [evidence]}
    if seen.page:
        said["remediation"] = {"desc": f"What to do about {seen.verdict}: {seen.page}", "references": [seen.page]}
    return said


def data_security_finding(alert: Alert, origin: Origin | None = None) -> Json:
    """The alert as a Data Security Finding (class 2006): what data, on its way from where to where, against which policy."""
    seen = view(alert, origin)
    security: Json = {
        "data_lifecycle_state_id": 2,
        "data_lifecycle_state": "Data in-Transit",
        "detection_system_id": 99,
        "detection_system": "hopwatch",
        "detection_pattern": seen.verdict,
    }
    if seen.classes:
        security |= {"category_id": 99, "category": ", ".join(seen.classes)}
    if seen.bytes > 0:
        security["size"] = seen.bytes
    if seen.hop:
        security["policy"] = {"name": seen.hop, "type": "declared hop"} | ({"version": seen.declaration} if seen.declaration else {})
    said = _finding(seen, 2006, "Data Security Finding") | _ends(seen) | _actor(seen) | {"data_security": security}
    return said | {"unmapped": _data(seen)}


def _finding(seen: View, class_uid: int, class_name: str) -> Json:
    """What both classes say alike."""
    activity = 3 if seen.closed else 1 if seen.first_told else 2
    status_id, status = _STATUSES[seen.state]
    said: Json = {
        "activity_id": activity,
        "activity_name": _ACTIVITIES[activity],
        "category_uid": 2,
        "category_name": "Findings",
        "class_uid": class_uid,
        "class_name": class_name,
        "type_uid": class_uid * 100 + activity,
        "type_name": f"{class_name}: {_ACTIVITIES[activity]}",
        "time": milliseconds(seen.time_ns),
        "start_time": milliseconds(seen.first_ns),
        "end_time": milliseconds(seen.last_ns),
        "timezone_offset": 0,
        "count": seen.windows,
        "severity_id": severity_number(seen.severity),
        "severity": _SEVERITIES[seen.severity],
        "status_id": status_id,
        "status": status,
        "status_detail": seen.why or seen.change,
        "status_code": seen.change,
        # What a person need not look at is a finding all the same, and no alert.
        "is_alert": seen.notify and not seen.canary,
        "message": seen.message,
        "metadata": {
            "version": VERSION,
            "profiles": ["incident"],
            "uid": seen.event_id,
            "sequence": seen.revision,
            "correlation_uid": seen.group or seen.alert_id,
            "event_code": seen.verdict,
            "log_name": "alerts",
            "log_provider": seen.origin.host,
            "tenant_uid": seen.plant,
            "product": {"name": PRODUCT, "vendor_name": VENDOR, "version": seen.origin.version},
            "labels": [f"plant:{seen.plant}", *(["canary"] if seen.canary else [])],
        },
        "finding_info": _info(seen),
        "observables": _observables(seen),
        "resources": [
            {"name": name, "type": "data object"} | ({"labels": list(seen.classes)} if seen.classes else {}) for name in seen.objects
        ],
        "priority_id": max(1, severity_number(seen.severity) - 1),
    }
    if seen.disposition:
        said["verdict_id"], said["verdict"] = _DISPOSITIONS[seen.disposition]
    if seen.owner:
        said["assignee"] = {"name": seen.owner}
    if seen.url:
        said["src_url"] = seen.url
    if seen.because:
        said["risk_details"] = seen.because
    return said


def _info(seen: View) -> Json:
    statistical = seen.verdict in _STATISTICS
    info: Json = {
        "uid": seen.alert_id,
        "uid_alt": seen.finding_id,
        "title": seen.title,
        "desc": seen.message,
        "types": [seen.verdict],
        "analytic": {
            "name": seen.verdict,
            "uid": seen.verdict,
            "type_id": 3 if statistical else 1,
            "type": "Statistical" if statistical else "Rule",
            "desc": f"against {seen.declaration}" if seen.declaration else "against no declaration",
        },
        "created_time": milliseconds(seen.raised_ns),
        "modified_time": milliseconds(seen.time_ns),
        "first_seen_time": milliseconds(seen.first_ns),
        "last_seen_time": milliseconds(seen.last_ns),
        "attacks": [_attack(one) for one in seen.techniques],
        "related_events": [{"uid": uid, "type": "flow"} for uid in seen.evidence[:RELATED_MAX]],
    }
    return info | ({"src_url": seen.url} if seen.url else {})


def _attack(one: Technique) -> Json:
    """A sub-technique stands beside the technique it is of."""
    said = {"uid": one.id, "name": one.name, "src_url": one.url}
    place: Json = {"version": one.version, "tactic": {"name": one.tactic}}
    if one.parent == one.id:
        return place | {"technique": said}
    return place | {"technique": {"uid": one.parent}, "sub_technique": said}


def _ends(seen: View) -> Json:
    return {"src_endpoint": _endpoint(seen.source), "dst_endpoint": _endpoint(seen.destination)}


def _endpoint(side: Side) -> Json:
    return {"name": side.name or "-"} | ({"ip": str(side.address)} if side.address is not None else {})


def _actor(seen: View) -> Json:
    return {"actor": {"user": {"name": seen.who, "type_id": _USER_TYPE}}} if seen.who else {}


def _observables(seen: View) -> list[Json]:
    """What a SIEM joins on: addresses, names of ends and the account (observable type ids 2, 1 and 4)."""
    found: list[Json] = []
    for place, side in (("src_endpoint", seen.source), ("dst_endpoint", seen.destination)):
        if side.address is not None:
            found.append({"name": f"{place}.ip", "type_id": 2, "type": "IP Address", "value": str(side.address)})
        if side.host:
            found.append({"name": f"{place}.name", "type_id": 1, "type": "Hostname", "value": side.host})
    if seen.who:
        found.append({"name": "actor.user.name", "type_id": 4, "type": "User Name", "value": seen.who})
    return found


def _data(seen: View) -> Json:
    """What OCSF has no place for."""
    said: Json = {
        "client": "" if seen.client is None else seen.client.name,
        "rows": seen.rows,
        "values": seen.values,
        "messages": seen.messages,
        "bytes": seen.bytes,
        "classes": list(seen.classes),
        "nearest_hop": seen.hop,
        "differences": [
            {"question": question, "declared": declared, "observed": observed} for question, declared, observed in seen.differences
        ],
        "declaration": seen.declaration,
        "commit": seen.commit,
        "signed": seen.signed,
        "completeness": seen.completeness,
        "hidden": seen.hidden,
        "canary": seen.canary,
    }
    return {name: value for name, value in said.items() if value not in ("", [])}
