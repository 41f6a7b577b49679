"""The canary: an alert that says of itself that it is none, sent to see whether and how fast alerts arrive."""

from __future__ import annotations

from hashlib import blake2b

from hopwatch.events import Alert, Finding, time_text

VERDICT = "canary"


def canary(destination: str, plant: str, time_ns: int) -> Alert:
    """The canary of a moment; no two have one id."""
    identity = blake2b(f"canary {destination} {plant} {time_ns}".encode(), digest_size=16).hexdigest()
    time = time_text(time_ns)
    return Alert(
        event_id=identity,
        alert_id=f"A-{identity}",
        plant=plant,
        time=time,
        change="raised",
        why=f"a canary to {destination}: this tests delivery, nothing is to be done",
        state="resolved",
        disposition="test",
        severity="info",
        severity_because="a canary is information",
        group=f"{plant}/canary",
        raised=time,
        notified=1,
        page="docs/delivery.md",
        canary=True,
        finding=Finding(
            event_id=identity,
            finding_id=identity,
            verdict=VERDICT,
            severity="info",
            plant=plant,
            first_seen=time,
            last_seen=time,
            source="hopwatch",
            destination=destination,
        ),
    )
