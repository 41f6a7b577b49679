"""A MariaDB or MySQL server's own logs become flows, where a tap sees only TLS: audit plugin, slow log, general log, process list.

No one of them tells all. Who connects, and who is refused, is in the file of the plugin server_audit (MariaDB Knowledge Base, "MariaDB
Audit Plugin - Log Format") or in the general log; how many rows a statement moved is only in the slow log, which has every statement
when ``long_query_time`` is 0; from which port a client comes is in the process list, or, from MariaDB 12.0 on, in the plugin's file.
They are one session by the connection's number. The files of one server are read together, in the order of their records' times.

What they do not tell is said to be unknown: a window with rows that nobody counted is ``lossy``; a session whose port was never seen
has the port 0, so it is accounted for but is no other view's connection.
"""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from collectors import tail
from collectors.feed import FeedError, resumed, zone_of
from collectors.log import ServerLog, counted, cut_lines, lines
from collectors.mariadb_sessions import LOGIN, SESSIONS_MAX, Place, Sessions
from collectors.statements import MOVES, reads
from collectors.tail import Cut

if TYPE_CHECKING:
    from hopwatch_wire import Read

AUDITED_BYTES: Final = range(1_000, 1_027)
"""So long a text of the plugin may have been cut (``server_audit_query_log_limit``, 1,024 unless it is set)."""

SETTLE_NS: Final = 2 * 10**9
"""How long a session that has ended waits for lines of it in another file."""

FILES_TOGETHER_MAX: Final = 8
"""Files that are read in one turn; others come in the next."""

REFUSED: Final = frozenset({1044, 1045, 1130, 1142, 1143, 1227, 1370, 1698, 3118, 4151})
"""Errors of what was refused, as the wire's decoder has them (docs/protocols/mysql.md)."""

Form = Literal["audit", "slow", "slow-table", "general", "general-table"]

_AUDIT: Final = re.compile(
    r"(\d{8} \d\d:\d\d:\d\d),[^,]*,(.*?),([^,]*),(\d+),(\d+),"
    r"(CONNECT|FAILED_CONNECT|DISCONNECT|CHANGEUSER|QUERY|TABLE|READ|WRITE|CREATE|ALTER|RENAME|DROP),(.*)",
    re.DOTALL,
)
_QUERY: Final = re.compile(r"([^']*),'(.*)',(\d+)", re.DOTALL)
_BANNER: Final = re.compile(rb"(?:[^\n]*, Version: [^\n]*\n|Tcp port: [^\n]*\n|Time +Id Command +Argument *\n|Time\t[^\n]*\n)*")
_WHO: Final = re.compile(r"(?:[^\[]*)\[(.*)\] @ +(\S*) *\[([^\]]*)\]")
_SLOW_HEAD: Final = re.compile(rb"^# (?:Time|User@Host): ", re.MULTILINE)
_SLOW: Final = re.compile(
    r"(?:# Time: [^\n]*\n)?# User@Host: (?P<who>[^\n]*?\])(?: +Id: +(?P<id>\d+))?\n(?P<more>(?:# [^\n]*\n)*)"
    r"(?:use `?(?P<use>[^\n]*?)`?;\n)?SET timestamp=(?P<stamp>\d+)(?:\.\d+)?;\n(?P<text>.*)",
    re.DOTALL,
)
_FACT: Final = re.compile(r"(\w+): (\S*)")
_GENERAL: Final = re.compile(
    r"(?:(?P<short>\d{6} [ \d]\d:\d\d:\d\d)|(?P<long>\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d)))?\t+ *(?P<id>\d+) "
    r"(?P<verb>Connect|Query|Execute|Prepare|Quit|Change user|Init DB|[A-Z][\w ]*?)\t(?P<text>.*)"
)
_GENERAL_HEAD: Final = re.compile(rb"^(?:\d{6} [ \d]\d:\d\d:\d\d|\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d))?\t+ *\d+ [A-Z]", re.MULTILINE)
_LOGIN: Final = re.compile(r"(?P<user>.*)@(?P<host>[^@\s]*) (?:as (?:anonymous )?)?on (?P<database>.*?)(?: using (?P<by>\S+))?")
_TABLE_TIME: Final = re.compile(rb'"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d')
_GENERAL_ROW: Final = re.compile(rb'"[^"]*","(?:[^"\\]|\\.)*",\d+,')
_FIELD: Final = re.compile(r'"((?:[^"\\]|\\.)*)"|([^,"]*)', re.DOTALL)
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
_PLAIN: Final = {"n": "\n", "r": "\r", "t": "\t", "0": "\0"}


@dataclass(slots=True)
class Entry:
    """One record, whichever file it is in."""

    time_ns: int
    form: str
    thread: int
    verb: Literal["connect", "refused", "end", "said", "other"]
    user: str | None = None
    host: str = ""
    port: int = 0
    database: str | None = None
    text: str = ""
    sent: int | None = None
    affected: int | None = None
    error: int = 0
    transport: str | None = None


@dataclass(slots=True)
class Session:
    """A connection of a client, by its number."""

    thread: int
    host: str
    port: int
    first_ns: int
    late: bool
    user: str | None = None
    database: str | None = None
    role: str | None = None
    transport: str | None = None
    begun: str | None = None
    """The kind of file in which a line of its beginning was read."""
    ended_ns: int | None = None
    told: list[Any] = field(default_factory=list)  # Any: as the windows gave it
    connection: int = -1

    def state(self) -> list[Any]:  # Any: JSON values
        """As ``Session.of`` takes it."""
        who = [self.user, self.database, self.role, self.transport, self.begun, self.ended_ns]
        return [self.thread, self.host, self.port, self.first_ns, self.late, *who, self.told]

    @classmethod
    def of(cls, state: list[Any]) -> Session:  # Any: JSON values
        """The same again."""
        return resumed(cls, state)


class MariadbLog(ServerLog[Entry]):
    """One server's logs: ``[FEED=]ADDRESS:PORT=PATH[,PATH…][?zone=ZONE&user=NAME&password_file=PATH&ca=PATH&every=SECONDS]``.

    Its own counters: ``unplaced`` (sessions without a port), ``rows_unknown``, ``contradicted``, ``polls``, …
    """

    KIND = "mariadb-log"
    OPTIONS = ("zone", *LOGIN)
    TOGETHER = FILES_TOGETHER_MAX

    def _begin(self) -> None:
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._places: dict[int, Place] = {}
        self._asked_ns = 0
        self._partial = False
        self._forms: list[str] = []
        self._batch: list[Entry] = []
        self._time_ns = 0
        """The last time a general log in text has said; most of its lines have none."""
        *_, self._address, self._port = self._place
        self._zone = zone_of(self._told) or timezone.utc  # noqa: UP017  # The name of the parameter's type is the class.
        self._asks = Sessions.of(self._told, self._address, self._port)

    def counters(self) -> dict[str, int]:
        """What every log counts, the sessions that are followed, and whether the server logs only part of what is asked."""
        said = super().counters() | {"mariadb_log_sessions": len(self._sessions), "mariadb_log_partial": int(self._partial)}
        return said if self._asks is None else said | {f"mariadb_log_{name}": count for name, count in self._asks.counters().items()}

    def _kept(self) -> dict[str, Any]:  # Any: JSON values
        return {
            "sessions": [session.state() for session in self._sessions.values()],
            "places": {str(thread): list(place) for thread, place in self._places.items()},
            "asked_ns": self._asked_ns,
            "partial": self._partial,
            "forms": self._forms,
            "time_ns": self._time_ns,
        }

    def _resume(self, said: dict[str, Any]) -> None:  # Any: JSON values
        self._places = {int(thread): Place(*place) for thread, place in said["places"].items()}
        self._asked_ns, self._partial, self._forms, self._time_ns = said["asked_ns"], said["partial"], said["forms"], said["time_ns"]
        for state in said["sessions"]:
            session = Session.of(state)
            self._sessions[str(session.thread)] = session
            self._open(session)

    def batches(self, stopping: Callable[[], bool], *, follow: bool, sleep: Callable[[float], None] = time.sleep) -> Iterator[list[bytes]]:
        """As of every log; when it ends, nobody is asked any more.

        Raises:
            FeedError: as a log does.
        """
        try:
            yield from super().batches(stopping, follow=follow, sleep=sleep)
        finally:
            if self._asks is not None:
                self._asks.stop()

    # Files.

    def _format(self, path: Path, head: bytes) -> None:
        form = _form(head)
        if form is None:
            raise FeedError(f"{path}: neither server_audit's file nor a slow or general log, in text or as a table's CSV")
        if form == "empty":
            # Slow and general log name the server in the same words; until there is a record only the file's name tells.
            form = "slow" if "slow" in path.name else "general"
        self._know(form)

    def _know(self, form: str) -> None:
        if form not in self._forms:
            self._forms.append(form)

    def _cut(self, path: Path) -> Cut | None:
        try:
            with path.open("rb") as file:
                form = _form(file.read(1_024))
        except OSError:
            return None
        if form == "slow":
            return _cut_slow
        if form == "general":
            return _cut_general
        return None if form in (None, "empty") else cut_lines

    def _records(self, content: bytes) -> Iterator[tuple[int, bytes]]:
        form = _form(content)
        return _slow_records(content) if form == "slow" else _general_records(content) if form == "general" else lines(content)

    def _parsed(self, record: bytes) -> Entry | None:
        form = _form(record)
        if form == "empty":
            return None
        text = record.decode("utf-8", "replace")
        if form == "audit":
            return _audited(text, self._zone)
        if form == "slow":
            return _slow(text)
        if form in ("slow-table", "general-table"):
            return _tabled(text, form, self._zone)
        if form == "general":
            return _general(text, self._zone, self._time_ns)
        raise ValueError("no record of a known log")

    # What other sources say before a piece is read.

    def _ask(self) -> None:
        if self._asks is None:
            return
        found = self._asks.sample()
        if found is None:
            if self._asks.failure:
                self.example = f"process list: {self._asks.failure}"
            return
        self._partial = found.partial
        if found.places != self._places or any(str(thread) not in self._sessions for thread in found.places):
            self._settled = False
        self._places, self._asked_ns = found.places, found.time_ns

    # Records.

    def _heard(self, entry: Entry) -> None:
        """It waits for those of the other files: what is of one second is taken in the order of a session's life."""
        self._know(entry.form)
        if entry.form == "general":
            self._time_ns = entry.time_ns
        self._batch.append(entry)

    def _settle(self, *, idle: bool) -> None:
        batch, self._batch = self._batch, []
        order = {"connect": 0, "refused": 0, "said": 1, "other": 1, "end": 2}
        # Times of the text formats have whole seconds; the sort is stable within a file.
        batch.sort(key=lambda entry: (entry.time_ns // 10**9, order[entry.verb]))
        for entry in batch:
            self._say(entry)
        self._found()
        ended = [
            key for key, one in self._sessions.items() if one.ended_ns is not None and (idle or self._last_ns - one.ended_ns > SETTLE_NS)
        ]
        for key in ended:
            self._end(key, self._sessions.pop(key))
        self._settled = not any(one.ended_ns is not None for one in self._sessions.values())

    def _found(self) -> None:
        """Sessions of the process list that no line has told of, and, where no file tells of ends, those that are gone from it."""
        for thread, place in self._places.items():
            session = self._sessions.get(str(thread))
            if session is None:
                # The line of its login may not be read yet.
                if self._asked_ns - place.listed_ns > SETTLE_NS or not self._tells("connect"):
                    self._first(Entry(self._asked_ns, "list", thread, "other", place.user, place.host, place.port))
            elif session.ended_ns is None and session.port != place.port and (session.host, session.user) == (place.host, place.user):
                self._place_anew(session, place, self._asked_ns)
        if self._asks is not None and not self._tells("connect"):
            for session in self._sessions.values():
                if session.port and session.ended_ns is None and session.thread not in self._places:
                    session.ended_ns = max(self._asked_ns, self._last_ns)

    def _tells(self, verb: str) -> bool:
        """Whether there is a file that tells of this."""
        if verb == "rows":
            return any(form in ("slow", "slow-table") for form in self._forms)
        return any(form in ("audit", "general", "general-table") for form in self._forms)

    def _say(self, entry: Entry) -> None:
        if entry.host in ("localhost", "") and entry.user is not None and not entry.port:
            self._count("local")
            return
        key = str(entry.thread)
        session = self._sessions.get(key)
        if session is not None and self._is_another(entry, session):
            self._end(key, self._sessions.pop(key))
            session = None
        if session is None:
            if entry.verb == "end" or not entry.host or (entry.verb == "refused" and entry.form != "audit"):
                return
            session = self._first(entry)
            if session is None:
                return
        self._sessions.move_to_end(key)
        self._touched[key] = session
        entry.time_ns = max(entry.time_ns, session.first_ns)
        if entry.verb != "end" and entry.user and entry.user != session.user:
            if entry.form == "slow" and session.begun and self._tells("connect"):
                # In a text file a statement's own lines may look like a record: nobody is believed to be someone else there.
                self._count("contradicted")
                return
            session.user, session.role = entry.user, None
            self._identify(session, entry.time_ns)
        if entry.database is not None:
            session.database = entry.database or None
        if entry.verb == "connect":
            if session.begun is not None:
                # Another file told of it.
                session.transport = entry.transport or session.transport
                self._describe(session, entry.time_ns)
                return
            session.begun = entry.form
            if entry.transport is not None:
                session.transport = entry.transport
                self._describe(session, entry.time_ns)
            self._windows.add(session.connection, entry.time_ns, "connect", "client")
        elif entry.verb == "refused":
            if session.ended_ns is not None:
                return
            self._windows.add(session.connection, entry.time_ns, "refused", "client", messages=1)
            session.ended_ns = entry.time_ns
        elif entry.verb == "end":
            session.ended_ns = entry.time_ns
        elif entry.verb == "said":
            self._stated(entry, session)

    def _is_another(self, entry: Entry, session: Session) -> bool:
        """A number is used again when the server has started again."""
        if entry.verb == "connect":
            begins_here = session.begun != entry.form and entry.time_ns // 10**9 <= session.first_ns // 10**9 + 1
            return not (begins_here and (session.host, session.user) == (entry.host, entry.user))
        if entry.verb == "refused":
            return entry.form == "audit" and not (session.begun or "").startswith("general")
        if session.ended_ns is not None:
            return entry.time_ns > session.ended_ns + SETTLE_NS
        return bool(entry.host) and entry.host != session.host

    def _stated(self, entry: Entry, session: Session) -> None:
        if entry.error:
            if entry.error in REFUSED:
                for read in reads(entry.text, dialect="mysql", database=session.database):
                    self._windows.add(
                        session.connection, entry.time_ns, "refused", "client",
                        names=read.names, columns=read.columns, statement=read.fingerprint, messages=1,
                    )  # fmt: skip
            return
        if self._tells("rows") and entry.sent is None:
            # The slow log tells it too, with its rows.
            return
        # Half a character at the cut has become one of three bytes.
        whole = entry.form != "audit" or len(entry.text.encode()) not in AUDITED_BYTES
        said = reads(entry.text, dialect="mysql", database=session.database, whole=whole)
        for at, read in enumerate(said):
            kind, name = read.effect or ("", None)
            if kind == "role":
                session.role = None if name in (None, "NONE", "none") else name
                self._identify(session, entry.time_ns)
            elif kind == "path":
                session.database = name
            if read.operation == "connect" or kind == "prepare":
                self._windows.add(session.connection, entry.time_ns, "connect", "client", messages=1)
                continue
            if kind == "execute" and entry.form.startswith("general"):
                # The line "Execute" follows, with what was prepared.
                continue
            # The slow log has one line for each statement of a text; only one of them has the rows.
            self._counted(entry, session, read, last=at == len(said) - 1)

    def _counted(self, entry: Entry, session: Session, read: Read, *, last: bool) -> None:
        unknown = entry.sent is None or self._partial or not last
        moves = read.operation in MOVES and not read.server_side
        sent, affected = entry.sent or 0, entry.affected
        rows = 0
        if moves and not unknown:
            if read.data_from == "server":
                rows = sent
            elif sent:
                # RETURNING: the rows that come back are those that were changed.
                rows = affected or sent
                self._add(session, entry.time_ns, "select", "server", read, rows=sent, messages=0)
            elif affected is None:
                unknown = True
            else:
                rows = affected
                if read.replaces and affected > 1:
                    # A row that gave way is counted too, so how many came is not known.
                    unknown, rows = True, 0
        self._add(session, entry.time_ns, read.operation, read.data_from, read, rows=rows, messages=1)
        if read.operation == "call" and sent:
            self._windows.add(
                session.connection,
                entry.time_ns,
                "select",
                "server",
                names=["unknown"],
                columns=["*"],
                statement=read.fingerprint,
                rows=sent,
            )
        if (moves or read.operation == "call") and unknown:
            self._count("rows_unknown")
            self._windows.uncounted(session.connection, entry.time_ns, read.operation, read.data_from)

    # What the windows are told.

    def _first(self, entry: Entry) -> Session | None:
        if len(self._sessions) >= SESSIONS_MAX:
            _, oldest = self._sessions.popitem(last=False)
            self._end(str(oldest.thread), oldest)
            self._count("sessions_over")
        place = self._places.get(entry.thread)
        port = entry.port
        if not port and place is not None and place.host == entry.host and place.began_ns <= entry.time_ns:
            port = place.port
        begins = entry.verb in ("connect", "refused")
        # Sessions of one second without a port would be one flow: the number of each is in the digits that no log has.
        first_ns = entry.time_ns + entry.thread % 10**6
        session = Session(entry.thread, entry.host, port, first_ns, late=not begins, user=entry.user, database=entry.database)
        try:
            self._open(session)
        except ValueError:
            # Names where addresses are needed.
            self._count("unresolved")
            return None
        if not port:
            self._count("unplaced")
        self._sessions[str(entry.thread)] = session
        self._touched[str(entry.thread)] = session
        if not begins:
            # So that it is heard of, even if it says nothing.
            self._windows.add(session.connection, first_ns, "connect", "client")
        return session

    def _place_anew(self, session: Session, place: Place, time_ns: int) -> None:
        """Its port is known now: from here on it is the connection that others see too."""
        if session.port == 0:
            self._count("placed_late")
        self._windows.close(session.connection, max(time_ns, session.first_ns))
        session.port, session.told, session.first_ns = place.port, [], max(time_ns, session.first_ns)
        self._touched[str(session.thread)] = session
        self._open(session)
        self._windows.add(session.connection, session.first_ns, "connect", "client")

    def _open(self, session: Session) -> None:
        client, server = (session.host, session.port), (self._address, self._port)
        session.connection = self._windows.open(client, server, session.first_ns, protocol="mysql", opened_by="client")
        self._windows.go_on(session.connection, session.first_ns, session.told)
        self._describe(session, session.first_ns)
        self._identify(session, session.first_ns)

    def _describe(self, session: Session, time_ns: int) -> None:
        self._windows.describe(session.connection, time_ns, transport=session.transport or "unknown", joined_late=session.late)

    def _identify(self, session: Session, time_ns: int) -> None:
        account = session.user or None
        self._windows.identify(
            session.connection, time_ns, account=account, role=session.role, account_from="server-log" if account else None
        )

    def _add(self, session: Session, time_ns: int, operation: str, data_from: str, read: Read, *, rows: int, messages: int) -> None:
        self._windows.add(
            session.connection, time_ns, operation, data_from,
            names=read.names, columns=read.columns, statement=read.fingerprint, marks=read.marks, messages=messages, rows=rows,
        )  # fmt: skip

    def _end(self, key: str, session: Session) -> None:
        self._touched.pop(key, None)
        ended_ns = max(session.first_ns, session.ended_ns or self._last_ns)
        if not session.port:
            # Whoever joins a login without a port to a connection must hear of its end.
            self._windows.add(session.connection, ended_ns, "connect", "client")
        self._windows.close(session.connection, ended_ns)


# The formats.


def _form(head: bytes) -> Form | Literal["empty"] | None:
    """What a file, or a piece of one, is by how it begins; ``empty`` if so far it only names the server."""
    found = _BANNER.match(head)
    rest = head[found.end() :] if found else head
    if not rest:
        return "empty"
    if rest.startswith(b"# "):
        return "slow"
    if _TABLE_TIME.match(rest):
        # A user's name in brackets, then a number: the general log. A time: the slow one.
        return "general-table" if _GENERAL_ROW.match(rest) else "slow-table"
    if rest[:1].isdigit() and re.match(rb"\d{8} \d\d:\d\d:\d\d,", rest):
        return "audit"
    if re.match(rb"(?:\d{6} [ \d]\d:|\d{4}-\d\d-\d\dT|\t)", rest):
        return "general"
    # A banner of which only a part is there.
    return "empty" if b"\n" not in rest and found is not None and found.end() else None


def _cut_slow(content: bytes) -> int:
    """Records end where the next begins, or with the file, if it ends as a statement does."""
    if content.endswith(b";\n"):
        return len(content)
    heads = [found.start() for found in _SLOW_HEAD.finditer(content)]
    # The line of the time belongs to the record behind it.
    while len(heads) > 1 and content.startswith(b"# User", heads[-1]) and content.count(b"\n", heads[-2], heads[-1]) == 1:
        heads.pop()
    return heads[-1] if heads else 0


def _cut_general(content: bytes) -> int:
    """Whole lines; where more follows, up to the last that begins a record, as a statement may have many."""
    end = cut_lines(content)
    if len(content) < tail.PIECE_BYTES_MAX:
        return end
    last = max((found.start() for found in _GENERAL_HEAD.finditer(content, 0, end)), default=0)
    return last or (end if len(content) > tail.PIECE_BYTES_MAX else 0)


def _slow_records(content: bytes) -> Iterator[tuple[int, bytes]]:
    banner = _BANNER.match(content)
    first = banner.end() if banner else 0
    behind_time = False
    starts = []
    for found in _SLOW_HEAD.finditer(content, first):
        if not behind_time:
            starts.append(found.start())
        behind_time = content.startswith(b"# Time", found.start())
    if not starts or starts[0] > first:
        starts.insert(0, first)
    for at, behind in zip(starts, [*starts[1:], len(content)], strict=True):
        if behind > at:
            yield at, content[at:behind]


def _general_records(content: bytes) -> Iterator[tuple[int, bytes]]:
    """A statement of several lines is one record: what does not begin as a line does belongs to the one before."""
    first: int | None = None
    at = 0
    while (end := content.find(b"\n", at)) >= 0:
        if _GENERAL.match(content[at:end].decode("utf-8", "replace")):
            if first is not None:
                yield first, content[first:at]
            first = at
        elif _BANNER.fullmatch(content[at : end + 1]):
            if first is not None:
                yield first, content[first:at]
            first = None
        at = end + 1
    if first is not None:
        yield first, content[first:at]


def _audited(text: str, zone: tzinfo) -> Entry | None:
    found = _AUDIT.fullmatch(text)
    if found is None:
        raise ValueError("no line of server_audit")
    time_ns, user, thread = _local_ns(found[1], "%Y%m%d %H:%M:%S", zone), found[2], int(found[4])
    host, port = _host(found[3])
    verb, rest = found[6], found[7]
    if verb == "QUERY":
        query = _QUERY.fullmatch(rest)
        if query is None:
            raise ValueError("a statement without its end")
        return Entry(time_ns, "audit", thread, "said", user, host, port, query[1], _unescaped(query[2]), error=int(query[3]))
    if verb in ("CONNECT", "FAILED_CONNECT", "DISCONNECT"):
        kind: Literal["connect", "refused", "end"] = "connect" if verb == "CONNECT" else "end" if verb == "DISCONNECT" else "refused"
        return Entry(time_ns, "audit", thread, kind, user, host, port, rest.split(",")[0] or None)
    # The tables of a statement are in its text, and a change of user says nothing of the new one: the next line does.
    return None


def _slow(text: str) -> Entry | None:
    found = _SLOW.fullmatch(text)
    if found is None:
        if text.startswith("# ") and "\n# administrator command: " in text:
            return None
        raise ValueError("no record of a slow log")
    who = _WHO.fullmatch(found["who"])
    if who is None:
        raise ValueError("no user in a record")
    if found["text"].startswith("# administrator command: "):
        return None
    facts: dict[str, str] = dict(_FACT.findall(found["more"]))
    thread = int(found["id"] or facts["Thread_id"])
    affected = facts.get("Rows_affected")
    return Entry(
        int(found["stamp"]) * 10**9, "slow", thread, "said", who[1], who[3] or who[2], 0, facts.get("Schema") or found["use"] or None,
        found["text"].removesuffix("\n").removesuffix(";"), counted(facts["Rows_sent"]), None if affected is None else counted(affected),
    )  # fmt: skip


def _tabled(text: str, form: str, zone: tzinfo) -> Entry | None:
    """A row of ``mysql.slow_log`` or ``mysql.general_log`` as the storage engine CSV writes it: one line, nothing ambiguous."""
    fields = _row(text)
    who = _WHO.fullmatch(fields[1])
    if who is None:
        raise ValueError("no user in a row")
    time_ns, host = _local_ns(fields[0], "%Y-%m-%d %H:%M:%S.%f", zone), who[3] or who[2]
    if form == "general-table":
        return _spoken(time_ns, form, int(fields[2]), fields[4], fields[5], who[1], host)
    # start, user, query time, lock time, rows sent and examined, database, two ids, server's number, text, thread, rows affected.
    affected = counted(fields[12]) if len(fields) > 12 else None
    if fields[10].startswith("administrator command: "):
        return None
    return Entry(time_ns, form, int(fields[11]), "said", who[1], host, 0, fields[6] or None, fields[10], counted(fields[4]), affected)


def _general(text: str, zone: tzinfo, last_ns: int) -> Entry | None:
    head, _, more = text.partition("\n")
    found = _GENERAL.fullmatch(head)
    if found is None:
        raise ValueError("no line of a general log")
    if found["short"]:
        time_ns = _local_ns(found["short"].replace("  ", " 0"), "%y%m%d %H:%M:%S", zone)
    elif found["long"]:
        time_ns = int(datetime.fromisoformat(found["long"]).timestamp()) * 10**9
    else:
        time_ns = last_ns
    said = found["text"] + ("\n" + more.removesuffix("\n") if more.strip() else "")
    return _spoken(time_ns, "general", int(found["id"]), found["verb"], said, None, "")


def _spoken(time_ns: int, form: str, thread: int, verb: str, said: str, user: str | None, host: str) -> Entry | None:
    if verb in ("Connect", "Change user"):
        found = _LOGIN.fullmatch(said)
        if found is None:
            # "Access denied …": who it was said the line before.
            return Entry(time_ns, form, thread, "refused", None, host)
        by = found["by"]
        transport = "none" if by in ("TCP/IP", "TCP") else None
        kind: Literal["connect", "other"] = "connect" if verb == "Connect" else "other"
        return Entry(time_ns, form, thread, kind, found["user"], found["host"], 0, found["database"] or None, transport=transport)
    if verb == "Quit":
        return Entry(time_ns, form, thread, "end", None, host)
    if verb == "Init DB":
        return Entry(time_ns, form, thread, "other", user, host, 0, said)
    if verb in ("Query", "Execute"):
        return Entry(time_ns, form, thread, "said", user, host, 0, None, said)
    return Entry(time_ns, form, thread, "other", user, host)


def _host(text: str) -> tuple[str, int]:
    """From MariaDB 12.0 on the plugin writes the port too; an address of IPv6 has colons of its own."""
    host, colon, port = text.rpartition(":")
    if colon and port.isdecimal() and (host.count(":") == 0 or host.startswith("[") or host.count(":") == 7):
        return host.strip("[]"), counted(port, 65_535)
    return text, 0


def _unescaped(text: str) -> str:
    return _ESCAPED.sub(lambda found: _PLAIN.get(found[1], found[1]), text)


def _row(text: str) -> list[str]:
    """The fields of a row as the engine CSV writes them: texts in quotes with backslashes before what is special, numbers without."""
    fields, at = [], 0
    while True:
        found = _FIELD.match(text, at)
        if found is None:
            raise ValueError("no row of a table")
        fields.append(_unescaped(found[1]) if found[1] is not None else found[2])
        at = found.end() + 1
        if found.end() == len(text):
            return fields
        if text[found.end()] != ",":
            raise ValueError("no row of a table")


def _local_ns(text: str, form: str, zone: tzinfo) -> int:
    moment = datetime.strptime(text, form).replace(tzinfo=zone)
    return int(moment.replace(microsecond=0).timestamp()) * 10**9 + moment.microsecond * 1_000
