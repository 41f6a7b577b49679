"""The alert book: alerts, their revisions, decisions, and what waits for each destination, durable and in one transaction.

Findings are read from the store where they rest, from the place where the book stands; what the desk makes of them, the place, and the
letters to every destination are written together. Whatever ends the program in between, the same findings are read again and
what was taken in already changes nothing. Whoever writes takes turns: a runner, consoles and the command line may work on one book.

Embedded it is a file of its own beside the store (``STORE.alerts``): nothing about alerts ever waits for the store's lock, nor the
store for theirs. At scale it is tables in the store's database. The statements are the same.

A decision may be taken where no destination is configured; its letters are then written by the runner, from ``alert_unqueued``.
"""

from __future__ import annotations

import contextlib
import json
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

from alerts.desk import About, DecisionRefused, Desk, alert_id, group_name
from alerts.memory import INHIBITED, INHIBITS, Group, Held, Kept, Rule, due_ns, place_of
from alerts.outbox import Letter, QueueState, queue
from alerts.severity import rank
from hopwatch.events import SEVERITIES, Alert, Decision, Finding, Severity, time_ns, time_text
from hopwatch.store import ID_CHARACTERS_MIN, IdUnknown, StoreError
from hopwatch.store.pseudonyms import Pseudonyms, key_file
from hopwatch.store.rows import clean, sortable, text

VERSION: Final = 1

BATCH_FINDINGS: Final = 1_000
"""Findings taken in at once."""

DUE_MAX: Final = 1_000
"""Alerts and groups that time decides about looked at in one step; the rest in the next."""

REVISIONS_MAX: Final = 1_000
"""Revisions kept of one alert; of more, the oldest updates go (`revisions_gone`), never what was told or decided."""

UNQUEUED_MAX: Final = 100_000
"""Events that wait for a runner that knows who is told; of more, the oldest go (`unqueued_gone`). The book itself keeps them all."""

PIECE_EVENTS: Final = 1_000
"""Events of the history read at once."""

PRUNE_EVERY: Final = 64
RESOLVED_DAYS: Final = 400
"""Days an alert is kept after it was resolved."""

IDS_MAX: Final = 500
"""Ids asked for in one question; of more, several are asked."""

CANDIDATES_MAX: Final = 5
"""Ids named where a prefix means several."""

Row = Sequence[Any]  # Any: SQL values.
Letters = Callable[[Alert | Decision], Iterable[Letter]]

_ID: Final = re.compile(r"(?:[AF]-)?[0-9a-f]{8,}", re.IGNORECASE)

_TABLES: Final = (
    "CREATE TABLE IF NOT EXISTS alert_state (name TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL)",
    """CREATE TABLE IF NOT EXISTS alerts (
        alert_id TEXT NOT NULL PRIMARY KEY, plant TEXT NOT NULL, state TEXT NOT NULL, severity TEXT NOT NULL, verdict TEXT NOT NULL,
        who TEXT, grouped TEXT NOT NULL, raised_time {time} NOT NULL, changed_time {time} NOT NULL, acknowledged_time {time},
        resolved_time {time}, disposition TEXT, judged TEXT, notified BIGINT NOT NULL, hidden BIGINT NOT NULL, finding_id TEXT NOT NULL,
        source TEXT NOT NULL, destination TEXT NOT NULL, suppressed_by TEXT, concerns TEXT, due_time {time},
        memory TEXT NOT NULL, event TEXT NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS alerts_by_change ON alerts (changed_time)",
    "CREATE INDEX IF NOT EXISTS alerts_by_due ON alerts (due_time) WHERE due_time IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS alerts_by_concern ON alerts (concerns) WHERE concerns IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS alerts_by_suppression ON alerts (suppressed_by) WHERE suppressed_by IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS alerts_by_verdict ON alerts (verdict, state)",
    "CREATE INDEX IF NOT EXISTS alerts_by_finding ON alerts (finding_id)",
    """CREATE TABLE IF NOT EXISTS alert_revisions (
        event_id TEXT NOT NULL PRIMARY KEY, alert_id TEXT NOT NULL, revision BIGINT NOT NULL, plant TEXT NOT NULL,
        changed_time {time} NOT NULL, change TEXT NOT NULL, notify BOOLEAN NOT NULL, event TEXT NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS alert_revisions_by_alert ON alert_revisions (alert_id, revision)",
    "CREATE INDEX IF NOT EXISTS alert_revisions_by_time ON alert_revisions (changed_time)",
    """CREATE TABLE IF NOT EXISTS decisions (
        event_id TEXT NOT NULL PRIMARY KEY, plant TEXT NOT NULL, made_time {time} NOT NULL, person TEXT NOT NULL, action TEXT NOT NULL,
        alert_id TEXT, event TEXT NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS decisions_by_alert ON decisions (alert_id, made_time)",
    """CREATE TABLE IF NOT EXISTS alert_rules (
        event_id TEXT NOT NULL PRIMARY KEY, plant TEXT NOT NULL, until_time {time} NOT NULL, ended_time {time}, hidden BIGINT NOT NULL,
        event TEXT NOT NULL)""",
    "CREATE TABLE IF NOT EXISTS alert_groups (name TEXT NOT NULL PRIMARY KEY, due BIGINT NOT NULL, memory TEXT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS alert_groups_by_due ON alert_groups (due)",
    "CREATE TABLE IF NOT EXISTS alert_folds (finding_id TEXT NOT NULL PRIMARY KEY, alert_id TEXT NOT NULL, event_id TEXT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS alert_folds_by_alert ON alert_folds (alert_id)",
    "CREATE TABLE IF NOT EXISTS alert_unqueued (place BIGINT NOT NULL PRIMARY KEY, event TEXT NOT NULL)",
)
SQLITE_TABLES: Final = tuple(statement.replace("{time}", "TEXT") for statement in _TABLES)
POSTGRESQL_TABLES: Final = tuple(statement.replace("{time}", 'TEXT COLLATE "C"') for statement in _TABLES)

_PUT_ALERT: Final = (
    "INSERT INTO alerts (alert_id, plant, state, severity, verdict, who, grouped, raised_time, changed_time, acknowledged_time,"
    " resolved_time, disposition, judged, notified, hidden, finding_id, source, destination, suppressed_by, concerns, due_time, memory,"
    f" event) VALUES ({', '.join('?' * 23)}) ON CONFLICT (alert_id) DO UPDATE SET state = excluded.state, severity = excluded.severity,"
    " changed_time = excluded.changed_time, acknowledged_time = excluded.acknowledged_time, resolved_time = excluded.resolved_time,"
    " disposition = excluded.disposition, judged = excluded.judged, notified = excluded.notified, hidden = excluded.hidden,"
    " finding_id = excluded.finding_id, source = excluded.source, destination = excluded.destination,"
    " suppressed_by = excluded.suppressed_by, concerns = excluded.concerns, due_time = excluded.due_time, memory = excluded.memory,"
    " event = excluded.event"
)
_PUT_REVISION: Final = "INSERT INTO alert_revisions VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (event_id) DO NOTHING"
_PUT_GROUP: Final = (
    "INSERT INTO alert_groups VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET due = excluded.due, memory = excluded.memory"
)
_PUT_RULE: Final = (
    "INSERT INTO alert_rules VALUES (?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (event_id) DO UPDATE SET ended_time = excluded.ended_time, hidden = excluded.hidden"
)
_PUT_FOLD: Final = "INSERT INTO alert_folds VALUES (?, ?, ?) ON CONFLICT (finding_id) DO UPDATE SET event_id = excluded.event_id"
_PUT_STATE: Final = "INSERT INTO alert_state VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"


@dataclass(frozen=True, slots=True)
class AlertQuery:
    """What to select; None selects everything. ``state`` may be ``open``: all that is not resolved.

    ``severity`` is the least severe that is wanted; ``account`` is given in clear, or as the pseudonym; times are RFC 3339, of the last
    change.
    """

    plant: str | None = None
    state: str | None = None
    severity: Severity | None = None
    verdict: str | None = None
    account: str | None = None
    group: str | None = None
    since: str | None = None
    until: str | None = None
    limit: int = 100


@dataclass(frozen=True, slots=True)
class Precision:
    """How one detector's alerts were judged; a duplicate or a test says nothing about it."""

    verdict: str
    alerts: int
    true_positive: int
    benign_trigger: int
    false_positive: int

    @property
    def precision(self) -> float | None:
        """The share in which it was right about what moved; None before anyone has judged."""
        judged = self.true_positive + self.benign_trigger + self.false_positive
        return (self.true_positive + self.benign_trigger) / judged if judged else None

    @property
    def worth(self) -> float | None:
        """The share in which somebody had to act."""
        judged = self.true_positive + self.benign_trigger + self.false_positive
        return self.true_positive / judged if judged else None


class Book(ABC):
    """One alert book; one thread uses it. ``letters`` says who is told of a revision or a decision."""

    letters: Letters | None = None
    about: About | None = None
    pseudonyms: Pseudonyms | None = None

    # What the two databases do differently

    @abstractmethod
    def _rows(self, sql: str, values: Iterable[Any] = ()) -> Sequence[Row]:  # Any: SQL values.
        """The rows of a question; a ``?`` stands for a value."""

    @abstractmethod
    def _many(self, sql: str, rows: Sequence[Row]) -> None:
        """The statement with each of the rows."""

    @abstractmethod
    def _writing(self) -> contextlib.AbstractContextManager[Any]:  # Any: the connection of either.
        """A transaction of the one writer; all of it or nothing."""

    @abstractmethod
    def _changed(self, place: str | None, most: int) -> tuple[list[str], str | None]:
        """Findings changed since the place, each as JSON text, and the place to go on from."""

    @abstractmethod
    def _heard(self, plant: str, agent: str) -> str | None:
        """When an agent's last heartbeat was."""

    @abstractmethod
    def destinations(self) -> list[QueueState]:
        """How each destination's queue stands."""

    @abstractmethod
    def close(self) -> None:
        """Let go of it; idempotent."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What a message calls it; no password."""

    # Taking in

    @abstractmethod
    def moment(self) -> str:
        """A text that is another once anything was written by anybody."""

    def step(self, now_ns: int, most: int = BATCH_FINDINGS) -> int:
        """Take in what has changed since the last step, and what time has decided; returns how many findings were read.

        Raises:
            StoreError: the store or the book cannot be read or written; nothing of the step is kept.
        """
        with self._writing() as db:
            before = self._state().get("place")
            lines, place = self._changed(before, most)
            read = [_read(line) for line in lines]
            findings = [one for one in read if one is not None]
            held = _Shelf(self)
            held.fetch(findings)
            desk = self._desk(held)
            if len(findings) < len(lines):
                desk.counted["unreadable"] += len(lines) - len(findings)
            for finding in findings:
                desk.found(finding, now_ns)
            self._silent(desk, now_ns)
            desk.passed(now_ns)
            self._keep(db, held, desk, (), now_ns)
            if place is not None and place != before:
                self._many(_PUT_STATE, [("place", place)])
        return len(lines)

    def decide(self, decision: Decision) -> list[Alert]:
        """Carry out what a person decided, once; returns the revisions it made. The time is the decision's own.

        Raises:
            DecisionRefused: it cannot be done; nothing has changed.
            StoreError: the book cannot be written; nothing has changed.
        """
        with self._writing() as db:
            if self._rows("SELECT 1 FROM decisions WHERE event_id = ?", (decision.event_id,)):
                return []
            held = _Shelf(self)
            desk = self._desk(held)
            desk.decided(decision)
            return self._keep(db, held, desk, (decision,), time_ns(decision.time))

    def tidy(self, now_ns: int) -> int:
        """Let go of alerts that were resolved long ago, with their revisions; returns how many."""
        before = _time(now_ns - RESOLVED_DAYS * 86_400 * 10**9)
        with self._writing():
            gone = [row[0] for row in self._rows("SELECT alert_id FROM alerts WHERE state = 'resolved' AND changed_time < ?", (before,))]
            for table in ("alert_revisions", "alert_folds", "decisions", "alerts"):
                self._many(f"DELETE FROM {table} WHERE alert_id = ?", [(one,) for one in gone])
        return len(gone)

    def _desk(self, held: Held) -> Desk:
        return Desk(held) if self.about is None else Desk(held, self.about)

    def _silent(self, desk: Desk, now_ns: int) -> None:
        """Agents that were silent and have been heard since."""
        rows = self._rows("SELECT plant, source FROM alerts WHERE verdict = 'agent-silent' AND state <> 'resolved' LIMIT ?", (DUE_MAX,))
        for plant, agent in rows:
            at = self._heard(plant, agent)
            if at is not None:
                desk.heard(plant, agent, time_ns(at), now_ns)

    def _keep(self, db: Any, held: Held, desk: Desk, decisions: Sequence[Decision], now_ns: int) -> list[Alert]:  # Any: a connection
        made = desk.taken()
        self._many(_PUT_ALERT, [clean(_alert_row(held.alerts[one])) for one in sorted(held.touched_alerts)])
        self._many(_PUT_REVISION, [clean(_revision_row(alert)) for alert in made])
        groups = [held.groups[one] for one in sorted(held.touched_groups)]
        self._many(_PUT_GROUP, [clean((group.name, group.due_ns, text(group.state()))) for group in groups])
        self._many(_PUT_RULE, [clean(_rule_row(held.rules[one])) for one in sorted(held.touched_rules)])
        self._many(_PUT_FOLD, [(one, *held.folded[one]) for one in sorted(held.touched_folded)])
        self._many("INSERT INTO decisions VALUES (?, ?, ?, ?, ?, ?, ?)", [clean(_decision_row(one)) for one in decisions])
        counted = Counter(desk.counted)
        if gone := self._queue(db, [*decisions, *made], now_ns):
            counted["unqueued_gone"] += gone
        for alert in made:
            if alert.revision >= REVISIONS_MAX and alert.revision % PRUNE_EVERY == 0:
                counted["revisions_gone"] += self._prune(alert)
        if counted:
            self._many(_PUT_STATE, [("counted", text(Counter(self.counted()) + counted))])
        return made

    def _queue(self, db: Any, events: Sequence[Alert | Decision], now_ns: int) -> int:  # Any: a connection of either
        """Write letters; where nobody knows to whom, leave it to who does. Returns how many of those went at the bound."""
        if self.letters is None:
            if not events:
                return 0
            ((first, last),) = self._rows("SELECT COALESCE(MIN(place), 1), COALESCE(MAX(place), 0) FROM alert_unqueued")
            rows = [clean((int(last) + place, text(event.model_dump()))) for place, event in enumerate(events, 1)]
            self._many("INSERT INTO alert_unqueued VALUES (?, ?)", rows)
            # Places follow one another, and are taken away from the front alone.
            keeps = int(last) + len(events) - UNQUEUED_MAX + 1
            if keeps <= int(first):
                return 0
            self._many("DELETE FROM alert_unqueued WHERE place < ?", [(keeps,)])
            return keeps - int(first)
        waiting = self._rows("SELECT place, event FROM alert_unqueued ORDER BY place")
        before = [_said(line) for _, line in waiting]
        letters = [letter for event in (*before, *events) for letter in self.letters(event)]
        if letters:
            queue(db, letters, now_ns)
        self._many("DELETE FROM alert_unqueued WHERE place = ?", [(place,) for place, _ in waiting])
        return 0

    def _prune(self, alert: Alert) -> int:
        where = "FROM alert_revisions WHERE alert_id = ? AND change = 'updated' AND revision < ?"
        values = (alert.alert_id, alert.revision - REVISIONS_MAX)
        ((count,),) = self._rows(f"SELECT COUNT(*) {where}", values)
        self._many(f"DELETE {where}", [values])
        return int(count)

    def _state(self) -> dict[str, str]:
        return {str(name): str(value) for name, value in self._rows("SELECT name, value FROM alert_state")}

    # Reading

    def alerts(self, query: AlertQuery | None = None) -> list[dict[str, Any]]:  # Any: JSON values
        """The last revision of each alert, the one changed last first."""
        query = query or AlertQuery()
        terms: list[str] = ["1 = 1"]
        values: list[Any] = []  # Any: SQL values.
        for column, value in (("plant", query.plant), ("verdict", query.verdict), ("grouped", query.group)):
            if value is not None:
                terms.append(f"{column} = ?")
                values.append(value)
        if query.state == "open":
            terms.append("state <> 'resolved'")
        elif query.state is not None:
            terms.append("state = ?")
            values.append(query.state)
        if query.severity is not None:
            least = [one for one in SEVERITIES if rank(one) >= rank(query.severity)]
            terms.append(f"severity IN ({', '.join('?' * len(least))})")
            values += least
        if query.account is not None:
            spellings = [query.account, *([] if self.pseudonyms is None else [self.pseudonyms.made(query.account)])]
            terms.append(f"who IN ({', '.join('?' * len(spellings))})")
            values += spellings
        for sign, moment in ((">=", query.since), ("<", query.until)):
            if moment is not None:
                terms.append(f"changed_time {sign} ?")
                values.append(sortable(moment))
        sql = f"SELECT event FROM alerts WHERE {' AND '.join(terms)} ORDER BY changed_time DESC, alert_id LIMIT ?"
        return [json.loads(event) for (event,) in self._rows(sql, (*values, query.limit))]

    def alert(self, id_prefix: str) -> dict[str, Any]:  # Any: JSON values
        """The one alert whose id, or whose finding's id, starts so; of a folded finding the alert it is folded into.

        Raises:
            IdUnknown: none does, several do, or the prefix is shorter than ID_CHARACTERS_MIN.
        """
        found = self.find(id_prefix)
        return dict(json.loads(self._rows("SELECT event FROM alerts WHERE alert_id = ?", (found,))[0][0]))

    def find(self, id_prefix: str) -> str:
        """The whole id of the one alert that ``id_prefix`` means, see ``alert``.

        Raises:
            IdUnknown: see ``alert``.
        """
        if not _ID.fullmatch(id_prefix):
            raise IdUnknown(f"id {id_prefix}: expected A- or F- and {ID_CHARACTERS_MIN} or more hexadecimal digits")
        kind, digits = (id_prefix[0].upper(), id_prefix[2:].lower()) if id_prefix[1] == "-" else ("", id_prefix.lower())
        found: set[str] = set()
        for table, column, prefix in (("alerts", "alert_id", "A-"), ("alerts", "finding_id", "F-"), ("alert_folds", "finding_id", "F-")):
            if kind and kind != prefix[0]:
                continue
            # "g" follows every hexadecimal digit.
            rows = self._rows(
                f"SELECT alert_id, {column} FROM {table} WHERE {column} >= ? AND {column} < ? ORDER BY {column} LIMIT {CANDIDATES_MAX}",
                (prefix + digits, prefix + digits + "g"),
            )
            exact = [str(row[0]) for row in rows if row[1] == prefix + digits]
            found |= set(exact or [str(row[0]) for row in rows])
        if len(found) != 1:
            why = f"several start so: {', '.join(sorted(found)[:CANDIDATES_MAX])}" if found else f"no alert in {self.name} has one so"
            raise IdUnknown(f"id {id_prefix}: {why}")
        return found.pop()

    def revisions(self, alert_id: str) -> list[dict[str, Any]]:  # Any: JSON values
        """The revisions of an alert, the first one first."""
        rows = self._rows("SELECT event FROM alert_revisions WHERE alert_id = ? ORDER BY revision", (alert_id,))
        return [json.loads(event) for (event,) in rows]

    def history(self, since: str | None = None, until: str | None = None) -> Iterator[dict[str, Any]]:  # Any: JSON values
        """Revisions and decisions in the order of time, a decision before what it changed."""
        upper = [] if until is None else [sortable(until)]
        parts = []
        for table, column, order in (("decisions", "made_time", 0), ("alert_revisions", "changed_time", 1)):
            where = f"{column} >= ?" + (f" AND {column} < ?" if upper else "")
            revision = "0" if order == 0 else "revision"
            # A piece begins behind the last event of the one before, and looks at nothing that is older.
            parts.append(
                f"SELECT * FROM (SELECT {column} AS at, {order} AS what, {revision} AS n, event_id, event FROM {table} WHERE {where}"
                f" AND ({column}, {order}, {revision}, event_id) > (?, ?, ?, ?) ORDER BY at, n, event_id LIMIT ?) AS of_{table}"
            )
        sql = f"SELECT at, what, n, event_id, event FROM ({' UNION ALL '.join(parts)}) AS every ORDER BY at, what, n, event_id LIMIT ?"
        last: Row = ("" if since is None else sortable(since), -1, -1, "")
        while rows := self._rows(sql, (*(last[0], *upper, *last, PIECE_EVENTS) * 2, PIECE_EVENTS)):
            for *_, event in rows:
                yield json.loads(event)
            last = rows[-1][:4]

    def decisions(self, alert_id: str | None = None) -> list[dict[str, Any]]:  # Any: JSON values
        """Decisions, the first one first; of one alert those about it, and the suppression that it is under."""
        if alert_id is None:
            rows = self._rows("SELECT event FROM decisions ORDER BY made_time, event_id")
        else:
            rows = self._rows(
                "SELECT event FROM decisions WHERE alert_id = ? OR event_id IN (SELECT suppressed_by FROM alerts WHERE alert_id = ?)"
                " ORDER BY made_time, event_id",
                (alert_id, alert_id),
            )
        return [json.loads(event) for (event,) in rows]

    def suppressions(self, *, ended: bool = False) -> list[dict[str, Any]]:  # Any: JSON values
        """Suppressions by scope: the decision, ``hidden`` (how much it hid) and ``ended`` (None while in force)."""
        rows = self._rows("SELECT event, hidden, ended_time FROM alert_rules ORDER BY until_time, event_id")
        return [{"decision": json.loads(event), "hidden": int(hidden), "ended": end} for event, hidden, end in rows if ended or end is None]

    def members(self, alert_id: str, limit: int = 100) -> list[str]:
        """Findings that are folded into an alert."""
        rows = self._rows("SELECT finding_id FROM alert_folds WHERE alert_id = ? ORDER BY finding_id LIMIT ?", (alert_id, limit))
        return [str(finding) for (finding,) in rows]

    def precision(self) -> list[Precision]:
        """How alerts of each verdict were judged, by the disposition each was given last."""
        by: dict[str, Counter[str]] = {}
        for verdict, judged, count in self._rows("SELECT verdict, judged, COUNT(*) FROM alerts GROUP BY verdict, judged ORDER BY verdict"):
            by.setdefault(str(verdict), Counter())[judged or ""] += int(count)
        return [
            Precision(verdict, counts.total(), counts["true-positive"], counts["benign-trigger"], counts["false-positive"])
            for verdict, counts in by.items()
        ]

    def spelling(self, account: str) -> str:
        """How an account that a person names rests in findings: as the book has it, in clear or as its pseudonym."""
        known = "SELECT 1 FROM alerts WHERE who = ? LIMIT 1"
        made = account if self.pseudonyms is None else self.pseudonyms.made(account)
        return made if not self._rows(known, (account,)) and self._rows(known, (made,)) else account

    def counted(self) -> dict[str, int]:
        """What was taken in, told, hidden and folded since the book was begun, and which bounds were reached."""
        return {str(name): int(count) for name, count in json.loads(self._state().get("counted", "{}")).items()}

    def counts(self) -> list[tuple[str, str, Severity, int]]:
        """How many alerts there are by plant, state and severity."""
        rows = self._rows("SELECT plant, state, severity, COUNT(*) FROM alerts GROUP BY plant, state, severity ORDER BY 1, 2, 3")
        return [(str(plant), str(state), severity, int(count)) for plant, state, severity, count in rows]

    def _load(self, where: str, values: Iterable[Any]) -> list[Kept]:  # Any: SQL values.
        rows = self._rows(f"SELECT event, memory FROM alerts WHERE {where}", values)
        return [Kept.restored(Alert.model_validate_json(event), json.loads(memory)) for event, memory in rows]


class _Shelf(Held):
    """The working set of one transaction: what is asked for comes from the book, once."""

    def __init__(self, book: Book) -> None:
        super().__init__()
        self._book = book
        self._asked: set[str] = set()
        for event, hidden, ended in book._rows("SELECT event, hidden, ended_time FROM alert_rules WHERE ended_time IS NULL"):
            rule = Rule(Decision.model_validate_json(event), int(hidden), ended)
            self.rules[rule.id] = rule

    def fetch(self, findings: Sequence[Finding]) -> None:
        """Load what a batch of findings needs, in few questions."""
        ids = [alert_id(one.finding_id) for one in findings]
        for some in _some(ids):
            self._hold(self._book._load(f"alert_id IN ({_places(some)})", some))
        for some in _some([one.finding_id for one in findings]):
            rows = self._book._rows(f"SELECT finding_id, alert_id, event_id FROM alert_folds WHERE finding_id IN ({_places(some)})", some)
            self.folded |= {str(finding): (str(into), str(event)) for finding, into, event in rows}
        names = sorted({group_name(one) for one in findings} | {f"{one.plant}/*" for one in findings})
        for some in _some(names):
            self._gather(self._book._rows(f"SELECT name, memory FROM alert_groups WHERE name IN ({_places(some)})", some))
        self._asked |= {*(f"alert {one}" for one in ids), *(f"fold {one.finding_id}" for one in findings)}
        self._asked |= {f"group {name}" for name in names}

    def _hold(self, found: Iterable[Kept]) -> None:
        for kept in found:
            if kept.alert.alert_id not in self.alerts:
                self.hold(kept)

    def _gather(self, rows: Iterable[Row]) -> None:
        for name, memory in rows:
            if name not in self.groups:
                self.groups[str(name)] = Group(**json.loads(memory))

    def _first(self, what: str) -> bool:
        """Whether it is asked for the first time."""
        if what in self._asked:
            return False
        self._asked.add(what)
        return True

    def alert(self, alert_id: str) -> Kept | None:
        if alert_id not in self.alerts and self._first(f"alert {alert_id}"):
            self._hold(self._book._load("alert_id = ?", (alert_id,)))
        return super().alert(alert_id)

    def group(self, name: str) -> Group:
        if name not in self.groups and self._first(f"group {name}"):
            self._gather(self._book._rows("SELECT name, memory FROM alert_groups WHERE name = ?", (name,)))
        return super().group(name)

    def fold(self, finding_id: str) -> tuple[str, str] | None:
        if finding_id not in self.folded and self._first(f"fold {finding_id}"):
            for into, event in self._book._rows("SELECT alert_id, event_id FROM alert_folds WHERE finding_id = ?", (finding_id,)):
                self.folded[finding_id] = (str(into), str(event))
        return super().fold(finding_id)

    def at(self, place: str) -> list[Kept]:
        if self._first(f"at {place}"):
            self._hold(self._book._load("concerns = ? AND state <> 'resolved'", (place,)))
        return super().at(place)

    def where(self, plant: str, scope: dict[str, str]) -> Iterator[Kept]:
        columns = [name for name in ("verdict", "who") if name in scope]
        where = " AND ".join(["plant = ?", "state <> 'resolved'", *(f"{name} = ?" for name in columns)])
        self._hold(self._book._load(where, (plant, *(scope[name] for name in columns))))
        return super().where(plant, scope)

    def suppressed_by(self, rule_id: str) -> Iterator[Kept]:
        self._hold(self._book._load("suppressed_by = ?", (rule_id,)))
        return super().suppressed_by(rule_id)

    def due_alerts(self, now_ns: int) -> Iterator[Kept]:
        self._hold(self._book._load("due_time <= ? ORDER BY due_time LIMIT ?", (_time(now_ns), DUE_MAX)))
        return super().due_alerts(now_ns)

    def due_groups(self, now_ns: int) -> Iterator[Group]:
        sql = "SELECT name, memory FROM alert_groups WHERE due > 0 AND due <= ? ORDER BY due LIMIT ?"
        self._gather(self._book._rows(sql, (now_ns, DUE_MAX)))
        return super().due_groups(now_ns)


def book(address: str, key: Path | None = None) -> Book:
    """The alert book of the store at ``address``: ``postgresql://…``, or a file's path, beside which it lies as ``PATH.alerts``.

    ``key`` is that of the pseudonyms (default ``PATH.key``), needed to find an account by its name in clear.

    Raises:
        StoreError: it cannot be opened.
    """
    if address.startswith(("postgresql://", "postgres://")):
        # The client of PostgreSQL is loaded by who needs it.
        from alerts.postgresql import PostgresBook

        return PostgresBook(address, key)
    from alerts.embedded import EmbeddedBook

    return EmbeddedBook(address, key)


def decision_id(plant: str, time: str, person: str, action: str, of: str) -> str:
    """The id of a decision: the same words at the same moment are the same decision."""
    return blake2b("\n".join((plant, time, person, action, of)).encode(), digest_size=16).hexdigest()


def opened_key(path: Path | None) -> Pseudonyms | None:
    """Pseudonyms by a key that is there; None without one.

    Raises:
        StoreError: it is no key.
    """
    if path is None or not path.exists():
        return None
    try:
        return Pseudonyms(key_file(path))
    except (OSError, ValueError) as error:
        raise StoreError(str(error)) from None


def _read(line: str) -> Finding | None:
    """The finding; None of what some other program wrote into the store: one that cannot be read must not keep the others waiting."""
    try:
        found = Finding.model_validate_json(line)
        for moment in (found.first_seen, found.last_seen, *(() if found.resumed is None else (found.resumed,))):
            time_ns(moment)
    except ValueError:
        return None
    return found


def _places(some: Sequence[str]) -> str:
    return ", ".join("?" * len(some))


def _some(every: Sequence[str]) -> Iterator[Sequence[str]]:
    for first in range(0, len(every), IDS_MAX):
        yield every[first : first + IDS_MAX]


def _time(instant_ns: int) -> str:
    return sortable(time_text(instant_ns))


def _said(line: str) -> Alert | Decision:
    return Alert.model_validate_json(line) if json.loads(line)["kind"] == "alert" else Decision.model_validate_json(line)


def _alert_row(kept: Kept) -> tuple[Any, ...]:  # Any: SQL values.
    alert, finding = kept.alert, kept.alert.finding
    due = due_ns(kept)
    return (
        alert.alert_id, alert.plant, alert.state, alert.severity, finding.verdict, finding.who, alert.group, sortable(alert.raised),
        sortable(alert.time), kept.acknowledged and sortable(kept.acknowledged), kept.resolved and sortable(kept.resolved),
        alert.disposition, kept.judged, alert.notified, alert.hidden, finding.finding_id, finding.source, finding.destination,
        alert.suppressed_by, place_of(finding, INHIBITS) or place_of(finding, INHIBITED), None if due is None else _time(due),
        text(kept.state()), text(alert.model_dump()),
    )  # fmt: skip


def _revision_row(alert: Alert) -> tuple[Any, ...]:  # Any: SQL values.
    return (
        alert.event_id, alert.alert_id, alert.revision, alert.plant, sortable(alert.time), alert.change, alert.notify,
        text(alert.model_dump()),
    )  # fmt: skip


def _decision_row(one: Decision) -> tuple[Any, ...]:  # Any: SQL values.
    return (one.event_id, one.plant, sortable(one.time), one.person, one.action, one.alert_id, text(one.model_dump()))


def _rule_row(rule: Rule) -> tuple[Any, ...]:  # Any: SQL values.
    decision = rule.decision
    until = sortable(decision.until or decision.time)
    ended = None if rule.ended is None else sortable(rule.ended)
    return (rule.id, decision.plant, until, ended, rule.hidden, text(decision.model_dump()))


__all__ = ["AlertQuery", "Book", "DecisionRefused", "Precision", "book", "decision_id"]
