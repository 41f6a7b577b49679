"""Who an unreadable connection belongs to, where only the address is known: a login that no record gave a port.

A view with the client's port is joined by the connection's hash. A record without it (a Kerberos ticket, a session that was over before
its port was asked for) has the port 0, and is no connection that a tap sees. What a tap sees of that address, to that server, while
one single account was logged in there, is that account's; while several were, it is nobody's, and is counted as ambiguous.

Blind to: a second account whose login no record tells. Raised wrongly by: records that come from another clock by more than ``SLACK_NS``.
"""

from collections import deque
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from detectors.memory import Memory
from hopwatch.events import Endpoint, Flow

LOGINS_MAX: Final = 16_384
"""Pairs of a client's address and a server with logins; the one heard of longest ago is forgotten."""

ACCOUNTS_MAX: Final = 16
"""Accounts of one such pair; of more, one is forgotten, and as long as there are so many nobody is named."""

OPEN_MAX: Final = 256
"""Logins of one account that are told apart; of more, their ends are not waited for."""

ENDED_MAX: Final = 64
"""Connections that ended last, of which further flows are not counted again."""

SLACK_NS: Final = 5 * 10**9
"""How far a login's record may be off the connection: clocks, and the seconds of a log."""

OPEN_NS: Final = 24 * 3_600 * 10**9
"""A login that no record ends is over after so long."""


class Known(NamedTuple):
    """Whose a connection is."""

    account: str
    application: str | None


@dataclass(slots=True)
class Login:
    """An account that is, or was last, logged in: its logins that are open, by the flows that tell them."""

    account: str
    application: str | None
    begin_ns: int
    end_ns: int
    open: list[str]

    def state(self) -> list[Any]:  # Any: JSON values
        """As ``Login(*state)`` takes it."""
        return [self.account, self.application, self.begin_ns, self.end_ns, self.open]

    def covers(self, at_ns: int) -> bool:
        """Whether somebody was logged in under it then."""
        last_ns = self.begin_ns + OPEN_NS if self.open else self.end_ns
        return self.begin_ns - SLACK_NS <= at_ns <= last_ns + SLACK_NS


class Logins:
    """Logins without a port. ``ambiguous_total``: connections that had several accounts to be of, when they ended."""

    def __init__(self) -> None:
        self.memory: Memory[list[Login]] = Memory(list, _said, _read, LOGINS_MAX)
        self.ambiguous_total = self.accounts_forgotten_total = 0
        # The flows of a connection end together.
        self._ended: deque[str] = deque(maxlen=ENDED_MAX)

    def __len__(self) -> int:
        return len(self.memory)

    def learn(self, flow: Flow) -> None:
        """What a window without the client's port says of who is logged in."""
        client, server = _ends(flow)
        if client.port or flow.account is None or flow.operation != "connect" or flow.seen_by == "tap":
            return
        logins = self.memory.of(_key(client.address, server))
        begin_ns, end_ns = flow.start_ns, flow.end_ns
        login = next((one for one in logins if one.account == flow.account), None)
        if login is None:
            if len(logins) >= ACCOUNTS_MAX:
                over = min(logins, key=lambda one: (one.covers(begin_ns), one.end_ns))
                logins.remove(over)
                self.accounts_forgotten_total += 1
            login = Login(flow.account, flow.application, begin_ns, end_ns, [])
            logins.append(login)
        elif not login.covers(begin_ns):
            login.begin_ns, login.open, login.application = begin_ns, [], flow.application
        elif login.application != flow.application:
            # With which of them a connection was made nobody tells.
            login.application = None
        login.begin_ns, login.end_ns = min(login.begin_ns, begin_ns), max(login.end_ns, end_ns)
        if flow.final:
            login.open = [one for one in login.open if one != flow.flow_id]
        elif flow.flow_id not in login.open and len(login.open) < OPEN_MAX:
            login.open.append(flow.flow_id)

    def whose(self, flow: Flow, at_ns: int) -> Known | None:
        """Who the connection of this window belongs to, if only one can be."""
        client, server = _ends(flow)
        if not client.port:
            return None
        logins = self.memory.known(_key(client.address, server))
        there = [one for one in logins or () if one.covers(at_ns)]
        if len(there) == 1:
            return Known(there[0].account, there[0].application)
        if flow.final and len(there) > 1 and flow.connection not in self._ended:
            self._ended.append(flow.connection)
            self.ambiguous_total += 1
        return None

    def state(self) -> list[Any]:  # Any: JSON values
        """Everything remembered."""
        return self.memory.state()

    def restore(self, state: list[Any]) -> None:  # Any: JSON values
        """Take over what ``state`` gave."""
        self.memory.restore(state)

    def changes(self) -> list[Any]:  # Any: JSON values
        """What was touched since the last call."""
        return self.memory.changes()

    def merge(self, changes: list[Any]) -> None:  # Any: JSON values
        """Take over what ``changes`` gave."""
        self.memory.merge(changes)


def _ends(flow: Flow) -> tuple[Endpoint, Endpoint]:
    return (flow.destination, flow.source) if flow.opened_by == "destination" else (flow.source, flow.destination)


def _key(client: str, server: Endpoint) -> str:
    return f"{client}|{server.address}|{server.port}"


def _said(logins: list[Login]) -> list[Any]:  # Any: JSON values
    return [one.state() for one in logins]


def _read(said: list[Any]) -> list[Login]:  # Any: JSON values
    return [Login(account, application, begin_ns, end_ns, list(open_)) for account, application, begin_ns, end_ns, open_ in said]
