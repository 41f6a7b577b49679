"""What is asked of a store, in the SQL that SQLite and PostgreSQL share: lists, one record by its id, and the history in order."""

from __future__ import annotations

import heapq
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Any, ClassVar, Final

from hopwatch.store import ID_CHARACTERS_MIN, IdUnknown, Query
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


def _judged(event: str, judgement: str | None) -> dict[str, Any]:  # Any: JSON values.
    said = json.loads(judgement) if judgement else None
    return dict(json.loads(event) | {"judgement": said or None})
