"""SQL Server's own records as JSON lines: who logged in from which port, what was asked, how many rows, where a tap sees TLS.

Three kinds of rows, one object a line, told apart by their columns: samples of `sys.dm_exec_connections` joined with
`sys.dm_exec_sessions` (address and port of each session), rows of `sys.fn_get_audit_file`, and rows of
`sys.fn_xe_file_target_read_file` (Extended Events, whose `event_data` is XML) (Microsoft Learn, the pages of these views and functions).
SQL Server always encrypts the login, so a tap that reads the statements still needs the samples to know whose they are.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, Final
from xml.etree import ElementTree

from collectors.log import counted
from collectors.records import Entry, Json, Records, port_of, text_of, time_of

XML_BYTES_MAX: Final = 1 << 20
"""Bytes of an event's XML that are read; a longer one is unreadable, and counted."""

ACTIONS: Final = {
    "SL": ("select", "server"), "IN": ("insert", "client"), "UP": ("update", "client"), "DL": ("delete", "client"),
    "EX": ("call", "client"),
    "CR": ("ddl", "client"), "AL": ("ddl", "client"), "DR": ("ddl", "client"), "BA": ("backup", "server"), "BAL": ("backup", "server"),
    "G": ("admin", "client"), "GWG": ("admin", "client"), "R": ("admin", "client"), "RWG": ("admin", "client"), "RWC": ("admin", "client"),
    "D": ("admin", "client"), "APRL": ("admin", "client"), "DPRL": ("admin", "client"),
    "PWC": ("admin", "client"), "PWR": ("admin", "client"),
    "PWCS": ("admin", "client"), "ADSP": ("admin", "client"),
}  # fmt: skip
"""Of `sys.dm_audit_actions` those that are about data and accounts."""

ACCOUNTS: Final = frozenset({"SL", "WL", "SU", "US", "WU", "RL", "SG", "LX", "GX"})
"""Class types of logins, users and roles (`sys.dm_audit_class_type_map`): making, changing and dropping one is administration."""

LOGIN, FAILED, LOGOUT = "LGIS", "LGIF", "LGO"
COMPLETED: Final = frozenset({"sql_batch_completed", "rpc_completed"})
_VERBS: Final = {"CR": "create", "AL": "alter", "DR": "drop"}


class SqlserverLog(Records):
    """One server's records. Its own counters: as of all records."""

    KIND = "sqlserver-log"
    PROTOCOL: ClassVar[str | None] = "tds"
    DIALECT: ClassVar[str] = "transact-sql"

    def _said(self, record: Json) -> list[Entry]:
        if "event_data" in record:
            entry = _extended(record)
        elif "action_id" in record:
            entry = _audited(record)
        elif "client_net_address" in record:
            entry = _sampled(record)
        else:
            raise ValueError("neither a sample nor a row of the audit or of Extended Events")
        return [] if entry is None else [entry]


def _session(record: Json) -> str:
    return f"session {int(record['session_id'])}"


def _sampled(record: Json) -> Entry | None:
    client = text_of(record, "client_net_address")
    if client in (None, "<local machine>", "<named pipe>"):
        return None
    encrypted = (text_of(record, "encrypt_option") or "").upper()
    return Entry(
        time_of(record, "sample_time"), "seen", _session(record), client or "", port_of(record, "client_tcp_port"),
        account=text_of(record, "original_login_name", "login_name"), application=text_of(record, "program_name"),
        transport="none" if encrypted == "FALSE" else None, authentication=(text_of(record, "auth_scheme") or "").lower() or None,
    )  # fmt: skip


def _audited(record: Json) -> Entry | None:
    action, time_ns, session = str(record["action_id"]).strip(), time_of(record, "event_time"), _session(record)
    more = text_of(record, "additional_information") or ""
    client = text_of(record, "client_ip") or _element(more, "address") or ""
    if client.lower() in ("local machine", "unknown", "internal"):
        return None
    account = text_of(record, "session_server_principal_name", "server_principal_name")
    application = text_of(record, "application_name")
    if action == LOGOUT:
        return None if _element(more, "pooled_connection") == "1" else Entry(time_ns, "logout", session)
    if action == LOGIN:
        # Of a pool that is used again: the session and its port are those there were.
        verb: Any = "said" if _element(more, "pooled_connection") == "1" else "login"
        said = ("connect", "client") if verb == "said" else None
        return Entry(time_ns, verb, session, client, account=account, application=application, operation=said)
    if action == FAILED:
        return Entry(time_ns, "refused", f"failed {client} {account} {time_ns}", client, account=account)
    names = tuple(name for name in (_object(record),) if name)
    if str(record.get("succeeded")).lower() in ("false", "0"):
        return Entry(time_ns, "refused", session, client, account=account, names=names or ("unknown",))
    operation, columns = ACTIONS.get(action), ("*",)
    if operation is None:
        return None
    if operation[0] in ("ddl", "admin") and (operation[0] == "admin" or str(record.get("class_type", "")).strip() in ACCOUNTS):
        operation = ("admin", "client")
        target = text_of(record, "target_server_principal_name", "target_database_principal_name", "object_name")
        names = (f"account:{target}",) if target else ("unknown",)
        columns = (_VERBS.get(action, {"G": "grant", "GWG": "grant", "APRL": "grant"}.get(action, "alter")),)
    rows = record.get("response_rows") if operation[0] == "select" else record.get("affected_rows")
    # Before SQL Server 2022 there are no columns of rows; where there are none, 0 says nothing.
    moved = counted(rows) or None if rows is not None else None
    return Entry(
        time_ns, "said", session, client, account=account, application=application, operation=operation, names=names or ("unknown",),
        columns=columns, rows=moved,
    )  # fmt: skip


def _object(record: Json) -> str | None:
    parts = [text_of(record, name) for name in ("database_name", "schema_name", "object_name")]
    return ".".join(part for part in parts if part) if parts[2] else None


def _element(text: str, name: str) -> str | None:
    found = re.search(rf"<{name}>([^<]*)</{name}>", text)
    return found[1].strip() or None if found else None


def _extended(record: Json) -> Entry | None:
    text = str(record["event_data"])
    if len(text) > XML_BYTES_MAX or "<!" in text.replace("<![CDATA[", ""):
        # No event has a document type; one that has means harm.
        raise ValueError("an event that is too long, or has a document type")
    try:
        event = ElementTree.fromstring(text)
    except ElementTree.ParseError:
        raise ValueError("an event that is no XML") from None
    kind, time_ns = event.get("name") or "", time_of({"at": event.get("timestamp") or record.get("timestamp_utc")}, "at")
    values: dict[str, str] = {}
    for part in event:
        value = part.find("value")
        values.setdefault(part.get("name") or "", (value.text or "") if value is not None else "")
    if not values.get("session_id", "").isdecimal():
        return None
    session = f"session {values['session_id']}"
    account, application = values.get("server_principal_name") or None, values.get("client_app_name") or None
    if kind == "logout":
        return None if values.get("is_cached", "").lower() == "true" else Entry(time_ns, "logout", session)
    if kind not in COMPLETED:
        return None
    said = values.get("batch_text") or values.get("statement") or ""
    rows = counted(values["row_count"]) if values.get("row_count", "").isdecimal() else None
    if values.get("result", "0") not in ("0", "OK"):
        rows = None
    return Entry(
        time_ns, "said", session, account=account, application=application, text=said,
        database=None, rows=rows,
    )  # fmt: skip
