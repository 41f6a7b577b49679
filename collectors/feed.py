"""A feed: any source of events beside packets. A server's log, a broker, another sensor's records; one file for each kind.

Each gives batches of event lines of its own windows, says how it is in counters, and reads on where it was after a restart: whoever
asks for the next batch has the one before.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from collectors.packets import CaptureError

if TYPE_CHECKING:
    from hopwatch_wire import Windows

POLL_S: Final = 0.2

_TOLD: Final = re.compile(
    r"(?P<kind>[a-z][a-z0-9-]*):(?:(?P<feed>[\w.-]+)=)?(?P<where>.+?)(?:\?(?P<options>[a-z_]+=[^&]*(?:&[a-z_]+=[^&]*)*))?"
)
_SERVER: Final = re.compile(r"(?P<host>\[[^]]+\]|[\d.]+):(?P<port>\d{1,5})=(?P<rest>.+)")

T = TypeVar("T")


class FeedError(CaptureError):
    """A feed cannot be read, or what was said of it is wrong; the message is one line for a person."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a feed was told to be: ``KIND:[FEED=]WHERE[?OPTION=VALUE&…]``; the name is what the declaration calls the ``feed``."""

    kind: str
    feed: str
    where: str
    options: Mapping[str, str]

    @classmethod
    def of(cls, text: str, agent: str) -> Told:
        """``postgresql-log:mes-db-log=10.20.1.21:5432=/var/log/*.json``; without a name it is that of the agent.

        Raises:
            FeedError: something else.
        """
        found = _TOLD.fullmatch(text)
        if found is None:
            raise FeedError(f"feed {text!r}: expected KIND:[FEED=]WHERE, postgresql-log:mes-db-log=10.20.1.21:5432=/var/log/*.json")
        options: dict[str, str] = {}
        for option in (found["options"] or "").split("&"):
            name, _, value = option.partition("=")
            if name in options:
                raise FeedError(f"feed {text!r}: {name} is said twice")
            if name:
                options[name] = value
        return cls(found["kind"], found["feed"] or agent, found["where"], options)

    def server(self) -> tuple[str, int, str]:
        """The address and port that clients dial, which no line of a log has, and the rest: ``ADDRESS:PORT=PATH``.

        Raises:
            FeedError: something else.
        """
        found = _SERVER.fullmatch(self.where)
        address = ""
        with suppress(ValueError):
            address = str(ipaddress.ip_address(found["host"].strip("[]"))) if found else ""
        if found is None or not address or not 0 < int(found["port"]) < 65_536:
            raise FeedError(f"{self.kind} {self.where!r}: expected [FEED=]ADDRESS:PORT=PATH, mes-db-log=10.20.1.21:5432=/var/log/*.json")
        return address, int(found["port"]), found["rest"]

    def only(self, *options: str) -> Told:
        """Itself, if it was told nothing else than these.

        Raises:
            FeedError: another option.
        """
        for name in self.options:
            if name not in options:
                known = ", ".join(options) or "none"
                raise FeedError(f"{self.kind} {self.feed}: unknown option {name!r}, expected {known}")
        return self


def resumed(of: Callable[..., T], state: list[Any]) -> T:  # Any: JSON values
    """What the state was made of: the fields in order, and last what the windows told of its flows, of which JSON has made lists."""
    *plain, told = state
    return of(*plain, told=[tuple(flow) for flow in told])


class Feed(Protocol):
    """What `hopwatch.feeds` needs of a kind; each also has ``of(told, plant, state)``, which makes one."""

    example: str
    """Where the last record lies that could not be read; never its content."""

    unreadable: int
    """How many could not."""

    @property
    def lives(self) -> bool:
        """It hears its source now: only then heartbeats are said in its name."""
        ...

    def counters(self) -> dict[str, int]:
        """What was read and what could not be, for heartbeats; the names begin with the kind's."""
        ...

    def batches(self, stopping: Callable[[], bool], *, follow: bool, sleep: Callable[[float], None] = ...) -> Iterator[list[bytes]]:
        """The events, until ``stopping``, or to the end of what is there; an empty batch says that nothing is there now."""
        ...


class Kind(Protocol):
    """A class of feeds."""

    @classmethod
    def of(cls, told: Told, plant: str, state: Path) -> Feed:
        """Opens it; ``state`` is the file in which it keeps its place.

        Raises:
            FeedError: one line.
        """
        ...


def zone_of(told: Told) -> tzinfo | None:
    """The option ``zone``: that of a clock whose times say none; None if it was not told.

    Raises:
        FeedError: there is no such zone.
    """
    said = told.options.get("zone")
    try:
        return ZoneInfo(said) if said else None
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise FeedError(f"{told.kind} {told.feed}: zone {said!r}, expected one such as Europe/Berlin") from None


def windows(plant: str, feed: str) -> Windows:
    """The windows that a feed's observations go into.

    Raises:
        FeedError: the compiled module is not there.
    """
    try:
        from hopwatch_wire import Windows as Compiled
    except ImportError as error:
        raise FeedError(f"the compiled module hopwatch_wire cannot be loaded: {error}") from error
    return Compiled(plant, feed)
