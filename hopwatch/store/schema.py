"""The one SQL schema, in the words that SQLite and PostgreSQL share.

Columns are what is searched for; ``event`` is the whole record as JSON text, so that fields a reader does not know are kept.
Times are RFC 3339 in UTC as text, cut or filled to nine decimals: then text order is time order.
``ON CONFLICT`` is understood by both (SQLite 3.24, PostgreSQL 9.5).

PostgreSQL cuts what grows into days (``PARTITIONED``), each a table of its own, so that what is too old goes as a whole. A day is a
range of the times' text, which therefore belongs to the key there; the same event always has the same time.
"""

from __future__ import annotations

VERSION = 1

POSTGRESQL_VERSION = 5
"""Of the store at scale; 1 had no judgements, 2 did not say where from and where to, 3 not which findings have changed, and up to 4
what two views saw was summed up twice for whoever reads flows."""

COLUMNS = {
    "schema_version": "version INTEGER NOT NULL",
    "flows": """
        event_id TEXT NOT NULL, flow_id TEXT NOT NULL, sequence BIGINT NOT NULL, plant TEXT NOT NULL, agent TEXT NOT NULL,
        start_time TEXT NOT NULL, end_time TEXT NOT NULL, source TEXT NOT NULL, destination TEXT NOT NULL,
        protocol TEXT, account TEXT, operation TEXT, verdict TEXT, severity TEXT, hop TEXT, finding_id TEXT,
        row_count BIGINT NOT NULL, byte_count BIGINT NOT NULL, judgement TEXT NOT NULL, event TEXT NOT NULL""",
    "findings": """
        finding_id TEXT NOT NULL, plant TEXT NOT NULL, verdict TEXT NOT NULL, severity TEXT NOT NULL,
        first_seen TEXT NOT NULL, last_seen TEXT NOT NULL, who TEXT, source TEXT, destination TEXT, hop TEXT, event TEXT NOT NULL""",
    "losses": """
        event_id TEXT NOT NULL, plant TEXT NOT NULL, agent TEXT NOT NULL, start_time TEXT NOT NULL, end_time TEXT NOT NULL,
        stage TEXT NOT NULL, event TEXT NOT NULL""",
    "heartbeats": "event_id TEXT NOT NULL, plant TEXT NOT NULL, agent TEXT NOT NULL, seen_time TEXT NOT NULL, event TEXT NOT NULL",
}

KEYS = {"flows": "event_id", "findings": "finding_id", "losses": "event_id", "heartbeats": "event_id"}

INDEXES = (
    "CREATE INDEX IF NOT EXISTS flows_by_time ON flows (start_time)",
    "CREATE INDEX IF NOT EXISTS flows_by_flow ON flows (flow_id)",
    "CREATE INDEX IF NOT EXISTS flows_by_finding ON flows (finding_id) WHERE finding_id IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS heartbeats_by_agent ON heartbeats (plant, agent, seen_time)",
)


def _table(name: str, columns: str, key: str | None) -> str:
    primary = "" if key is None else f", PRIMARY KEY ({key})"
    return f"CREATE TABLE IF NOT EXISTS {name} ({columns.strip()}{primary})"


TABLES = (
    *(_table(name, columns, KEYS.get(name)) for name, columns in COLUMNS.items()),
    *INDEXES,
    "CREATE TABLE IF NOT EXISTS states (name TEXT PRIMARY KEY, sealed BLOB NOT NULL)",
    # Findings in the order of their last change, one row each: a changed one gets the next number (SQLite, "Autoincrement", 3).
    "CREATE TABLE IF NOT EXISTS finding_changes (change INTEGER PRIMARY KEY AUTOINCREMENT, finding_id TEXT NOT NULL UNIQUE)",
)
"""Of the embedded store."""

INSERT_FLOW = """INSERT INTO flows VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (event_id) DO NOTHING"""
NOTE_FINDING = "INSERT OR REPLACE INTO finding_changes (finding_id) VALUES (?)"
NOTE_FINDINGS_OF_OLD = "INSERT INTO finding_changes (finding_id) SELECT finding_id FROM findings ORDER BY last_seen"
"""Of a file that an earlier version made."""

REJUDGE_FLOW = "UPDATE flows SET verdict = ?, severity = ?, hop = ?, finding_id = ?, judgement = ? WHERE event_id = ?"
INSERT_LOSS = "INSERT INTO losses VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (event_id) DO NOTHING"
INSERT_HEARTBEAT = "INSERT INTO heartbeats VALUES (?, ?, ?, ?, ?) ON CONFLICT (event_id) DO NOTHING"
UPSERT_STATE = "INSERT INTO states VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET sealed = excluded.sealed"
UPSERT_FINDING = """INSERT INTO findings VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (finding_id) DO UPDATE SET severity = excluded.severity, first_seen = excluded.first_seen,
        last_seen = excluded.last_seen, event = excluded.event"""

PARTITIONED = {"flows": "start_time", "losses": "start_time", "heartbeats": "seen_time", "finding_events": "last_seen",
               "judgements": "start_time", "outcomes": "day_time"}  # fmt: skip
"""Tables that PostgreSQL cuts into days, by this column."""

_JUDGED_MORE = "row_count BIGINT NOT NULL DEFAULT 0, byte_count BIGINT NOT NULL DEFAULT 0, depth TEXT"
_OUTCOME_MORE = "service TEXT, who TEXT, class TEXT, source_zone TEXT, source TEXT, destination_zone TEXT, destination TEXT"
"""What version 3 added, at the ends of the rows, as ALTER TABLE adds it."""

DECLARED = {
    "declared_plants": """
        plant TEXT NOT NULL, edition TEXT NOT NULL, version INTEGER NOT NULL, signed BOOLEAN NOT NULL, review_by DATE NOT NULL""",
    "declared_classes": """
        plant TEXT NOT NULL, class TEXT NOT NULL, place INTEGER NOT NULL, sensitivity TEXT NOT NULL, off_site TEXT NOT NULL""",
    "declared_zones": """
        plant TEXT NOT NULL, zone TEXT NOT NULL, level NUMERIC NOT NULL, off_site BOOLEAN NOT NULL, country TEXT, operator TEXT,
        terms TEXT, terms_until DATE""",
    "declared_assets": "plant TEXT NOT NULL, asset TEXT NOT NULL, zone TEXT NOT NULL, kind TEXT NOT NULL",
    "declared_conduits": """
        plant TEXT NOT NULL, conduit TEXT NOT NULL, sources TEXT[] NOT NULL, destinations TEXT[] NOT NULL, agent TEXT NOT NULL,
        sees TEXT NOT NULL""",
    "declared_hops": """
        plant TEXT NOT NULL, hop TEXT NOT NULL, account TEXT NOT NULL, sources TEXT[] NOT NULL, destinations TEXT[] NOT NULL,
        source_zones TEXT[] NOT NULL, destination_zones TEXT[] NOT NULL, operations TEXT[] NOT NULL, classes TEXT[] NOT NULL,
        off_site BOOLEAN NOT NULL, why TEXT NOT NULL, keep TEXT NOT NULL, until DATE NOT NULL, ticket TEXT""",
    "declared_limits": """
        plant TEXT NOT NULL, hop TEXT NOT NULL, unit TEXT NOT NULL, amount BIGINT NOT NULL, period_s BIGINT, said TEXT NOT NULL""",
}
"""What is in force, a plant at a time, for whoever joins it to what moved; written by whoever judges by it. Persons are hidden."""

_POSTGRESQL_COLUMNS = COLUMNS | {
    "finding_events": """
        event_id TEXT NOT NULL, finding_id TEXT NOT NULL, plant TEXT NOT NULL, verdict TEXT NOT NULL, last_seen TEXT NOT NULL,
        event TEXT NOT NULL""",
    # What was said of each window, and each thing that was said of any of a day (``judgements``).
    # Amounts are those that no other view of the connection counted: a sum counts nothing twice.
    "judgements": f"event_id TEXT NOT NULL, start_time TEXT NOT NULL, outcome TEXT NOT NULL, finding_id TEXT, {_JUDGED_MORE}",
    "outcomes": f"""
        outcome TEXT NOT NULL, day_time TEXT NOT NULL, plant TEXT NOT NULL, verdict TEXT NOT NULL, severity TEXT, hop TEXT,
        classes TEXT[] NOT NULL, judgement TEXT NOT NULL, {_OUTCOME_MORE}""",
    **DECLARED,
}
_POSTGRESQL_KEYS = KEYS | {"finding_events": "event_id", "judgements": "event_id", "outcomes": "outcome"}


def _postgresql(name: str, columns: str) -> str:
    # "C": bytes decide the order, so that the text of a day is a range whatever the database's language.
    columns = columns.replace("_time TEXT", '_time TEXT COLLATE "C"').replace("_seen TEXT", '_seen TEXT COLLATE "C"')
    key, time = _POSTGRESQL_KEYS.get(name), PARTITIONED.get(name)
    if time is None:
        return _table(name, columns, key)
    return f"{_table(name, columns, f'{key}, {time}')} PARTITION BY RANGE ({time})"


POSTGRESQL = (
    *(_postgresql(name, columns) for name, columns in _POSTGRESQL_COLUMNS.items()),
    *INDEXES,
    *(f"ALTER TABLE judgements ADD COLUMN IF NOT EXISTS {column}" for column in _JUDGED_MORE.split(", ")),
    *(f"ALTER TABLE outcomes ADD COLUMN IF NOT EXISTS {column}" for column in _OUTCOME_MORE.split(", ")),
    "CREATE INDEX IF NOT EXISTS finding_events_by_finding ON finding_events (finding_id)",
    "CREATE INDEX IF NOT EXISTS judgements_by_finding ON judgements (finding_id) WHERE finding_id IS NOT NULL",
    # Amounts are those that no other view counted, of what nobody judged those of the window.
    # The text of a judgement as the embedded store has it; the id of a finding holds nothing that JSON would escape.
    """CREATE OR REPLACE VIEW judged_flows AS
        SELECT f.event_id, f.flow_id, f.sequence, f.plant, f.agent, f.start_time, f.end_time, f.source, f.destination, f.protocol,
            f.account, f.operation, o.verdict, o.severity, o.hop, j.finding_id,
            CASE WHEN j.depth IS NULL THEN f.row_count ELSE j.row_count END AS row_count,
            CASE WHEN j.depth IS NULL THEN f.byte_count ELSE j.byte_count END AS byte_count,
            left(o.judgement, -1) || ',"finding_id":' || COALESCE('"' || j.finding_id || '"', 'null') || '}' AS judgement, f.event
        FROM flows f
        LEFT JOIN judgements j ON j.event_id = f.event_id AND j.start_time = f.start_time
        LEFT JOIN outcomes o ON o.outcome = j.outcome AND o.day_time = left(j.start_time, 10)""",
    # What does not lie in a day that was made.
    *(f"CREATE TABLE IF NOT EXISTS {name}_other PARTITION OF {name} DEFAULT" for name in PARTITIONED),
    # Findings by the transaction that changed each last.
    "CREATE TABLE IF NOT EXISTS finding_changes (finding_id TEXT NOT NULL PRIMARY KEY, changed XID8 NOT NULL)",
    "CREATE INDEX IF NOT EXISTS finding_changes_by_change ON finding_changes (changed, finding_id)",
    "INSERT INTO finding_changes SELECT finding_id, pg_current_xact_id() FROM findings ON CONFLICT DO NOTHING",
    # Where each program that keeps events stands.
    """CREATE TABLE IF NOT EXISTS store_offsets (
        consumer TEXT NOT NULL, topic TEXT NOT NULL, number INTEGER NOT NULL, next BIGINT NOT NULL,
        PRIMARY KEY (consumer, topic, number))""",
    # Where each detector's partitions stand. ``epoch`` grows with every owner; whoever holds an older one may write nothing.
    """CREATE TABLE IF NOT EXISTS detector_partitions (
        consumer TEXT NOT NULL, number INTEGER NOT NULL, epoch BIGINT NOT NULL, owner TEXT NOT NULL,
        position JSONB NOT NULL, changed_at TIMESTAMPTZ NOT NULL DEFAULT now(), PRIMARY KEY (consumer, number))""",
    """CREATE TABLE IF NOT EXISTS detector_snapshots (
        consumer TEXT NOT NULL, number INTEGER NOT NULL, plant TEXT NOT NULL, upto BIGINT NOT NULL, sealed BYTEA NOT NULL,
        PRIMARY KEY (consumer, number, plant))""",
    """CREATE TABLE IF NOT EXISTS detector_changes (
        consumer TEXT NOT NULL, number INTEGER NOT NULL, plant TEXT NOT NULL, place BIGINT NOT NULL, sealed BYTEA NOT NULL,
        PRIMARY KEY (consumer, number, plant, place))""",
    """CREATE TABLE IF NOT EXISTS detector_outbox (
        id BIGSERIAL PRIMARY KEY, consumer TEXT NOT NULL, number INTEGER NOT NULL, sealed BYTEA NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS detector_outbox_by_partition ON detector_outbox (consumer, number)",
    # Sealed texts are compressed already.
    *(
        f"ALTER TABLE {name} ALTER COLUMN sealed SET STORAGE EXTERNAL"
        for name in ("detector_snapshots", "detector_changes", "detector_outbox")
    ),
)
"""Of the store at scale; each statement may be run again."""
