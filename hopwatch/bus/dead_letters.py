"""Messages that nobody can read, on their way to the topic of the rejected; no offset behind one is kept before it has arrived there."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

from hopwatch.bus.kafka import Publisher, Received

T = TypeVar("T")


class DeadLetters(Generic[T]):
    """Those of one reader, which reads no more while many wait. ``token`` is what its publisher reports of one that has arrived."""

    def __init__(self, publisher: Publisher[T], token: T) -> None:
        self._publisher, self._token = publisher, token
        self._unsent: deque[tuple[Received, str]] = deque()
        self.waiting = 0
        """Not arrived, sent or not."""

    def put(self, message: Received, reason: str) -> None:
        """Another, with the reason, which quotes nothing of it."""
        self._unsent.append((message, reason))
        self.waiting += 1

    def send(self) -> None:
        """As many as the publisher takes."""
        while self._unsent and self._publisher.reject(*self._unsent[0], self._token):
            self._unsent.popleft()

    def arrived(self, count: int = 1) -> None:
        """So many were reported, there or refused for good."""
        self.waiting -= count

    def forget(self) -> None:
        """What was not sent is read again."""
        self.waiting -= len(self._unsent)
        self._unsent.clear()
