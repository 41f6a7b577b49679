"""The one SQL schema, in the words that SQLite and PostgreSQL share.

Columns are what is searched for; ``event`` is the whole record as JSON text, so that fields a reader does not know are kept.
Times are RFC 3339 in UTC as text, cut or filled to nine decimals: then text order is time order.
``ON CONFLICT`` is understood by both (SQLite 3.24, PostgreSQL 9.5).
"""

from __future__ import annotations

VERSION = 1

TABLES = (
    "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)",
    """CREATE TABLE IF NOT EXISTS flows (
        event_id TEXT PRIMARY KEY, flow_id TEXT NOT NULL, sequence BIGINT NOT NULL, plant TEXT NOT NULL, agent TEXT NOT NULL,
        start_time TEXT NOT NULL, end_time TEXT NOT NULL, source TEXT NOT NULL, destination TEXT NOT NULL,
        protocol TEXT, account TEXT, operation TEXT, verdict TEXT, severity TEXT, hop TEXT, finding_id TEXT,
        row_count BIGINT NOT NULL, byte_count BIGINT NOT NULL, judgement TEXT NOT NULL, event TEXT NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS flows_by_time ON flows (start_time)",
    "CREATE INDEX IF NOT EXISTS flows_by_flow ON flows (flow_id)",
    "CREATE INDEX IF NOT EXISTS flows_by_finding ON flows (finding_id) WHERE finding_id IS NOT NULL",
    """CREATE TABLE IF NOT EXISTS findings (
        finding_id TEXT PRIMARY KEY, plant TEXT NOT NULL, verdict TEXT NOT NULL, severity TEXT NOT NULL,
        first_seen TEXT NOT NULL, last_seen TEXT NOT NULL, who TEXT, source TEXT, destination TEXT, hop TEXT, event TEXT NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS losses (
        event_id TEXT PRIMARY KEY, plant TEXT NOT NULL, agent TEXT NOT NULL, start_time TEXT NOT NULL, end_time TEXT NOT NULL,
        stage TEXT NOT NULL, event TEXT NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS heartbeats (
        event_id TEXT PRIMARY KEY, plant TEXT NOT NULL, agent TEXT NOT NULL, seen_time TEXT NOT NULL, event TEXT NOT NULL)""",
    "CREATE TABLE IF NOT EXISTS states (name TEXT PRIMARY KEY, sealed BLOB NOT NULL)",
)

INSERT_FLOW = """INSERT INTO flows VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (event_id) DO NOTHING"""
REJUDGE_FLOW = "UPDATE flows SET verdict = ?, severity = ?, hop = ?, finding_id = ?, judgement = ? WHERE event_id = ?"
INSERT_LOSS = "INSERT INTO losses VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (event_id) DO NOTHING"
INSERT_HEARTBEAT = "INSERT INTO heartbeats VALUES (?, ?, ?, ?, ?) ON CONFLICT (event_id) DO NOTHING"
UPSERT_STATE = "INSERT INTO states VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET sealed = excluded.sealed"
UPSERT_FINDING = """INSERT INTO findings VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (finding_id) DO UPDATE SET severity = excluded.severity, first_seen = excluded.first_seen,
        last_seen = excluded.last_seen, event = excluded.event"""
