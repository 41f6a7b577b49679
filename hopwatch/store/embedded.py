"""The embedded store: one SQLite file and its key, for one plant's watch and any number of readers."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hopwatch.store import Event, JudgedFlow, StoreError, StoreFull
from hopwatch.store.pseudonyms import Pseudonyms, key_file
from hopwatch.store.reading import Reading
from hopwatch.store.rows import finding_row, heartbeat_row, loss_row, merged, sortable, text
from hopwatch.store.schema import (
    INSERT_FLOW,
    INSERT_HEARTBEAT,
    INSERT_LOSS,
    NOTE_FINDING,
    NOTE_FINDINGS_OF_OLD,
    REJUDGE_FLOW,
    TABLES,
    UPSERT_FINDING,
    UPSERT_STATE,
    VERSION,
)
from hopwatch.store.seal import Sealer
from hopwatch.transaction import transaction

STORE_BYTES_MAX = 16 << 30
"""Default bound of the file: some ten million windows."""

IDS_MAX = 500

EARLIER_MAX = 16
"""Earlier verdicts kept with a flow, the latest of them; ``earlier_total`` counts all."""

# Places in a row of flows: verdict, severity, hop and finding_id stand together, the judgement is the last but one.
_VERDICT, _JUDGEMENT = 12, 18
WAIT_S = 10.0


class EmbeddedStore(Reading):
    """The store in the file ``path``; accounts that ``is_clear`` does not vouch for are kept as pseudonyms."""

    def __init__(
        self,
        path: str | Path,
        *,
        is_clear: Callable[[str], bool] = lambda account: False,
        key_path: str | Path | None = None,
        size_bytes_max: int = STORE_BYTES_MAX,
        create: bool = True,
    ) -> None:
        """Open or create the store (mode 0600); its key lies in ``key_path``, by default beside it as ``PATH.key``.

        Raises:
            StoreError: the file or its key cannot be opened, or it was made by a newer version.
        """
        self.path = Path(path)
        self.size_bytes_max = size_bytes_max
        if not create and not self.path.exists():
            raise StoreError(f"{self.path}: no such store; `hopwatch watch --store {self.path}` makes one")
        key = Path(key_path or f"{self.path}.key")
        if self.path.exists() and not key.exists():
            # A new key would give every account a second pseudonym, and nobody would notice.
            raise StoreError(f"{key}: the key of {self.path} is missing; --key names it if it lies elsewhere")
        try:
            secret = key_file(key)
            self._pseudonyms = Pseudonyms(secret, is_clear)
            self._sealer = Sealer(secret)
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
            self._db: sqlite3.Connection | None = sqlite3.connect(self.path, isolation_level=None, timeout=WAIT_S)
            self._db.row_factory = sqlite3.Row
            self._prepare(self._db)
        except ValueError as error:
            raise StoreError(str(error)) from error
        except (OSError, sqlite3.Error) as error:
            raise self._spoken(error) from error

    def _prepare(self, db: sqlite3.Connection) -> None:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        counts_changes = db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'finding_changes'").fetchone()
        for statement in TABLES:
            db.execute(statement)
        if counts_changes is None:
            db.execute(NOTE_FINDINGS_OF_OLD)
        row = db.execute("SELECT version FROM schema_version").fetchone()
        if row is None:
            db.execute("INSERT INTO schema_version VALUES (?)", (VERSION,))
        elif row[0] != VERSION:
            raise StoreError(f"{self.path}: schema version {row[0]}, expected {VERSION}")
        page_bytes = db.execute("PRAGMA page_size").fetchone()[0]
        db.execute(f"PRAGMA max_page_count = {max(self.size_bytes_max // page_bytes, 32)}")

    def add(
        self,
        *,
        flows: Iterable[JudgedFlow] = (),
        findings: Iterable[Event] = (),
        losses: Iterable[Event] = (),
        heartbeats: Iterable[Event] = (),
    ) -> int:
        """Keep the records, all or none; returns how many flows, losses and heartbeats were new."""
        db = self._open
        flow_rows = [self._flow_row(judged) for judged in flows]
        try:
            with transaction(db):
                before = db.total_changes
                db.executemany(INSERT_FLOW, flow_rows)
                known = len(flow_rows) - (db.total_changes - before)
                db.executemany(INSERT_LOSS, [loss_row(loss) for loss in losses])
                db.executemany(INSERT_HEARTBEAT, [heartbeat_row(beat) for beat in heartbeats])
                new = db.total_changes - before
                if known:
                    self._rejudge(db, flow_rows)
                self._add_findings(db, [self._pseudonyms.rewritten(finding) for finding in findings])
        except sqlite3.Error as error:
            raise self._spoken(error) from error
        return new

    def _flow_row(self, judged: JudgedFlow) -> tuple[Any, ...]:  # Any: SQL values.
        event = self._pseudonyms.rewritten(judged.event)
        said = {"account": judged.event.get("account"), "role": judged.event.get("role"), "on_behalf_of": judged.event.get("on_behalf_of")}
        said["objects"] = judged.event.get("objects")
        differences = self._pseudonyms.rewritten(said | {"differences": list(judged.differences)})["differences"]
        judgement = {
            "verdict": judged.verdict,
            "severity": judged.severity,
            "hop": judged.hop,
            "finding_id": judged.finding_id,
            "checked": dict(judged.checked),
            "differences": differences,
            "declaration": dict(judged.declaration),
        }
        return (
            event["event_id"],
            event["flow_id"],
            event["sequence"],
            event["plant"],
            event["agent"],
            sortable(event["start"]),
            sortable(event["end"]),
            event["source"]["address"],
            event["destination"]["address"],
            event.get("protocol"),
            event.get("account"),
            event.get("operation"),
            judged.verdict,
            judged.severity,
            judged.hop,
            judged.finding_id,
            event.get("rows", 0) if judged.rows is None else judged.rows,
            event.get("bytes", 0) if judged.bytes is None else judged.bytes,
            text(judgement),
            text(event),
        )

    def _rejudge(self, db: sqlite3.Connection, flow_rows: list[tuple[Any, ...]]) -> None:  # Any: SQL values.
        """Of flows that are kept and were judged against another declaration now, keep what is said now, and what was said before."""
        said = {row[0]: row for row in flow_rows}
        for first in range(0, len(flow_rows), IDS_MAX):
            some = [row[0] for row in flow_rows[first : first + IDS_MAX]]
            kept = db.execute(f"SELECT event_id, judgement FROM flows WHERE event_id IN ({', '.join('?' * len(some))})", some).fetchall()
            for identity, said_then in kept:
                row = said[identity]
                now, then = json.loads(row[_JUDGEMENT]), json.loads(said_then)
                if not now["declaration"] or now["declaration"] == then.get("declaration"):
                    continue
                before = {name: then.get(name) for name in ("verdict", "severity", "hop", "finding_id", "declaration")}
                earlier = [*then.get("earlier", ()), before]
                now["earlier"] = earlier[-EARLIER_MAX:]
                now["earlier_total"] = then.get("earlier_total", 0) + 1
                db.execute(REJUDGE_FLOW, (*row[_VERDICT : _VERDICT + 4], text(now), identity))

    def _add_findings(self, db: sqlite3.Connection, findings: list[dict[str, Any]]) -> None:
        """Merge findings into what is kept under their identities.

        A second run starts to count at one again, and reading a capture twice counts everything twice; windows and amounts
        are therefore those of the distinct flows kept for a finding, once all of them are kept, or say more than the event does.
        Of each is kept what no other view of its connection had counted, so that two agents' amounts add up.
        """
        together: dict[str, dict[str, Any]] = {}
        for finding in findings:
            identity = finding["finding_id"]
            kept = together.get(identity)
            if kept is None and (row := db.execute("SELECT event FROM findings WHERE finding_id = ?", (identity,)).fetchone()):
                kept = json.loads(row["event"])
            together[identity] = merged(kept, finding) if kept else finding
        for identity, finding in together.items():
            windows, row_sum, byte_sum = db.execute(
                "SELECT count(*), coalesce(sum(row_count), 0), coalesce(sum(byte_count), 0) FROM flows WHERE finding_id = ?", (identity,)
            ).fetchone()
            whole = 0 < int(finding.get("windows", 1)) <= windows
            finding["windows"] = max(int(finding.get("windows", 1)), windows)
            observed = finding["observed"] = dict(finding.get("observed") or {})
            for name, kept_sum in (("rows", row_sum), ("bytes", byte_sum)):
                observed[name] = max(0, kept_sum) if whole else max(int(observed.get(name, 0)), kept_sum)
            db.execute(UPSERT_FINDING, finding_row(finding))
            db.execute(NOTE_FINDING, (identity,))

    def keep_state(self, name: str, state: bytes) -> None:
        """Keep the state, sealed, and wait until it and every batch before it are on the disk.

        In WAL mode a batch is safe from the end of the process at once, and from the end of the power at the next sync (SQLite,
        "PRAGMA synchronous"). The log forgets events after this, so it must be such a sync.
        """
        db = self._open
        try:
            db.execute("PRAGMA synchronous = FULL")
            try:
                db.execute(UPSERT_STATE, (name, self._sealer.seal(name, state)))
            finally:
                db.execute("PRAGMA synchronous = NORMAL")
        except sqlite3.Error as error:
            raise self._spoken(error) from error

    def state(self, name: str) -> bytes | None:
        """The state kept last.

        Raises:
            StoreError: it cannot be read, or this key does not open it.
        """
        rows = self._rows("SELECT sealed FROM states WHERE name = ?", (name,))
        if not rows:
            return None
        try:
            return self._sealer.opened(name, rows[0]["sealed"])
        except ValueError as error:
            raise StoreError(f"{self.path}: state {name}: {error}") from error

    def judged(self, event_ids: Sequence[str]) -> dict[str, tuple[dict[str, Any], dict[str, Any] | None]]:
        """What was said of the flows, asked for IDS_MAX at a time: SQLite bounds the variables of a statement."""
        found: dict[str, tuple[dict[str, Any], dict[str, Any] | None]] = {}
        for first in range(0, len(event_ids), IDS_MAX):
            some = event_ids[first : first + IDS_MAX]
            rows = self._rows(
                "SELECT flows.event_id, flows.judgement, findings.event FROM flows LEFT JOIN findings USING (finding_id)"
                f" WHERE flows.event_id IN ({', '.join('?' * len(some))})",
                some,
            )
            for identity, judgement, finding in rows:
                found[identity] = (json.loads(judgement), json.loads(finding) if finding else None)
        return found

    def close(self) -> None:
        """Let go of the store."""
        if self._db is not None:
            self._db.close()
            self._db = None

    @property
    def name(self) -> str:
        """The file."""
        return str(self.path)

    @property
    def _open(self) -> sqlite3.Connection:
        assert self._db is not None, "the store is closed"
        return self._db

    def moment(self) -> str:
        """See ``Reader`` (SQLite, "PRAGMA data_version": what other connections committed; the own ones are counted)."""
        return f"{self._rows('PRAGMA data_version')[0][0]}/{self._open.total_changes}"

    def _rows(self, sql: str, values: Iterable[Any] = ()) -> list[sqlite3.Row]:  # Any: SQL values.
        try:
            return self._open.execute(sql, tuple(values)).fetchall()
        except sqlite3.Error as error:
            raise self._spoken(error) from error

    def _each(self, sql: str, values: Iterable[Any] = ()) -> Iterator[sqlite3.Row]:  # Any: SQL values.
        try:
            yield from self._open.execute(sql, tuple(values))
        except sqlite3.Error as error:
            raise self._spoken(error) from error

    def _spellings(self, account: str) -> tuple[str, str]:
        return account, self._pseudonyms.made(account)

    def _spoken(self, error: Exception) -> StoreError:
        """The one line a person gets for what SQLite or the system said."""
        if isinstance(error, OSError):
            return StoreError(f"{error.filename or self.path}: {error.strerror or error}")
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            bound = f"the bound of {self.size_bytes_max} bytes"
            return StoreFull(f"{self.path}: no room for more records: the disk is full or {bound} is reached")
        if code == sqlite3.SQLITE_NOTADB:
            return StoreError(f"{self.path}: not a hopwatch store")
        return StoreError(f"{self.path}: {error}")
