"""Sessions: who came in, until when, and the token that a form of theirs must bear.

The browser holds a random name of the session and nothing else (OWASP ASVS 4.0, 3.2); only its hash is kept here. A session ends
after a while without use, after so long in any case, with its person's word, and with the process. What a page fetches by itself to
stay up to date is no use of it: a screen that was left must not stay open for ever.
"""

from __future__ import annotations

import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

from dashboards.console.access import Person

SESSIONS_MAX: Final = 1_000
"""Sessions of persons at once; beyond it the one that was used longest ago ends."""

STRANGERS_MAX: Final = 1_000
"""The same of who has not said who they are: however many they are, they end nobody else's."""

IDLE_S: Final = 30 * 60.0
ABSOLUTE_S: Final = 12 * 3600.0
LOGIN_S: Final = 10 * 60.0
"""How long somebody may take to come back from the identity provider."""


@dataclass(slots=True)
class Session:
    """One person's stay; ``person`` is None until they have said who they are."""

    person: Person | None
    token: str
    began_s: float
    used_s: float
    login: dict[str, Any] = field(default_factory=dict)  # Any: what Authlib remembers between its two requests.


class Sessions:
    """All sessions of a console; ``clock`` counts seconds."""

    def __init__(self, clock: Callable[[], float], *, idle_s: float = IDLE_S, absolute_s: float = ABSOLUTE_S) -> None:
        self._clock = clock
        self._idle_s, self._absolute_s = idle_s, absolute_s
        self._open: OrderedDict[str, Session] = OrderedDict()
        self._strangers: OrderedDict[str, Session] = OrderedDict()
        self.evicted_total = 0

    def now_s(self) -> float:
        """Now, by the clock of sessions."""
        return self._clock()

    def open(self, person: Person | None) -> tuple[str, Session]:
        """A new session and its name, which is told once."""
        name = secrets.token_urlsafe(32)
        now_s = self._clock()
        held, most = (self._strangers, STRANGERS_MAX) if person is None else (self._open, SESSIONS_MAX)
        session = held[_hashed(name)] = Session(person, secrets.token_urlsafe(32), now_s, now_s)
        while len(held) > most:
            held.popitem(last=False)
            self.evicted_total += 1
        return name, session

    def find(self, name: str | None, *, used: bool = True) -> Session | None:
        """The session of that name, unless it has ended; ``used`` lets it live on."""
        if not name:
            return None
        key = _hashed(name)
        held = self._open if key in self._open else self._strangers
        session = held.get(key)
        if session is None:
            return None
        now_s = self._clock()
        idle_s = self._idle_s if session.person is not None else min(self._idle_s, LOGIN_S)
        if now_s - session.used_s > idle_s or now_s - session.began_s > self._absolute_s:
            del held[key]
            return None
        if used:
            session.used_s = now_s
            held.move_to_end(key)
        return session

    def end(self, name: str | None) -> None:
        """The session is over."""
        if name:
            self._open.pop(_hashed(name), None)
            self._strangers.pop(_hashed(name), None)

    def end_of(self, person: str) -> int:
        """All sessions of a person are over; returns how many were."""
        keys = [key for key, session in self._open.items() if session.person is not None and session.person.name == person]
        for key in keys:
            del self._open[key]
        return len(keys)

    def all(self) -> Iterator[Session]:
        """Those of persons that have not ended, the last used first."""
        now_s = self._clock()
        for session in reversed(self._open.values()):
            alive = now_s - session.used_s <= self._idle_s and now_s - session.began_s <= self._absolute_s
            if session.person is not None and alive:
                yield session


def same(given: str | None, token: str) -> bool:
    """Whether the form bears the session's token, in a time that tells nothing."""
    return given is not None and hmac.compare_digest(given.encode(errors="replace"), token.encode())


def _hashed(name: str) -> str:
    return sha256(name.encode(errors="replace")).hexdigest()
