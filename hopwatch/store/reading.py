"""What is asked of a store, in the SQL that SQLite and PostgreSQL share: lists, one record by its id, and the history in order."""

from __future__ import annotations

import heapq
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Any, ClassVar, Final

from hopwatch.store import (
    DEPTHS_SUMMED_MAX,
    ENDS_MAX,
    GROUPS_MAX,
    ID_CHARACTERS_MIN,
    WINDOWS_SUMMED_MAX,
    Depth,
    IdUnknown,
    Movement,
    Query,
)
from hopwatch.store.rows import sortable

CANDIDATES_MAX: Final = 5

Row = Sequence[Any]  # Any: SQL values.

_FINDING_ID = re.compile(r"(?:F-)?[0-9a-f]{8,}", re.IGNORECASE)

_HISTORY: Final = {
    "flow": ("start_time", "event, judgement", "start_time, flow_id, sequence"),
    "loss": ("start_time", "event, NULL", "start_time, event_id"),
    "heartbeat": ("seen_time", "event, NULL", "seen_time, event_id"),
}
_TABLES: Final = {"loss": "losses", "heartbeat": "heartbeats"}


class Reading(ABC):
    """A store as it is read; a ``?`` stands for a value, and no value ever becomes SQL text."""

    flows_from: ClassVar[str] = "flows"
    """Where flows stand with their judgements."""

    read_depth: ClassVar[tuple[str, str]] = ("json_extract(event, '$.depth')", "json_extract(event, '$.completeness.state')")
    """What takes depth and state out of an event's text."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What a message calls the store; no password."""

    @abstractmethod
    def _rows(self, sql: str, values: Iterable[Any] = ()) -> Sequence[Row]: ...  # Any: SQL values.

    @abstractmethod
    def _each(self, sql: str, values: Iterable[Any] = ()) -> Iterator[Row]:  # Any: SQL values.
        """The rows one after the other, in bounded memory."""

    @abstractmethod
    def _spellings(self, account: str) -> Sequence[str]:
        """What may rest for an account: which accounts were clear when they were kept is not known when they are asked for."""

    def flows(self, query: Query) -> list[dict[str, Any]]:  # Any: JSON values.
        """Flow events, newest first, each with its judgement under ``judgement``."""
        where, values = self._where(query, time="start_time", account="account", addresses=("source", "destination"))
        rows = self._rows(
            f"SELECT event, judgement FROM {self.flows_from}{where} ORDER BY start_time DESC, sequence DESC LIMIT ?",
            (*values, query.limit),
        )
        return [_judged(event, judgement) for event, judgement in rows]

    def findings(self, query: Query) -> list[dict[str, Any]]:  # Any: JSON values.
        """Findings, the last updated first."""
        where, values = self._where(query, time="last_seen", account="who", addresses=("source", "destination"), without=("protocol",))
        rows = self._rows(f"SELECT event FROM findings{where} ORDER BY last_seen DESC, finding_id LIMIT ?", (*values, query.limit))
        return [json.loads(event) for (event,) in rows]

    def losses(self, query: Query) -> list[dict[str, Any]]:  # Any: JSON values.
        """Losses, newest first."""
        where, values = self._where(
            Query(plant=query.plant, since=query.since, until=query.until), time="start_time", account="", addresses=()
        )
        rows = self._rows(f"SELECT event FROM losses{where} ORDER BY start_time DESC LIMIT ?", (*values, query.limit))
        return [json.loads(event) for (event,) in rows]

    def history(
        self, since: str | None = None, until: str | None = None, *, plant: str | None = None, kinds: Collection[str] = ("flow",)
    ) -> Iterator[dict[str, Any]]:  # Any: JSON values.
        """What began at or after ``since`` and before ``until`` (RFC 3339), in the order of time and in bounded memory.

        ``kinds`` are of flow, loss and heartbeat. A flow bears what was said of it under ``judgement``, None if nothing was;
        accounts are as they rest: those of persons as pseudonyms.
        """
        query = Query(plant=plant, since=since, until=until)
        streams = [self._kept(kind, query) for kind in sorted(kinds)]
        return (event for _, event in heapq.merge(*streams, key=itemgetter(0))) if len(streams) > 1 else (event for _, event in streams[0])

    def _kept(self, kind: str, query: Query) -> Iterator[tuple[str, dict[str, Any]]]:  # Any: JSON values.
        time, columns, order = _HISTORY[kind]
        where, values = self._where(query, time=time, account="", addresses=(), without=("verdict", "hop", "protocol"))
        table = self.flows_from if kind == "flow" else _TABLES[kind]
        for moment, event, judgement in self._each(f"SELECT {time}, {columns} FROM {table}{where} ORDER BY {order}", values):
            yield moment, _judged(event, judgement) if kind == "flow" else json.loads(event)

    def newest(self, plant: str) -> str | None:
        """When the last window of the plant began; None before the first."""
        # The index by time is walked from its end: the first row of the plant is found at once.
        rows = self._rows("SELECT start_time FROM flows WHERE plant = ? ORDER BY start_time DESC LIMIT 1", (plant,))
        return str(rows[0][0]) if rows else None

    def movements(self, plant: str, since: str, until: str) -> list[Movement]:
        """What moved in the windows that began in that time, the most bytes first; of the newest WINDOWS_SUMMED_MAX of them."""
        rows = self._rows(
            f"""SELECT m.source, m.destination, m.protocol, m.account, m.operation, m.verdict, m.severity, m.hop, m.finding_id,
                    m.windows, m.row_total, m.byte_total, m.first_time, m.last_time, f.source, f.destination
                FROM (SELECT source, destination, protocol, account, operation, verdict, severity, hop, finding_id,
                        COUNT(*) AS windows, SUM(row_count) AS row_total, SUM(byte_count) AS byte_total,
                        MIN(start_time) AS first_time, MAX(end_time) AS last_time
                    FROM (SELECT source, destination, protocol, account, operation, verdict, severity, hop, finding_id,
                            row_count, byte_count, start_time, end_time
                        FROM {self.flows_from} WHERE plant = ? AND start_time >= ? AND start_time < ?
                        ORDER BY start_time DESC LIMIT {WINDOWS_SUMMED_MAX}) AS newest
                    GROUP BY source, destination, protocol, account, operation, verdict, severity, hop, finding_id
                    ORDER BY SUM(byte_count) DESC LIMIT {GROUPS_MAX}) AS m
                LEFT JOIN findings f ON f.finding_id = m.finding_id ORDER BY m.byte_total DESC, m.first_time""",
            (plant, sortable(since), sortable(until)),
        )
        return [_movement(row) for row in rows]

    def depths(self, plant: str, since: str, until: str) -> list[Depth]:
        """How deep those windows were read; of the newest DEPTHS_SUMMED_MAX of them."""
        depth, state = self.read_depth
        rows = self._rows(
            f"""SELECT agent, source, destination, hop, verdict, depth, state, COUNT(*), SUM(byte_count)
                FROM (SELECT agent, source, destination, hop, verdict, {depth} AS depth, {state} AS state, byte_count
                    FROM {self.flows_from} WHERE plant = ? AND start_time >= ? AND start_time < ?
                    ORDER BY start_time DESC LIMIT {DEPTHS_SUMMED_MAX}) AS newest
                GROUP BY agent, source, destination, hop, verdict, depth, state ORDER BY 8 DESC LIMIT {GROUPS_MAX}""",
            (plant, sortable(since), sortable(until)),
        )
        return [
            Depth(agent, source, destination, hop, verdict, read or "blind", kept or "complete", int(windows), int(count))
            for agent, source, destination, hop, verdict, read, kept, windows, count in rows
        ]

    def heartbeats(self, plant: str, since: str) -> list[dict[str, Any]]:  # Any: JSON values.
        """The last heartbeat of each agent that was heard since."""
        rows = self._rows(
            f"""SELECT h.event FROM heartbeats h JOIN (SELECT agent, MAX(seen_time) AS latest FROM heartbeats
                    WHERE plant = ? AND seen_time >= ? GROUP BY agent) AS l ON h.agent = l.agent AND h.seen_time = l.latest
                WHERE h.plant = ? AND h.seen_time >= ? ORDER BY h.agent LIMIT {GROUPS_MAX}""",
            (plant, sortable(since), plant, sortable(since)),
        )
        return [json.loads(event) for (event,) in rows]

    def between(
        self,
        plant: str,
        since: str,
        until: str,
        ends: Collection[tuple[str, str]],
        said: Collection[tuple[str | None, str | None]],
        limit: int,
    ) -> list[dict[str, Any]]:  # Any: JSON values.
        """The newest flows between pairs of addresses with one of these hops and verdicts, each with its judgement."""
        terms = ["plant = ?", "start_time >= ?", "start_time < ?"]
        values: list[Any] = [plant, sortable(since), sortable(until)]  # Any: SQL values.
        asked = list(ends)[:ENDS_MAX]
        terms.append("(" + " OR ".join(["(source = ? AND destination = ?)"] * len(asked)) + ")")
        values += [address for pair in asked for address in pair]
        either = []
        for hop, verdict in said:
            either.append(
                " AND ".join(f"{name} IS NULL" if value is None else f"{name} = ?" for name, value in (("hop", hop), ("verdict", verdict)))
            )
            values += [value for value in (hop, verdict) if value is not None]
        terms.append("(" + " OR ".join(f"({one})" for one in either) + ")")
        if not asked or not either:
            return []
        rows = self._rows(
            f"SELECT event, judgement FROM {self.flows_from} WHERE {' AND '.join(terms)} ORDER BY start_time DESC, sequence DESC LIMIT ?",
            (*values, limit),
        )
        return [_judged(event, judgement) for event, judgement in rows]

    def find(self, id_prefix: str) -> dict[str, Any]:  # Any: JSON values.
        """The one finding, flow (by event, or its last window by flow) or loss whose id starts so."""
        if not _FINDING_ID.fullmatch(id_prefix):
            raise IdUnknown(f"id {id_prefix}: expected F- and hexadecimal digits, or {ID_CHARACTERS_MIN} or more hexadecimal digits")
        digits = id_prefix.removeprefix("F-").removeprefix("f-").lower()
        searches = [
            ("finding", "findings", "finding_id", "F-" + digits),
            *(() if id_prefix[:2] in ("F-", "f-") else (
                ("flow", "flows", "event_id", digits),
                ("flow", "flows", "flow_id", digits),
                ("loss", "losses", "event_id", digits),
            )),
        ]  # fmt: skip
        found: dict[str, tuple[str, str, str]] = {}
        for kind, table, column, prefix in searches:
            # "g" follows every hexadecimal digit; a range is answered by the index in either database, LIKE is not.
            rows = self._rows(
                f"SELECT DISTINCT {column} FROM {table} WHERE {column} >= ? AND {column} < ? ORDER BY {column} LIMIT {CANDIDATES_MAX}",
                (prefix, prefix + "g"),
            )
            exact = [row for row in rows if row[0] == prefix]
            found |= {str(row[0]): (kind, table, column) for row in exact or rows}
        if not found:
            raise IdUnknown(f"id {id_prefix}: nothing in {self.name} has an id that starts so")
        if len(found) > 1:
            raise IdUnknown(f"id {id_prefix}: several ids start so: {', '.join(sorted(found)[:CANDIDATES_MAX])}")
        ((identity, (kind, table, column)),) = found.items()
        if kind == "flow":
            rows = self._rows(
                f"SELECT event, judgement FROM {self.flows_from} WHERE {column} = ? ORDER BY sequence DESC LIMIT 1", (identity,)
            )
            return _judged(*rows[0])
        return dict(json.loads(self._rows(f"SELECT event FROM {table} WHERE {column} = ?", (identity,))[0][0]))

    def flows_of(self, finding_id: str, limit: int) -> list[dict[str, Any]]:  # Any: JSON values.
        """The flows a finding was raised from, oldest first."""
        rows = self._rows(
            f"SELECT event FROM {self.flows_from} WHERE finding_id = ? ORDER BY start_time, sequence LIMIT ?", (finding_id, limit)
        )
        return [json.loads(event) for (event,) in rows]

    def _where(
        self, query: Query, *, time: str, account: str, addresses: tuple[str, ...], without: tuple[str, ...] = ()
    ) -> tuple[str, list[Any]]:  # Any: SQL values.
        """The WHERE clause of a query and its values."""
        terms: list[str] = []
        values: list[Any] = []
        for column in ("plant", "verdict", "hop", "protocol"):
            if (value := getattr(query, column)) is not None and column not in without:
                terms.append(f"{column} = ?")
                values.append(value)
        if query.account is not None:
            spellings = self._spellings(query.account)
            terms.append(f"{account} IN ({', '.join('?' * len(spellings))})")
            values += spellings
        if query.address is not None:
            terms.append("(" + " OR ".join(f"{column} = ?" for column in addresses) + ")")
            values += [query.address] * len(addresses)
        if query.since is not None:
            terms.append(f"{time} >= ?")
            values.append(sortable(query.since))
        if query.until is not None:
            terms.append(f"{time} < ?")
            values.append(sortable(query.until))
        return (" WHERE " + " AND ".join(terms) if terms else "", values)


def _movement(row: Row) -> Movement:
    # A sum of PostgreSQL is a decimal.
    windows, rows, count = (int(value) for value in row[9:12])
    source, destination, protocol, account, operation, verdict, severity, hop, finding_id = row[:9]
    first, last, shown_source, shown_destination = row[12:]
    return Movement(
        source, destination, protocol, account, operation, verdict, severity, hop, finding_id, windows, rows, count, first, last,
        shown_source, shown_destination,
    )  # fmt: skip


def _judged(event: str, judgement: str | None) -> dict[str, Any]:  # Any: JSON values.
    said = json.loads(judgement) if judgement else None
    return dict(json.loads(event) | {"judgement": said or None})
