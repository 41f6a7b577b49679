"""Kafka: alerts and decisions to their topics, through the one door of the bus; acknowledged by every in-sync replica."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from alerts.delivery import Item, Plain, Refused, Retry
from alerts.settings import KafkaSettings
from hopwatch.bus.connection import BrokerError, Connection
from hopwatch.bus.kafka import Publisher, Reports

SPEAKER: Final = "alerts"
POLL_S: Final = 0.2
CLOSE_S: Final = 2.0


class Sink(Protocol):
    """What is needed of the bus's publisher."""

    trouble: str | None

    def send(self, kind: str, plant: str, event_id: str, line: bytes, token: str) -> bool: ...

    def poll(self, timeout_s: float = 0.0) -> Reports[str]: ...

    def close(self, timeout_s: float = CLOSE_S) -> Any: ...  # Any: reports nobody reads


class Kafka(Plain):
    """The topics ``hopwatch.alert.v1`` and ``hopwatch.decision.v1`` of one cluster.

    A letter that was handed over and not acknowledged in time stays with the publisher, which goes on trying; the next attempt waits
    for it and hands nothing over a second time.
    """

    acknowledgement = "that of every replica in sync"

    def __init__(
        self,
        settings: KafkaSettings,
        connection: Connection,
        *,
        sink: Callable[[Connection], Sink] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._connection, self._clock = settings, connection, clock
        self._made = sink or (lambda to: Publisher[str](to, speaker=SPEAKER))
        self._sink: Sink | None = None
        self._flying: set[str] = set()
        self._taken: set[str] = set()
        self._lasting: dict[str, str] = {}

    def send(self, batch: Sequence[Item]) -> None:
        until = self._clock() + self._settings.timeout_s
        try:
            sink = self._sink = self._sink or self._made(self._connection)
        except BrokerError as error:
            raise Retry(str(error)) from None
        wanted = [item.event.event_id for item in batch]
        # What left the queue otherwise is asked for no more.
        self._taken.intersection_update(wanted)
        while True:
            for item in batch:
                identity = item.event.event_id
                if identity in self._flying or identity in self._taken or identity in self._lasting:
                    continue
                if not sink.send(item.event.kind, item.event.plant, identity, item.line, identity):
                    break
                self._flying.add(identity)
            self._hear(sink.poll(POLL_S))
            done = next((place for place, identity in enumerate(wanted) if identity not in self._taken), len(wanted))
            if done == len(wanted):
                self._taken.difference_update(wanted)
                return
            if wanted[done] in self._lasting:
                self._taken.difference_update(wanted[:done])
                raise Refused(self._lasting.pop(wanted[done]), done=done)
            if self._clock() > until:
                self._taken.difference_update(wanted[:done])
                raise Retry(sink.trouble or f"not acknowledged within {self._settings.timeout_s:g} s", done=done)

    def _hear(self, reports: Reports[str]) -> None:
        self._taken.update(reports.acknowledged)
        self._flying.difference_update(reports.acknowledged)
        for failure in reports.failed:
            self._flying.discard(failure.token)
            if failure.lasting:
                self._lasting[failure.token] = failure.reason

    def close(self) -> None:
        if self._sink is not None:
            self._sink.close(CLOSE_S)
            self._sink = None
