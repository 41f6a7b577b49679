"""Delivery: one file for each kind of destination, and a sender a destination that reads its queue.

A destination is given a few letters and returns when the receiver has them, or says how far it came: ``Retry`` if they may arrive
another time (nobody answers, a full disk, a wrong password), ``Refused`` if this very letter never will (docs/decisions/0031). It
waits at most its time-out, and it is the only thing that its thread waits for: a dead SIEM keeps no other destination waiting, and
detection knows nothing of any.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from hopwatch.events import Alert, Decision

DESTINATIONS_MAX: Final = 32
"""Destinations of one configuration."""

BATCH_MAX: Final = 100
"""Letters given to a destination at once."""


@dataclass(frozen=True, slots=True)
class Item:
    """One letter: the event, and its line as it was queued."""

    event: Alert | Decision
    line: bytes


class Retry(Exception):
    """The receiver did not take it now; the first ``done`` letters of the batch it has. ``after_s``: not before so many seconds."""

    def __init__(self, why: str, *, done: int = 0, after_s: float | None = None) -> None:
        super().__init__(why)
        self.done, self.after_s = done, after_s


class Refused(Exception):
    """The letter behind the first ``done`` is refused for good; of a batch refused as a whole (``whole``) nobody knows yet which."""

    def __init__(self, why: str, *, done: int = 0, whole: bool = False) -> None:
        super().__init__(why)
        self.done, self.whole = done, whole


class Destination(Protocol):
    """Where letters go."""

    batch_max: int
    """Letters it takes at once."""

    remark: str | None
    """What a person should know although everything arrived; the sender takes it away."""

    @property
    def acknowledgement(self) -> str:
        """What its answer means, for a person who tests it; begins with "none" if there is none."""

    def send(self, batch: Sequence[Item]) -> None:
        """Return when the receiver has all of them.

        Raises:
            Retry, Refused: it has not.
        """

    def wait_s(self, batch: Sequence[Item], oldest_s: float) -> float:
        """Seconds to gather more before this batch, whose oldest letter has waited ``oldest_s``; 0 is now."""

    def idle(self) -> None:
        """What is to be done while nothing waits; called about once a second.

        Raises:
            Retry: the receiver is away.
        """

    def close(self) -> None:
        """Let go of the receiver."""


class Plain:
    """A destination that gathers nothing and has nothing to do between letters."""

    batch_max: int = BATCH_MAX
    remark: str | None = None

    def wait_s(self, batch: Sequence[Item], oldest_s: float) -> float:
        return 0.0

    def idle(self) -> None:
        return

    def close(self) -> None:
        return
