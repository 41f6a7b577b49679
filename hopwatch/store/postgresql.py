"""The store at scale: PostgreSQL, written in batches by any number of programs at once.

A batch goes by COPY into a temporary table and from there into the real one, ON CONFLICT DO NOTHING: COPY is the fastest way in,
and the id of an event decides, not who brings it or how often. Windows, of which there are most and few are brought twice, go straight
into their table, and by way of the temporary one only where something of a batch was there before. Tables that grow are cut into
days (``schema.PARTITIONED``); a day is made when its first event comes, and goes as a whole when it is older than it may be kept.

A finding is kept twice: ``findings`` holds one row for each, its latest word, and ``finding_events`` every word that was said.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, ClassVar, Final

import psycopg
from psycopg import sql

from hopwatch.store import Event, StoreError, StoreFull
from hopwatch.store.pseudonyms import PSEUDONYM_PREFIX, Pseudonyms
from hopwatch.store.rows import Row, clean, finding_row, heartbeat_row, loss_row, sortable
from hopwatch.store.schema import PARTITIONED, POSTGRESQL, POSTGRESQL_VERSION

CONNECT_S: Final = 10
SILENCE: Final = {"tcp_user_timeout": 15_000, "keepalives_idle": 5, "keepalives_interval": 5, "keepalives_count": 3}
"""A line that was cut is noticed within some twenty seconds (libpq 34.1.2), not when the system gives up after hours."""

DAYS_AROUND: Final = 366
"""Days before and after today that get a table of their own; what says another day is a wrong clock and lies in the table OTHER."""

_SCHEMA_LOCK: Final = 0x686F7077
"""An advisory lock: two programs that start at once make the tables one after the other."""

Connection = psycopg.Connection[tuple[Any, ...]]  # Any: SQL values.

FULL: Final = ("53100", "53200")  # disk_full, out_of_memory


def today() -> date:
    """The day it is in UTC, as the days of the tables are."""
    return datetime.now(UTC).date()


class StoreAway(StoreError):
    """The database cannot be reached, or is ending; what was to be written may be written later."""


class StoreRefused(StoreError):
    """The database is there and refuses what was to be written, as it is."""


def opened(address: str, application: str) -> Connection:
    """A connection as every program of ours has one: each statement by itself, and a silent server is noticed.

    Raises:
        StoreAway: nobody answers.
    """
    with spoken():
        # A database that says SQL_ASCII of itself would give bytes where there is text.
        said = {"application_name": application, "client_encoding": "UTF8"}
        more: dict[str, str | int] = {**said, "connect_timeout": CONNECT_S, **SILENCE}
        return psycopg.connect(psycopg.conninfo.make_conninfo(address, **more), autocommit=True)


def connect(address: str, application: str) -> Connection:
    """A connection to ``address`` (a connection string or URI, libpq 34.1.1), its tables made.

    Raises:
        StoreAway: nobody answers.
        StoreError: the tables are of another version.
    """
    db = opened(address, application)
    try:
        with spoken():
            _prepare(db)
    except BaseException:
        db.close()
        raise
    return db


def _prepare(db: Connection) -> None:
    with db.transaction():
        db.execute("SELECT pg_advisory_xact_lock(%s)", (_SCHEMA_LOCK,))
        kept = kept_version(db)
        if kept == POSTGRESQL_VERSION:
            return
        # What an earlier version made is left as it is, and what it lacks is added.
        for statement in POSTGRESQL:
            db.execute(statement.encode())
        db.execute("DELETE FROM schema_version")
        db.execute("INSERT INTO schema_version VALUES (%s)", (POSTGRESQL_VERSION,))


def kept_version(db: Connection) -> int | None:
    """The version of the tables that are there; None if none are.

    Raises:
        StoreError: a later version made them.
    """
    row = db.execute("SELECT to_regclass('schema_version')").fetchone()
    kept = None if row is None or row[0] is None else db.execute("SELECT version FROM schema_version").fetchone()
    if kept is not None and kept[0] > POSTGRESQL_VERSION:
        raise StoreError(f"postgresql: schema version {kept[0]}, expected {POSTGRESQL_VERSION}")
    return None if kept is None else int(kept[0])


@contextlib.contextmanager
def spoken() -> Iterator[None]:
    """What PostgreSQL says as this room's errors, one line each; never the values."""
    try:
        yield
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        if getattr(error, "sqlstate", None) in FULL:
            raise StoreFull(f"postgresql: {_line(error)}") from None
        raise StoreAway(f"postgresql: {_line(error)}") from None
    except psycopg.errors.ReadOnlySqlTransaction as error:  # A standby that is not promoted yet.
        raise StoreAway(f"postgresql: {_line(error)}") from None
    except psycopg.DataError as error:
        # Its message quotes the value.
        raise StoreRefused(f"postgresql: {type(error).__name__}") from None
    except psycopg.Error as error:
        raise StoreRefused(f"postgresql: {_line(error)}") from None


def _line(error: psycopg.Error) -> str:
    """The first line: what comes after it quotes rows."""
    return str(error.diag.message_primary or error).strip().split("\n")[0]


@dataclass(frozen=True, slots=True)
class ClassDays:
    """How many days what moved data of a class is kept; of every plant that has such a class, if none is named."""

    plant: str | None
    name: str
    days: int


@dataclass(frozen=True, slots=True)
class Said:
    """One event as it came off the bus: its line, and the line read as JSON."""

    line: bytes
    event: Event


class Hiding:
    """Pseudonyms for many plants: each declares accounts of its own."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._nobody = Pseudonyms(key)
        self._plants: dict[str, Pseudonyms] = {}
        self._clear: dict[str, Callable[[str], bool]] = {}

    def declare(self, plant: str, is_clear: Callable[[str], bool]) -> None:
        """Accounts of the plant that ``is_clear`` vouches for rest as they are; of a plant never declared none does."""
        known: dict[str, bool] = {}

        def looked_up(account: str) -> bool:
            if (found := known.get(account)) is None:
                if len(known) >= ACCOUNTS_MAX:
                    known.clear()
                found = known[account] = is_clear(account)
            return found

        self._clear[plant] = looked_up
        self._plants[plant] = Pseudonyms(self._key, looked_up)

    def rewritten(self, event: Event) -> dict[str, Any]:  # Any: JSON values.
        """The event without the names of persons."""
        return self._plants.get(str(event.get("plant")), self._nobody).rewritten(event)

    def hides(self, event: Event) -> bool:
        """Whether the event must be rewritten."""
        if (
            event.get("kind") == "finding"
            or event.get("role")
            or event.get("on_behalf_of")
            or event.get("who")
            or event.get("operation") == "admin"
        ):
            return True
        account = event.get("account")
        if account is None:
            return False
        clear = self._clear.get(str(event.get("plant")))
        return not (clear is not None and isinstance(account, str) and clear(account))


EVENTS: Final = ("flows", "losses", "heartbeats", "finding_events")
"""Tables of what comes off the bus."""

ACCOUNTS_MAX: Final = 65_536
"""Accounts of a plant whose being clear is remembered."""


class Connected:
    """One connection, made again when the database went away; ``staged`` are the tables written by way of a temporary one."""

    application: ClassVar[str]
    staged: ClassVar[tuple[str, ...]]

    def __init__(self, address: str, today: Callable[[], date]) -> None:
        self._address, self._today = address, today
        self._db: Connection | None = None
        self._days: set[tuple[str, str]] = set()
        """Tables and days that are known to be there."""

        self.reconnect()

    def reconnect(self) -> None:
        """A new connection in place of the old one.

        Raises:
            StoreError: the database cannot be reached or was made by another version.
        """
        self.close()
        self._db = connect(self._address, self.application)
        self._days.clear()
        with spoken():
            for table in self.staged:
                self._db.execute(
                    sql.SQL("CREATE TEMPORARY TABLE {} (LIKE {}) ON COMMIT DELETE ROWS").format(_new(table), sql.Identifier(table))
                )

    def close(self) -> None:
        """Let go of the database; idempotent."""
        if self._db is not None:
            with contextlib.suppress(psycopg.Error):
                self._db.close()
            self._db = None

    @property
    def _open(self) -> Connection:
        if self._db is None:
            raise StoreAway("postgresql: not connected")
        return self._db

    def _make_days(self, table: str, rows: Iterable[Row]) -> None:
        """The tables of the days that the rows lie in."""
        place = _PLACES[table]
        self._make_named(table, {row[place][:10] for row in rows})

    def _make_named(self, table: str, days: Iterable[str]) -> None:
        for day in days:
            if (table, day) not in self._days:
                make_day(self._open, table, PARTITIONED[table], day, self._today())
                self._days.add((table, day))


class PostgresStore(Connected):
    """Events and findings in PostgreSQL; one connection, one thread."""

    application = "hopwatch store"
    staged = ("flows", "losses", "heartbeats", "finding_events", "findings")

    def __init__(self, address: str, hiding: Hiding, *, today: Callable[[], date] = today) -> None:
        """Connect, and make what is missing.

        Raises:
            StoreError: the database cannot be reached or was made by another version.
        """
        self._hiding = hiding
        super().__init__(address, today)

    def add(self, events: Sequence[Said]) -> int:
        """Keep the events, all or none; returns how many were new (a finding counts by each of its words).

        Raises:
            StoreAway: the database went away; nothing is kept, add them again after ``reconnect``.
            StoreRefused: something in them cannot be kept; without it the others can.
        """
        rows = rows_of(self._hiding, events)
        with spoken():
            for table in PARTITIONED.keys() & rows.keys():
                self._make_days(table, rows[table])
            with self._open.transaction():
                return add_rows(self._open, rows)

    def offsets(self, consumer: str) -> dict[tuple[str, int], int]:
        """The offset to read next, by topic and partition, of what ``consumer`` has finished."""
        with spoken():
            rows = self._open.execute("SELECT topic, number, next FROM store_offsets WHERE consumer = %s", (consumer,)).fetchall()
        return {(str(topic), int(number)): int(offset) for topic, number, offset in rows}

    def finished(self, consumer: str, offsets: Mapping[tuple[str, int], int]) -> None:
        """``consumer`` has finished everything below these offsets; they never move back."""
        places = sorted(offsets)
        with spoken():
            self._open.execute(
                "INSERT INTO store_offsets AS kept SELECT %s, * FROM unnest(%s::text[], %s::int[], %s::bigint[])"
                " ON CONFLICT (consumer, topic, number) DO UPDATE SET next = GREATEST(kept.next, excluded.next)",
                (consumer, [topic for topic, _ in places], [number for _, number in places], [offsets[place] for place in places]),
            )

    def keep_only(self, days: Mapping[str, int], person_days: int | None = None, classes: Iterable[ClassDays] = ()) -> dict[str, int]:
        """Let go of what is older than so many days, by table; of persons and of ``classes`` of data sooner, if they say so.

        Returns how many days (and of ``findings``, persons and classes how many rows) went, by table.
        """
        gone: dict[str, int] = {}
        today = self._today()
        with spoken():
            for table in PARTITIONED:
                if table not in days:
                    continue
                oldest = (today - timedelta(days=days[table])).isoformat()
                for name, day in self._days_of(table):
                    if day < oldest:
                        self._open.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(name)))
                        self._days.discard((table, day))
                        gone[table] = gone.get(table, 0) + 1
                column = sql.Identifier(PARTITIONED[table])
                other = sql.Identifier(f"{table}_other")
                self._open.execute(sql.SQL("DELETE FROM {} WHERE {} < %s").format(other, column), (oldest,))
            if "findings" in days:
                oldest = (today - timedelta(days=days["findings"])).isoformat()
                done = self._open.execute("DELETE FROM findings WHERE last_seen < %s", (oldest,))
                gone["findings"] = done.rowcount
            if person_days is not None:
                oldest = (today - timedelta(days=person_days)).isoformat()
                gone["flows of persons"] = self._forget_persons((today - timedelta(days=person_days)).isoformat())
            for one in classes:
                oldest = (today - timedelta(days=one.days)).isoformat()
                for kind, count in self._forget_class(one.plant, one.name, oldest).items():
                    name = f"{kind} of class {one.name}"
                    gone[name] = gone.get(name, 0) + count
            if "findings" in days or gone:
                self._open.execute(
                    "DELETE FROM finding_changes c WHERE NOT EXISTS (SELECT 1 FROM findings f WHERE f.finding_id = c.finding_id)"
                )
        return {name: count for name, count in gone.items() if count}

    def _forget_persons(self, oldest: str) -> int:
        """Flows of accounts that may be persons, and what was said of them."""
        with self._open.transaction():
            persons = f"%{PSEUDONYM_PREFIX}%"
            self._open.execute(
                "DELETE FROM judgements j USING flows f WHERE f.start_time < %s AND f.account LIKE %s"
                " AND j.event_id = f.event_id AND j.start_time = f.start_time",
                (oldest, f"{PSEUDONYM_PREFIX}%"),
            )
            done = self._open.execute("DELETE FROM flows WHERE start_time < %s AND account LIKE %s", (oldest, f"{PSEUDONYM_PREFIX}%"))
            # What names one may be said of a role, too; the verdicts of such windows go with it.
            self._forget_outcomes("day_time < %s AND (judgement LIKE %s OR who LIKE %s)", (oldest, persons, persons))
        return done.rowcount

    def _forget_class(self, plant: str | None, name: str, oldest: str) -> dict[str, int]:
        """Flows that moved data of the class, what was said of them, and findings about it."""
        which, values = "o.day_time < %s AND %s = ANY(o.classes)", (oldest, name)
        ours = "" if plant is None else " AND plant = %s"
        more = () if plant is None else (plant,)
        gone: dict[str, int] = {}
        with self._open.transaction():
            done = self._open.execute(
                "DELETE FROM flows f USING judgements j, outcomes o WHERE "
                f"{which}{ours.replace('plant', 'o.plant')} AND j.start_time < %s AND j.outcome = o.outcome"
                " AND left(j.start_time, 10) = o.day_time AND f.event_id = j.event_id AND f.start_time = j.start_time".encode(),
                (*values, *more, oldest),
            )
            gone["flows"] = done.rowcount
            self._forget_outcomes(f"{which.replace('o.', '')}{ours}", (*values, *more))
            # A class is a name of the declaration: letters, digits, hyphen and underscore. What a finding quotes has its marks escaped.
            naming = rf'"classes"\s*:\s*\[[^\]]*"{re.escape(name)}"'
            for table in ("finding_events", "findings"):
                done = self._open.execute(
                    f"DELETE FROM {table} WHERE last_seen < %s AND event ~ %s{ours}".encode(), (oldest, naming, *more)
                )
                gone[table] = done.rowcount
        return gone

    def _forget_outcomes(self, where: str, values: tuple[Any, ...]) -> None:  # Any: SQL values.
        self._open.execute(
            "WITH gone AS (DELETE FROM outcomes WHERE "
            f"{where} RETURNING outcome, day_time) DELETE FROM judgements j USING gone"
            " WHERE j.outcome = gone.outcome AND left(j.start_time, 10) = gone.day_time".encode(),
            values,
        )

    def _days_of(self, table: str) -> list[tuple[str, str]]:
        """The day tables there are, each with its day."""
        rows = self._open.execute(
            "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = %s::regclass", (table,)
        ).fetchall()
        found = [(str(name), str(name).removeprefix(f"{table}_")) for (name,) in rows]
        return sorted((name, f"{day[:4]}-{day[4:6]}-{day[6:]}") for name, day in found if day.isdigit())


def make_day(db: Connection, table: str, column: str, day: str, today: date) -> None:
    """A table for the day, if it is one of ours; what lay among the others moves into it."""
    try:
        first = date.fromisoformat(day)
    except ValueError:
        return
    if abs((first - today).days) > DAYS_AROUND:
        return
    name = f"{table}_{first:%Y%m%d}"
    row = db.execute("SELECT to_regclass(%s)", (name,)).fetchone()
    if row is not None and row[0] is not None:
        return
    last = (first + timedelta(days=1)).isoformat()
    names = {"part": sql.Identifier(name), "whole": sql.Identifier(table), "other": sql.Identifier(f"{table}_other"),
             "column": sql.Identifier(column), "first": sql.Literal(day), "last": sql.Literal(last)}  # fmt: skip
    # Whoever waited for the lock may still not see the table that was made meanwhile: its catalog cache is as old as its transaction.
    with contextlib.suppress(psycopg.errors.DuplicateTable), db.transaction():
        db.execute("SELECT pg_advisory_xact_lock(%s)", (_SCHEMA_LOCK,))
        row = db.execute("SELECT to_regclass(%s)", (name,)).fetchone()
        if row is not None and row[0] is not None:
            return
        db.execute(sql.SQL("CREATE TABLE {part} (LIKE {whole} INCLUDING ALL)").format(**names))
        db.execute(
            sql.SQL(
                "WITH moved AS (DELETE FROM {other} WHERE {column} >= {first} AND {column} < {last} RETURNING *)"
                " INSERT INTO {part} SELECT * FROM moved"
            ).format(**names)
        )
        db.execute(sql.SQL("ALTER TABLE {whole} ATTACH PARTITION {part} FOR VALUES FROM ({first}) TO ({last})").format(**names))


def rows_of(
    hiding: Hiding, events: Iterable[Said], tables: Iterable[str] = (*EVENTS, "findings"), *, own: bool = False
) -> dict[str, list[Row]]:
    """The events as rows of their tables, names of persons hidden.

    ``own``: the lines were made here and say what their events say and nothing else (no name twice, RFC 8259, 4), so that the line of
    an event in which nothing had to be hidden is kept as it is.

    Raises:
        StoreRefused: an event lacks what a column needs.
    """
    rows: dict[str, list[Row]] = {table: [] for table in tables}
    for said in events:
        event = said.event
        try:
            shown = hiding.rewritten(event) if hiding.hides(event) else event
            if shown is not event and not (own and shown == event):
                event = shown
                whole = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
            else:
                whole = said.line.decode()
            kind = event["kind"]
            rows[_TABLE[kind]].append(clean(_ROWS[kind](event, whole)))
            if kind == "finding":
                rows["findings"].append(clean(finding_row(event, whole)))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            # Which field, never what stood in it.
            raise StoreRefused(f"event without what the store needs: {type(error).__name__}") from None
    return rows


def add_rows(db: Connection, rows: Mapping[str, Sequence[Row]]) -> int:
    """Put rows into their tables inside the caller's transaction; the temporary ``new_`` tables must be there."""
    new = 0
    for table, some in rows.items():
        if not some:
            continue
        if table == "flows":
            new += _straight(db, table, lines_of(some), len(some), _insert(table))
            continue
        with db.cursor() as cursor:
            with cursor.copy(sql.SQL("COPY {} FROM STDIN").format(_new(table))) as copy:
                for row in some:
                    copy.write_row(row)
            cursor.execute(_UPSERT_FINDINGS if table == "findings" else _insert(table))
            new += 0 if table == "findings" else cursor.rowcount
    return new


def add_judgements(db: Connection, lines: str) -> None:
    """Put lines of COPY's text format into ``judgements`` inside the caller's transaction."""
    if lines:
        # A window is judged once, as a rule.
        _straight(db, "judgements", lines, 0, _UPSERT_JUDGEMENTS)


def _straight(db: Connection, table: str, lines: str, count: int, instead: sql.Composed | bytes) -> int:
    """COPY the lines, ``count`` of them, into the table; where one was there before, into the temporary table and on by ``instead``.

    Returns how many were new.
    """
    try:
        with db.transaction(), db.cursor() as cursor, cursor.copy(sql.SQL("COPY {} FROM STDIN").format(sql.Identifier(table))) as copy:
            copy.write(lines)
    except psycopg.errors.UniqueViolation:
        with db.cursor() as cursor:
            with cursor.copy(sql.SQL("COPY {} FROM STDIN").format(_new(table))) as copy:
                copy.write(lines)
            cursor.execute(instead)
            return cursor.rowcount
    return count


def lines_of(rows: Iterable[Row]) -> str:
    """Rows of texts and numbers in COPY's text format (PostgreSQL 15, COPY, Text Format).

    One text for all: a row at a time costs half as much again.
    """
    lines = []
    for row in rows:
        line = "\t".join([NULL if value is None else value if type(value) is str else str(value) for value in row])
        if line.count("\\") > row.count(None) or "\n" in line or "\r" in line or line.count("\t") >= len(row):
            line = "\t".join([NULL if value is None else escaped(str(value)) for value in row])
        lines.append(line)
    lines.append("")
    return "\n".join(lines)


def escaped(value: str) -> str:
    """A text of any characters, as COPY reads it (PostgreSQL 15, COPY, Text Format)."""
    return value.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


NULL: Final = r"\N"


# Read out of the text: jsonb refuses the NUL that a name may hold as an escape.
_COUNTED: Final = r"""COALESCE(substring({} from '"windows"\s*:\s*([0-9]{{1,18}})')::bigint, 0)"""

# Which findings have changed is noted with the transaction's number, for who reads them from where it stopped (``alerts``).
# The latest word holds; of two words of one moment the one that has counted more. When it was first seen only moves back.
_UPSERT_FINDINGS: Final = f"""
    WITH changed AS (INSERT INTO findings AS kept
        SELECT DISTINCT ON (finding_id) * FROM new_findings ORDER BY finding_id, last_seen DESC, {_COUNTED.format("event")} DESC
    ON CONFLICT (finding_id) DO UPDATE SET
        severity = excluded.severity, last_seen = excluded.last_seen, first_seen = LEAST(kept.first_seen, excluded.first_seen),
        event = excluded.event
    WHERE excluded.last_seen > kept.last_seen
        OR (excluded.last_seen = kept.last_seen AND {_COUNTED.format("excluded.event")} >= {_COUNTED.format("kept.event")})
    RETURNING finding_id)
    INSERT INTO finding_changes SELECT finding_id, pg_current_xact_id() FROM changed
    ON CONFLICT (finding_id) DO UPDATE SET changed = excluded.changed""".encode()


# A window judged anew shows what was said last; what it moved was counted the first time.
_UPSERT_JUDGEMENTS: Final = b"""
    INSERT INTO judgements AS kept SELECT DISTINCT ON (event_id, start_time) * FROM new_judgements
    ON CONFLICT (event_id, start_time) DO UPDATE SET outcome = excluded.outcome, finding_id = excluded.finding_id, depth = excluded.depth,
        row_count = COALESCE(NULLIF(excluded.row_count, 0), kept.row_count),
        byte_count = COALESCE(NULLIF(excluded.byte_count, 0), kept.byte_count)"""


def _insert(table: str) -> sql.Composed:
    return sql.SQL("INSERT INTO {} SELECT * FROM {} ON CONFLICT DO NOTHING").format(sql.Identifier(table), _new(table))


def _new(table: str) -> sql.Identifier:
    return sql.Identifier(f"new_{table}")


def _flow_row(event: Event, whole: str) -> Row:
    return (
        event["event_id"], event["flow_id"], event["sequence"], event["plant"], event["agent"],
        sortable(event["start"]), sortable(event["end"]), event["source"]["address"], event["destination"]["address"],
        event.get("protocol"), event.get("account"), event.get("operation"), None, None, None, None,
        event.get("rows", 0), event.get("bytes", 0), "{}", whole,
    )  # fmt: skip


def _finding_event_row(event: Event, whole: str) -> Row:
    values = [event[name] for name in ("event_id", "finding_id", "plant", "verdict")]
    return (*values, sortable(event["last_seen"]), whole)


_TABLE: Final = {"flow": "flows", "loss": "losses", "heartbeat": "heartbeats", "finding": "finding_events"}
_ROWS: Final[dict[str, Callable[[Event, str], Row]]] = {
    "flow": _flow_row,
    "loss": loss_row,
    "heartbeat": heartbeat_row,
    "finding": _finding_event_row,
}
_PLACES: Final = {"flows": 5, "losses": 3, "heartbeats": 3, "finding_events": 4}
"""Where in a row the time stands that decides its day."""
