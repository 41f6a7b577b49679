"""Oracle's own records as JSON lines: the unified audit trail says who, from which port, did what to which object; rows it does not count.

Rows of `UNIFIED_AUDIT_TRAIL` (Oracle Database Reference 19c, 6.261) and samples of `V$SESSION`, one object a line, told apart by their
columns. The audit trail's AUTHENTICATION_TYPE has the client's address and port: `(CLIENT ADDRESS=((PROTOCOL=tcp)(HOST=…)(PORT=…)))`.
Both name a session by its audit number: SESSIONID in the trail, AUDSID in the samples.
"""

from __future__ import annotations

import re
from typing import ClassVar, Final

from collectors.log import counted
from collectors.records import Entry, Json, Records, port_of, text_of, time_of

ACTIONS: Final = {
    "SELECT": ("select", "server"), "INSERT": ("insert", "client"), "UPDATE": ("update", "client"), "DELETE": ("delete", "client"),
    "MERGE": ("insert", "client"), "EXECUTE": ("call", "client"), "CALL": ("call", "client"), "EXPORT": ("backup", "server"),
    "IMPORT": ("insert", "client"), "BACKUP": ("backup", "server"), "TRUNCATE TABLE": ("ddl", "client"),
}  # fmt: skip

REFUSED: Final = frozenset({942, 1017, 1031, 1045, 1918, 28000, 28001, 28009})
"""ORA-… of what was refused: no such object (or none that one may see), a wrong login, no right, a locked or expired account."""

NUMBERS_SHARED: Final = ("0", "4294967295")
"""Numbers that are no session's own: of SYS, of jobs and of processes of the server (`SYS_CONTEXT('USERENV', 'SESSIONID')`)."""

_ADMIN: Final = re.compile(r"(CREATE|ALTER|DROP) (USER|ROLE|PROFILE)|GRANT(?: .*)?|REVOKE(?: .*)?|CHANGE PASSWORD")
_DDL: Final = re.compile(r"(?:CREATE|ALTER|DROP|RENAME|COMMENT|ANALYZE) [A-Z ]+")
_ADDRESS: Final = re.compile(r"CLIENT ADDRESS=\(\(PROTOCOL=\w+\)\(HOST=([^)]*)\)(?:\(PORT=(\d+)\))?", re.IGNORECASE)
_METHOD: Final = re.compile(r"\(TYPE=\((\w+)\)\)", re.IGNORECASE)


class OracleLog(Records):
    """One database's records. Its own counters: as of all records."""

    KIND = "oracle-log"
    PROTOCOL: ClassVar[str | None] = "tns"
    DIALECT: ClassVar[str] = "oracle"

    def _said(self, record: Json) -> list[Entry]:
        # Views have their columns in capitals; drivers and exports often have not.
        record = {str(name).upper(): value for name, value in record.items()}
        if "ACTION_NAME" in record:
            entry = _audited(record)
        elif "AUDSID" in record:
            entry = _sampled(record)
        else:
            raise ValueError("neither a row of the audit trail nor a sample of sessions")
        return [] if entry is None else [entry]


def _sampled(record: Json) -> Entry | None:
    if str(record["AUDSID"]) in NUMBERS_SHARED or not text_of(record, "USERNAME"):
        return None
    # A host's name is no address; the audit trail has that of the same session.
    client = text_of(record, "CLIENT_IP", "MACHINE") or ""
    client = client if re.fullmatch(r"[\d.]+|[\da-fA-F:]*:[\da-fA-F:.]*", client) else ""
    port = port_of(record, "PORT") if client else 0
    at_ns, session = time_of(record, "SAMPLE_TIME"), f"session {record['AUDSID']}"
    return Entry(at_ns, "seen", session, client, port, account=text_of(record, "USERNAME"), application=text_of(record, "PROGRAM"))


def _audited(record: Json) -> Entry | None:
    time_ns, action = time_of(record, "EVENT_TIMESTAMP_UTC", "EVENT_TIMESTAMP"), str(record["ACTION_NAME"]).strip().upper()
    number, account = str(record["SESSIONID"]), text_of(record, "DBUSERNAME")
    how = text_of(record, "AUTHENTICATION_TYPE") or ""
    place, method = _ADDRESS.search(how), _METHOD.search(how)
    client, port = (place[1], counted(place[2] or 0, 65_535)) if place else ("", 0)
    if number in NUMBERS_SHARED:
        if not port:
            return None
        number = f"of {client} {port}"
    session, code = f"session {number}", int(record.get("RETURN_CODE") or 0)
    if action in ("LOGOFF", "LOGOFF BY CLEANUP"):
        return Entry(time_ns, "logout", session)
    entry = Entry(
        time_ns, "login", session, client, port, account=account, application=text_of(record, "CLIENT_PROGRAM_NAME"),
        authentication=method[1].lower() if method else None,
    )  # fmt: skip
    if action == "LOGON":
        if code:
            entry.verb, entry.session = "refused", f"failed {client} {port} {time_ns}"
        return entry
    schema, name = text_of(record, "OBJECT_SCHEMA"), text_of(record, "OBJECT_NAME")
    entry.names = (f"{schema.lower()}.{name.lower()}" if schema and name else (name or "unknown").lower(),)
    entry.columns, entry.operation = ("*",), ACTIONS.get(action)
    if code:
        # What failed for another reason moved nothing.
        entry.verb, entry.operation = "refused", None
        return entry if code in REFUSED else None
    entry.verb = "said"
    if _ADMIN.fullmatch(action):
        target = text_of(record, "TARGET_USER", "ROLE", "OBJECT_NAME")
        entry.operation, entry.names = ("admin", "client"), (f"account:{target.lower()}",) if target else ("unknown",)
        verb = action.partition(" ")[0].lower()
        entry.columns = ("password",) if verb == "change" else (verb,)
    elif entry.operation is None and _DDL.fullmatch(action):
        entry.operation = ("ddl", "client")
    return None if entry.operation is None else entry
