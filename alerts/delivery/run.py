"""Delivery as a program runs it: which letters an event has, and the senders of all destinations."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from random import Random

from alerts.delivery.make import Cluster, Firing, destinations
from alerts.delivery.metrics import DeliveryCollector
from alerts.delivery.sender import STOP_S, Senders
from alerts.outbox import Letter, Outbox, QueueState, letter
from alerts.settings import AlertsSettings, MailSettings
from hopwatch.events import Alert, Decision


def letters(settings: AlertsSettings) -> Callable[[Alert | Decision], list[Letter]]:
    """What to queue of an event, in the transaction that writes it: a letter for each destination that wants it."""

    def of(event: Alert | Decision) -> list[Letter]:
        return [letter(name, event) for name, one in settings.destinations.items() if one.wants(event)]

    return of


class Delivery:
    """The senders of every configured destination; ``wake`` says that something was queued."""

    def __init__(
        self,
        settings: AlertsSettings,
        outbox: Callable[[], Outbox],
        cluster: Cluster,
        *,
        firing: Firing = tuple,
        plant: str = "hopwatch",
        clock_ns: Callable[[], int] = time.time_ns,
        random: Random | None = None,
    ) -> None:
        """``outbox`` opens the queues, once a thread; ``firing`` gives the open alerts; ``plant`` stands in canaries.

        Raises:
            SettingsError: a format, a template or a certificate is not what it should be.
        """
        self._outbox = outbox
        canaries_s = {name: every_s for name, of in settings.destinations.items() if (every_s := of.canary_s or settings.canary_s)}
        self._senders = Senders(
            destinations(settings, cluster, firing),
            outbox,
            canary_s=canaries_s.get,
            plant=plant,
            clock_ns=clock_ns,
            random=random,
        )
        gathers_s = {name: of.digest_s for name, of in settings.destinations.items() if isinstance(of, MailSettings)}
        names = list(settings.destinations)
        self.collector = DeliveryCollector(self._states, names, self._senders.running, clock_ns, gathers_s, canaries_s)

    def _states(self) -> list[QueueState]:
        """Of whatever thread asks, which is another each time: a scrape."""
        queues = self._outbox()
        try:
            return queues.states()
        finally:
            queues.close()

    def start(self) -> None:
        """Begin to send."""
        self._senders.start()

    def wake(self) -> None:
        """Something was queued."""
        self._senders.wake()

    def stop(self, timeout_s: float = STOP_S) -> bool:
        """End after the letters at hand; False if a receiver keeps one of them: it is sent again by the next run."""
        return self._senders.stop(timeout_s)

    def troubles(self) -> Iterable[str]:
        """What is wrong with the queues themselves, a line each."""
        said = dict.fromkeys(self._senders.troubles)
        return [*said, *(f"{name}: {one.trouble}" for name, one in list(self._senders.running.items()) if one.trouble)]
