"""PgBouncer's own log: who is before the pool, and which of its connections to the server may be whose.

A client's connection is told from its login to its end, with account, TLS and, once the log shows where its database is, the server that
it asked the pool for. A connection of the pool to the server is told with the account, and with the client before it where that can be
one alone: no line says which server connection serves which client, so with two clients of one database and account it is ambiguous,
nobody is named, and that is counted. Nothing is told of statements, rows or bytes; those are the tap's or the server's log's.

The lines are those of PgBouncer 1.18 (doc/config.md: log_connections, log_disconnections, log_stats).
"""

from __future__ import annotations

import ipaddress
import re
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

from collectors.feed import FeedError, resumed, zone_of
from collectors.log import ServerLog

SESSIONS_MAX: Final = 8_192
"""Connections followed at a time, both ways; of more, the one opened longest ago is let go, and counted (``sessions_over``)."""

DATABASES_MAX: Final = 1_024
"""Databases of which it is known where they are; of more, the one heard of longest ago is forgotten."""

STATS_NS_MAX: Final = 3_600 * 10**9
"""A line of statistics that comes later than this after the one before says nothing of the time between."""

_LINE: Final = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)\.(\d{1,9}) (?:(\S+) )?\[?(\d+)\]? ([A-Z]+) (.*)", re.DOTALL)
_ABOUT: Final = re.compile(r"([CS])-(0x[0-9a-fA-F]+): (.*)", re.DOTALL)
_AT: Final = r"@(\[[0-9A-Fa-f:.]+\]|[0-9.]+|unix(?:\(\d+\))?):(\d{1,5}) "
_WHO: Final = re.compile(rf"([^/]*)/(.*){_AT}(.*)", re.DOTALL)
_PLACED: Final = re.compile(_AT)
_LOGIN: Final = re.compile(r"login attempt: db=(.*) user=(.*) tls=(\S+)(?: replication=\S+)?", re.DOTALL)
_SERVER: Final = re.compile(r"new connection to server \(from (\[?[0-9A-Fa-f:.]+?\]?):(\d{1,5})\)")
_CLOSING: Final = re.compile(r"closing because: (.*) \(age=\d+s?\)", re.DOTALL)
_REFUSED: Final = re.compile(
    r"authentication failed|auth(?:_query)? failed|login failed|no such (?:database|user)|not allowed|no more connections allowed"
    r"|(?:SSL|TLS) required|certificate|password required|HBA|invalid user|database .* is disabled",
    re.IGNORECASE,
)
_STATS: Final = re.compile(r"stats: \d+ xacts/s, \d+ queries/s, in (\d+) B/s, out (\d+) B/s")
_TLS: Final = re.compile(r"TLSv(\d(?:\.\d)?)(?:/(.*))?")
_TAKEN_OVER: Final = ("SHOW FDS", "disko over", "takeover")
"""A process has got the connections of the one before it (``-R``), and names none of them."""

_NOBODY: Final = frozenset({"(nodb)", "(nouser)", ""})
_UTC: Final = frozenset({"UTC", "GMT", "Z"})


@dataclass(slots=True)
class Entry:
    """One line; ``side``: ``C`` of a client, ``S`` of a server, nothing of PgBouncer itself."""

    time_ns: int
    pid: str
    said: str
    side: str = ""
    key: str = ""
    database: str = ""
    user: str = ""
    host: str = ""
    port: int = 0


@dataclass(slots=True)
class Session:
    """A connection to the pool, or of the pool to the server."""

    side: str
    pool: str
    """Process, database and account, which is what PgBouncer keeps a pool for."""
    client: list[Any]  # Any: address and port, as JSON gives them back
    server: list[Any]  # Any: as above
    first_ns: int
    late: bool
    database: str
    account: str | None
    transport: str = "unknown"
    cipher: str | None = None
    asked: list[Any] | None = None  # Any: as above
    before: str | None = None
    """The one client that it can be for."""
    told: list[Any] = field(default_factory=list)  # Any: as the windows gave it
    connection: int = -1

    def state(self) -> list[Any]:  # Any: JSON values
        """As ``Session.of`` takes it."""
        who = [self.late, self.database, self.account, self.transport, self.cipher, self.asked, self.before]
        return [self.side, self.pool, self.client, self.server, self.first_ns, *who, self.told]

    @classmethod
    def of(cls, state: list[Any]) -> Session:  # Any: JSON values
        """The same again."""
        return resumed(cls, state)


class PgbouncerLog(ServerLog[Entry]):
    """One PgBouncer's log: ``[FEED=]ADDRESS:PORT=PATH[?zone=ZONE]``, PgBouncer's address as clients dial it.

    ``zone``: of its clock, where the lines do not say UTC. Its own counters: ``ambiguous`` (connections to the server that several clients
    may have now), ``forged``, …
    """

    KIND = "pgbouncer-log"
    OPTIONS = ("zone",)

    def _begin(self) -> None:
        self._zone = zone_of(self._told)
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._pools: dict[str, dict[str, set[str]]] = {}
        """Of each pool the keys of its clients (``C``) and of its connections to the server (``S``)."""
        self._behind: OrderedDict[str, list[Any] | None] = OrderedDict()  # Any: an address and a port
        """Where each database is; None: at several places."""
        self._stats_ns: dict[str, int] = {}
        self._whole = ""
        """The process of which every connection is known: its beginning was read, and nothing since was missed."""
        *_, address, port = self._place
        self._server = [str(address), int(port)]

    def counters(self) -> dict[str, int]:
        """What every log counts, and the connections that are followed."""
        ambiguous = sum(len(sides["S"]) for sides in self._pools.values() if len(sides["C"]) > 1)
        return super().counters() | {"pgbouncer_log_sessions": len(self._sessions), "pgbouncer_log_ambiguous": ambiguous}

    def _kept(self) -> dict[str, Any]:  # Any: JSON values
        sessions = {key: one.state() for key, one in self._sessions.items()}
        return {"sessions": sessions, "behind": list(self._behind.items()), "whole": self._whole}

    def _resume(self, said: dict[str, Any]) -> None:  # Any: JSON values
        self._behind, self._whole = OrderedDict((name, place) for name, place in said["behind"]), said["whole"]
        for key, state in said["sessions"].items():
            self._hold(key, Session.of(state))

    def _format(self, path: Path, head: bytes) -> None:
        found = _LINE.fullmatch(head.split(b"\n")[0].decode("utf-8", "replace"))
        if found is None:
            raise FeedError(f"{path}: no log of PgBouncer; docs/collectors/relays.md says how to have it")
        if self._zone is None and found[3] not in _UTC:
            raise FeedError(f"{path}: its clock is {found[3] or 'local'}; start PgBouncer with TZ=UTC, or say zone=Europe/Berlin")

    def _parsed(self, record: bytes) -> Entry | None:
        if record.startswith(b"\t"):
            # The rest of a line that somebody's name has broken.
            self._count("forged")
            return None
        found = _LINE.fullmatch(record.decode("utf-8", "replace"))
        if found is None:
            raise ValueError("no line of PgBouncer")
        stamp, digits, zone, pid, _, said = found.groups()
        if self._zone is None and zone not in _UTC:
            raise ValueError("a clock that is not UTC")
        at = datetime.strptime(stamp, "%Y-%m-%d %H:%M:%S").replace(tzinfo=self._zone or timezone.utc)  # noqa: UP017  # as the zone's type
        entry = Entry(int(at.timestamp()) * 10**9 + int(digits.ljust(9, "0")), pid, said)
        about = _ABOUT.fullmatch(said)
        if about is None:
            return entry if said.startswith(("stats: ", "process up: ", *_TAKEN_OVER)) else None
        if len(_PLACED.findall(about[3])) != 1:
            # A name that looks like the rest of a line: who it is cannot be told from what it says.
            self._count("forged")
            return None
        who = _WHO.fullmatch(about[3])
        if who is None or int(who[4]) > 65_535:
            raise ValueError("nobody is named")
        entry.side, entry.key, entry.database, entry.user = about[1], f"{pid} {about[1]}-{about[2]}", who[1], who[2]
        entry.host, entry.port, entry.said = who[3].strip("[]"), int(who[4]), who[5]
        return entry

    def _heard(self, entry: Entry) -> None:
        if not entry.side:
            self._itself(entry)
            return
        if entry.host.startswith("unix"):
            self._count("local")
            return
        if entry.said.startswith("login attempt: "):
            self._login(entry)
        elif server := _SERVER.fullmatch(entry.said):
            self._connected(entry, server[1].strip("[]"), int(server[2]))
        elif closing := _CLOSING.fullmatch(entry.said):
            self._closing(entry, closing[1])

    def _itself(self, entry: Entry) -> None:
        if entry.said.startswith("process up: "):
            # What another process had is gone, or has a new name in this one.
            for key in [key for key in self._sessions if not key.startswith(f"{entry.pid} ")]:
                self._end(key, entry.time_ns)
            self._whole = entry.pid
        elif entry.said.startswith(_TAKEN_OVER):
            self._in_part(entry.time_ns)
        elif found := _STATS.match(entry.said):
            self._count("stats")
            since_ns = entry.time_ns - self._stats_ns.get(entry.pid, entry.time_ns)
            self._stats_ns = {entry.pid: entry.time_ns}
            if 0 < since_ns <= STATS_NS_MAX:
                for name, rate in zip(("stats_bytes_in", "stats_bytes_out"), found.groups(), strict=True):
                    self._count(name, int(rate) * since_ns // 10**9)

    def _lose(self) -> None:
        super()._lose()
        self._in_part(self._last_ns)

    def _in_part(self, time_ns: int) -> None:
        """There may be clients that no line has told of: that one is the only one is not known any more."""
        self._whole = ""
        for pool in sorted(self._pools):
            self._changed(pool, time_ns)

    # Connections.

    def _login(self, entry: Entry) -> None:
        found = _LOGIN.fullmatch(entry.said)
        if found is None:
            self._count("forged")
            return
        # The name is said twice; before the login is over the one in front may still be nobody's.
        account = found[2] if entry.user in (found[2], "(nouser)") else None
        session = self._session(entry, "C", [entry.host, entry.port], self._server, found[1], account)
        if tls := _TLS.fullmatch(found[3]):
            session.transport, session.cipher = f"tls{tls[1] if '.' in tls[1] else tls[1] + '.0'}", tls[2]
        else:
            session.transport = "none" if found[3] == "no" else "unknown"
        self._open_new(entry.key, session, entry.time_ns)

    def _connected(self, entry: Entry, host: str, port: int) -> None:
        here = [entry.host, entry.port]
        known = self._behind.get(entry.database, here)
        self._behind[entry.database] = here if known == here else None
        self._behind.move_to_end(entry.database)
        if len(self._behind) > DATABASES_MAX:
            self._behind.popitem(last=False)
        session = self._session(entry, "S", [host, port], here, entry.database, entry.user if entry.user not in _NOBODY else None)
        self._open_new(entry.key, session, entry.time_ns)
        for key in sorted(self._pools.get(session.pool, {}).get("C", ())):
            self._point(key, entry.time_ns)

    def _session(
        self,
        entry: Entry,
        side: str,
        client: list[Any],  # Any: an address and a port
        server: list[Any],  # Any: as above
        database: str,
        account: str | None,
    ) -> Session:
        pool = f"{entry.pid} {database}/{account}"
        return Session(side, pool, client, server, entry.time_ns, late=False, database=database, account=account)

    def _open_new(self, key: str, session: Session, time_ns: int) -> None:
        if key in self._sessions:
            # The memory of one that ended without a line is used again.
            self._end(key, time_ns)
        if len(self._sessions) >= SESSIONS_MAX:
            self._count("sessions_over")
            self._in_part(time_ns)
            self._end(next(iter(self._sessions)), time_ns)
        if session.side == "C":
            session.asked = self._behind.get(session.database)
        else:
            session.before = self._only(session.pool)
        try:
            self._hold(key, session)
        except (ValueError, OverflowError):
            # A name where an address is needed.
            self._count("unresolved")
            return
        self._touched[key] = session
        self._windows.add(session.connection, session.first_ns, "connect", "client")
        self._changed(session.pool, time_ns)

    def _closing(self, entry: Entry, why: str) -> None:
        session = self._sessions.get(entry.key)
        if session is None:
            if entry.side == "S" or entry.user in _NOBODY:
                # Whence the pool had dialled stood in a line that was not read.
                self._count("unplaced")
                return
            session = self._session(entry, "C", [entry.host, entry.port], self._server, entry.database, entry.user)
            session.late = True
            self._open_new(entry.key, session, entry.time_ns)
        if entry.side == "C" and _REFUSED.search(why):
            self._windows.add(session.connection, max(entry.time_ns, session.first_ns), "refused", "client", messages=1)
        self._end(entry.key, entry.time_ns)

    def _hold(self, key: str, session: Session) -> None:
        """The windows know of it, from its beginning or from where they were."""
        (client, client_port), (server, server_port) = session.client, session.server
        ends = (str(ipaddress.ip_address(client)), client_port), (str(ipaddress.ip_address(server)), server_port)
        session.connection = self._windows.open(*ends, session.first_ns, protocol="postgresql", seen_by="proxy-log", opened_by="client")
        self._windows.go_on(session.connection, session.first_ns, session.told)
        self._windows.describe(
            session.connection, session.first_ns, transport=session.transport, cipher=session.cipher, joined_late=session.late
        )
        self._identify(session, session.first_ns)
        if session.asked is not None:
            self._windows.asked(session.connection, session.first_ns, session.asked[0], session.asked[1], "connect")
        self._sessions[key] = session
        self._pools.setdefault(session.pool, {"C": set(), "S": set()})[session.side].add(key)

    def _identify(self, session: Session, time_ns: int) -> None:
        account = session.account or None
        self._windows.identify(
            session.connection, time_ns, account=account, account_from="proxy-log" if account else None, on_behalf_of=session.before
        )

    def _point(self, key: str, time_ns: int) -> None:
        """It is known now where the database of a client is."""
        session = self._sessions.get(key)
        place = self._behind.get(session.database) if session is not None else None
        if session is None or place is None or session.asked is not None:
            return
        session.asked, self._touched[key] = place, session
        self._windows.asked(session.connection, time_ns, place[0], place[1], "connect")
        self._windows.add(session.connection, time_ns, "connect", "client")

    def _changed(self, pool: str, time_ns: int) -> None:
        """Who is before the pool's connections to the server: the only client there is, or it is not known who."""
        only = self._only(pool)
        for key in sorted(self._pools[pool]["S"]) if pool in self._pools else ():
            session = self._sessions[key]
            if session.before == only:
                continue
            # What was told so far was of whom it was.
            session.told = self._windows.told(session.connection)
            session.before, self._touched[key] = only, session
            self._identify(session, time_ns)
            self._windows.add(session.connection, max(time_ns, session.first_ns), "connect", "client")

    def _only(self, pool: str) -> str | None:
        keys = self._pools[pool]["C"] if pool in self._pools else ()
        if len(keys) != 1 or not pool.startswith(f"{self._whole} "):
            return None
        (key,) = keys
        host, port = self._sessions[key].client
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def _end(self, key: str, time_ns: int) -> None:
        session = self._sessions.pop(key, None)
        if session is None:
            return
        self._touched.pop(key, None)
        sides = self._pools[session.pool]
        sides[session.side].discard(key)
        if not sides["C"] and not sides["S"]:
            del self._pools[session.pool]
        with suppress(ValueError):
            self._windows.close(session.connection, max(time_ns, session.first_ns))
        if session.side == "C":
            self._changed(session.pool, time_ns)
