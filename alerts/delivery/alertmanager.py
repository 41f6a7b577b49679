"""Prometheus Alertmanager: what is firing is said, and said again while it is; what is over is resolved.

Alertmanager forgets what nobody repeats (API v2, ``POST /api/v2/alerts``; "Sending alerts": clients are expected to re-send firing
alerts). Every alert bears an ``endsAt`` some repetitions ahead, so that it ends by itself if hopwatch does. What is firing is read from
the alert book at the start. Labels are the alert's identity there; they are those that do not change, and the severity, whose change
resolves the alert of the earlier one.

``hopwatch_watchdog`` fires always: a route that expects it notices when hopwatch itself is silent.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from alerts.delivery import Item, Plain, tls
from alerts.delivery.http import Http, judge
from alerts.settings import AlertmanagerSettings
from hopwatch.events import Alert, time_text

FIRING_MAX: Final = 10_000
"""Alerts repeated to one Alertmanager; of more, the oldest ones end there (`unrepeated_total`), and stay open in the book."""

REPEATS: Final = 4
"""An alert ends by itself after so many repetitions that did not come."""

POST_MAX: Final = 500
"""Alerts in one request; the next request goes on."""

TEXT_CHARACTERS_MAX: Final = 1_000


class Alertmanager(Plain):
    """One Alertmanager; ``firing`` gives what was open before this process began."""

    acknowledgement = "its answer to the request"

    def __init__(
        self,
        settings: AlertmanagerSettings,
        *,
        firing: Callable[[], Iterable[Alert]] = tuple,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._settings, self._clock_ns = settings, clock_ns
        self._earlier: Callable[[], Iterable[Alert]] | None = firing
        self._firing: dict[str, Alert] = {}
        self._said_ns = 0
        self.unrepeated_total = 0
        self._url = settings.address.rstrip("/") + "/api/v2/alerts"
        self._http = Http(
            tls.context(settings.ca_file, settings.certificate_file, settings.key_file, settings.key_password),
            timeout_s=settings.timeout_s,
            token=None if settings.token is None else f"Bearer {settings.token.get_secret_value()}",
            proxy=settings.proxy,
        )

    def send(self, batch: Sequence[Item]) -> None:
        self._begin()
        now_ns = self._clock_ns()
        said: dict[str, dict[str, Any]] = {}  # Any: JSON values
        firing = dict(self._firing)
        for item in batch:
            alert = item.event
            if not isinstance(alert, Alert):
                continue
            before = firing.pop(alert.alert_id, None)
            if before is not None and _labels(before) != _labels(alert):
                self._say(said, before, now_ns, over=True)
            over = not _open(alert)
            self._say(said, alert, now_ns, over=over)
            if not over and not alert.canary:
                firing[alert.alert_id] = alert
        self._post(list(said.values()), whole=len(batch) > 1)
        while len(firing) > FIRING_MAX:
            del firing[next(iter(firing))]
            self.unrepeated_total += 1
            self.remark = f"{self.unrepeated_total} alerts are no longer repeated: more than {FIRING_MAX} are open"
        self._firing = firing

    def idle(self) -> None:
        now_ns = self._clock_ns()
        if now_ns - self._said_ns < self._settings.repeat_s * 1e9:
            return
        self._begin()
        said: dict[str, dict[str, Any]] = {}  # Any: JSON values
        for alert in self._firing.values():
            self._say(said, alert, now_ns, over=False)
        self._post([*said.values(), self._watchdog(now_ns)])
        self._said_ns = now_ns

    def _begin(self) -> None:
        if self._earlier is not None:
            self._firing = {alert.alert_id: alert for alert in self._earlier() if _open(alert) and not alert.canary}
            self._earlier = None

    def _say(self, said: dict[str, dict[str, Any]], alert: Alert, now_ns: int, *, over: bool) -> None:
        """One alert as Alertmanager has it; of several revisions in one request the last is what holds."""
        labels = _labels(alert)
        link = self._settings.link
        said[json.dumps(labels, sort_keys=True)] = {
            "labels": labels,
            "annotations": _annotations(alert),
            "startsAt": alert.raised,
            "endsAt": time_text(now_ns if over else self._ends(now_ns)),
            "generatorURL": link.replace("{alert_id}", alert.alert_id) if link else "",
        }

    def _watchdog(self, now_ns: int) -> dict[str, Any]:
        return {
            "labels": {"alertname": "hopwatch_watchdog", "severity": "none"},
            "annotations": {"summary": "Always firing: hopwatch delivers. Its absence is the alarm."},
            "endsAt": time_text(self._ends(now_ns)),
        }

    def _ends(self, now_ns: int) -> int:
        return now_ns + int(REPEATS * self._settings.repeat_s * 1e9)

    def _post(self, alerts: list[dict[str, Any]], *, whole: bool = False) -> None:
        for first in range(0, len(alerts), POST_MAX):
            some = alerts[first : first + POST_MAX]
            status, _, said = self._http.post(self._url, json.dumps(some).encode(), {"Content-Type": "application/json"})
            judge(status, said, whole=whole)

    def close(self) -> None:
        self._http.close()


def _open(alert: Alert) -> bool:
    return alert.state in ("new", "in-progress") and alert.shelved_until is None and alert.inhibited_by is None


def _labels(alert: Alert) -> dict[str, str]:
    finding = alert.finding
    said = {
        "alertname": f"hopwatch_{'canary' if alert.canary else finding.verdict}",
        "alert_id": alert.alert_id,
        "plant": alert.plant,
        "severity": alert.severity,
        "verdict": finding.verdict,
        "account": finding.who or "",
        "source": finding.source,
        "destination": finding.destination,
        "canary": "true" if alert.canary else "",
    }
    # An empty label is none (Prometheus, "Data model").
    return {name: _line(value) for name, value in said.items() if value}


def _annotations(alert: Alert) -> dict[str, str]:
    finding = alert.finding
    said = {
        "summary": f"{finding.verdict}: {finding.who or 'an unknown account'} moved data from {finding.source} to {finding.destination}",
        "description": "; ".join(f"{one.question}: declared {one.declared}, observed {one.observed}" for one in finding.differences),
        "event_id": alert.event_id,
        "state": alert.state,
        "why": alert.why,
        "because": alert.severity_because,
        "techniques": ", ".join(alert.techniques),
        "owner": alert.owner or "",
        "runbook": alert.page,
    }
    return {name: _line(value) for name, value in said.items() if value}


def _line(text: str) -> str:
    return " ".join(text.split())[:TEXT_CHARACTERS_MAX]
