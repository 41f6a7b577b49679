"""Findings and decisions for the tests of alerts, and a time to count from."""

from hashlib import blake2b
from typing import Any

from hopwatch.events import Decision, Finding, time_ns, time_text

NOW = "2026-04-07T10:42:10Z"
NOW_NS = time_ns(NOW)
SECOND, MINUTE, HOUR, DAY = 10**9, 60 * 10**9, 3_600 * 10**9, 86_400 * 10**9


def at(after_ns: int) -> str:
    """So long after NOW."""
    return time_text(NOW_NS + after_ns)


def finding(
    number: int = 1,
    verdict: str = "over-limit",
    *,
    word: int = 0,
    severity: str = "medium",
    who: str | None = "svc_report",
    classes: tuple[str, ...] = (),
    seen: int = 0,
    **more: Any,
) -> Finding:
    """The ``word``-th word of finding ``number``, last seen so many nanoseconds after NOW."""
    identity = f"F-{number:016x}"
    severities = {"internal": "low", "quality": "medium", "process_ip": "high"}
    said = {
        "event_id": blake2b(f"{identity}/{word}/{seen}".encode(), digest_size=16).hexdigest(),
        "finding_id": identity,
        "verdict": verdict,
        "severity": severity,
        "plant": "north",
        "first_seen": NOW,
        "last_seen": at(seen),
        "windows": 1 + word,
        "who": who,
        "source": "mes-db",
        "destination": f"10.40.9.{number % 250}",
        "observed": {"rows": 10, "classes": list(classes)},
        "class_severities": {name: severities[name] for name in classes if name in severities},
        "differences": [{"question": "how_much", "declared": "100 rows / 1h", "observed": "600 rows, 6.0 x"}],
    }
    return Finding.model_validate(said | more)


def decision(action: str, alert_id: str | None = None, after_ns: int = 0, **more: Any) -> Decision:
    """A person's decision so long after NOW."""
    said = {
        "event_id": blake2b(f"{action}/{alert_id}/{after_ns}/{more}".encode(), digest_size=16).hexdigest(),
        "plant": "north",
        "time": at(after_ns),
        "person": "analyst-7",
        "action": action,
        "reason": "load test of the historian",
        "alert_id": alert_id,
    }
    return Decision.model_validate(said | more)
