"""Prometheus Alertmanager: what is firing is said, and said again while it is; what is over is resolved.

Alertmanager forgets what nobody repeats (API v2, ``POST /api/v2/alerts``; "Sending alerts": clients are expected to re-send firing
alerts). Every alert bears an ``endsAt`` some repetitions ahead, so that it ends by itself if hopwatch does. What is firing is read from
the alert book at the start.

``hopwatch_watchdog`` fires always: a route that expects it notices when hopwatch itself is silent.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from alerts.delivery import Item, Plain, Refused, tls
from alerts.delivery.http import Http, judge
from alerts.formats.alertmanager import alerts
from alerts.formats.view import Origin
from alerts.settings import AlertmanagerSettings
from hopwatch.events import Alert, time_ns, time_text

FIRING_MAX: Final = 10_000
"""Alerts repeated to one Alertmanager; of more, the oldest ones end there (`unrepeated_total`), and stay open in the book."""

REPEATS: Final = 4
"""An alert ends by itself after so many repetitions that did not come."""

POST_MAX: Final = 500
"""Alerts in one request; the next request goes on."""

Said = dict[str, Any]  # Any: JSON values


class Alertmanager(Plain):
    """One Alertmanager; ``firing`` gives what was open before this process began."""

    acknowledgement = "its answer to the request"

    def __init__(
        self,
        settings: AlertmanagerSettings,
        origin: Origin | None = None,
        *,
        firing: Callable[[], Iterable[Alert]] = tuple,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._settings, self._origin, self._clock_ns = settings, origin, clock_ns
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
        said: dict[str, Said] = {}
        firing = dict(self._firing)
        for item in batch:
            alert = item.event
            if not isinstance(alert, Alert):
                continue
            firing.pop(alert.alert_id, None)
            if self._say(said, alert, now_ns) and not alert.canary:
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
        said: dict[str, Said] = {}
        for alert in self._firing.values():
            self._say(said, alert, now_ns)
        self._repeat([*said.values(), self._watchdog(now_ns)])
        self._said_ns = now_ns

    def _begin(self) -> None:
        if self._earlier is not None:
            self._firing = {alert.alert_id: alert for alert in self._earlier() if not alert.canary}
            self._earlier = None

    def _say(self, said: dict[str, Said], alert: Alert, now_ns: int) -> bool:
        """One alert as Alertmanager has it; whether it fires. Of several revisions in one request the last is what holds."""
        *before, now = alerts(alert, self._origin, firing_s=1)
        # The format counts from the alert's time; here what fires does so from now on, until nobody repeats it.
        fires = time_ns(now["endsAt"]) > time_ns(alert.time)
        if fires:
            now["endsAt"] = time_text(self._ends(now_ns))
            # Of a clock that is ahead: what would begin after its end is refused.
            now["startsAt"] = time_text(min(time_ns(now["startsAt"]), now_ns))
        for one in (*before, now):
            said[json.dumps(one["labels"], sort_keys=True)] = one
        return fires

    def _watchdog(self, now_ns: int) -> Said:
        return {
            "labels": {"alertname": "hopwatch_watchdog", "severity": "none"},
            "annotations": {"summary": "Always firing: hopwatch delivers. Its absence is the alarm."},
            "endsAt": time_text(self._ends(now_ns)),
        }

    def _ends(self, now_ns: int) -> int:
        return now_ns + int(REPEATS * self._settings.repeat_s * 1e9)

    def _repeat(self, posted: list[Said]) -> None:
        """Say it again; what is refused of it keeps no other from being repeated, and no letter waiting."""
        for first in range(0, len(posted), POST_MAX):
            try:
                self._post(posted[first : first + POST_MAX])
            except Refused as error:
                self.remark = f"{error} to what is said again: some of it is refused"

    def _post(self, posted: list[Said], *, whole: bool = False) -> None:
        for first in range(0, len(posted), POST_MAX):
            some = posted[first : first + POST_MAX]
            status, _, said = self._http.post(self._url, json.dumps(some).encode(), {"Content-Type": "application/json"})
            judge(status, said, whole=whole)

    def close(self) -> None:
        self._http.close()
