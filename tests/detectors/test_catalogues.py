"""Catalogues are metadata, by the names that the decoders tell of recorded conversations and of what drivers ask."""

import struct
from collections.abc import Iterable
from pathlib import Path

import pytest
from spoken import Script, recording, spoken

from hopwatch.declared.catalogue import is_metadata

CLIENT, SERVER = ("10.20.1.77", 51512), ("10.20.1.21", 1433)
AT = "2026-04-07T10:00:00Z"


@pytest.mark.parametrize(
    ("name", "metadata"),
    [
        ("pg_catalog.pg_class", True), ("pg_class", True), ("information_schema.tables", True), ("$SYS/broker/load", True),
        ("ns=0;i=2253", True), ("i=2253", True), ("pg_catalog.pg_authid", False), ("pg_stats", False), ("mes.pg_class", False),
        ("ns=2;s=pg_", False), ("information_schema.TABLE_NAMES", True), ("information_schema.show", True),
        ("information_schema.PROCESSLIST", False),
        ("performance_schema.session_variables", True), ("performance_schema.events_statements_history", False), ("mysql.user", False),
        ("mysql.global_priv", False), ("mysql.help_topic", True), ("mysql.time_zone_name", True),
        ("mysql.schemata", True), ("mysql.column_statistics", False), ("sys.processlist", False), ("sys.session", False),
    ],
)  # fmt: skip
def test_catalogues_are_metadata_but_not_those_that_hold_data(name: str, metadata: bool) -> None:
    assert is_metadata(name) is metadata


@pytest.mark.parametrize(
    "text",
    [
        "SELECT name FROM sys.tables", "SELECT name FROM [master].[sys].[databases]", "SELECT * FROM INFORMATION_SCHEMA.COLUMNS",
        "SELECT * FROM mes.INFORMATION_SCHEMA.TABLES", "select id from sysobjects", "select o.id from mes..sysobjects o, dbo.syscolumns c",
        "select number from master..spt_values", "EXEC sp_columns N'lots', N'dbo'", "exec mes.sys.sp_columns_100 N'lots'",
        "exec [mes]..sp_tables_rowset;2 NULL, N'dbo'", "exec [mes]..sp_tablecollations_100 N'.[lots]'", "sp_help 'dbo.lots'",
        "SELECT value FROM sys.fn_listextendedproperty(NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
        "SELECT c.name FROM sys.columns c JOIN sys.types t ON t.user_type_id = c.user_type_id",
    ],
)  # fmt: skip
def test_what_drivers_ask_of_sql_servers_catalogue_is_metadata(text: str, tmp_path: Path) -> None:
    assert _metadata(_batch(text), tmp_path) == [True]


@pytest.mark.parametrize(
    "text",
    [
        "SELECT t.name, o.lot FROM sys.tables t JOIN dbo.lots o ON o.id = t.object_id", "SELECT name, password_hash FROM sys.sql_logins",
        "SELECT * FROM master.sys.syslogins", "SELECT * FROM sys.query_store_query_text", "SELECT * FROM sys.key_encryptions",
        "SELECT lot FROM mes.dbo.tables", "SELECT lot FROM dbo.sysobjects_copy", "EXEC mes.report.sp_columns", "EXEC sp_helplogins",
        "SELECT * FROM hr.sysobjects", "SELECT text FROM sys.dm_exec_sql_text(0x01)", "SELECT * FROM mes.sys.fn_dblog(NULL, NULL)",
    ],
)  # fmt: skip
def test_what_holds_data_or_secrets_of_sql_server_is_none(text: str, tmp_path: Path) -> None:
    assert _metadata(_batch(text), tmp_path) == [False]


@pytest.mark.parametrize(
    ("text", "metadata"),
    [
        ("select * from sys.all_tab_columns", True), ("select * from user_tables", True),
        ("select * from v$version", True), ("select sid from gv$session", True), ("select * from sys.v_$instance", True),
        ("select attribute from system.product_privs", True), ("begin dbms_output.disable; end;", True),
        ("select * from all_tables t, mes.lots l", False), ("select * from dba_users", False), ("select * from sys.user$", False),
        ("select * from dba_tab_histograms", False), ("select sql_text from v$sqlarea", False), ("select * from mes.user_tables", False),
        ("select * from user_orders", False), ('select * from "dual"', False), ("select * from all_tables@erp", True),
    ],
)  # fmt: skip
def test_oracles_dictionary_is_metadata_and_what_holds_data_is_none(text: str, metadata: bool, tmp_path: Path) -> None:
    said = b"select id, part, station from mes.genealogy"
    script = [(side, data.replace(said, text.encode().ljust(len(said)))) for side, data in recording("queries", "tns")]
    assert _metadata(script[:11], tmp_path) == [metadata]


def _batch(text: str) -> Script:
    """A recorded login, a text, and an answer that says that there were no rows (MS-TDS 2.2.6.7, 2.2.7.6)."""
    headers = bytes.fromhex("16000000120000000200000000000000000001000000")
    done = bytes.fromhex("fd1000c1000000000000000000")
    said = ((1, headers + text.encode("utf-16-le")), (4, done))
    packets = [struct.pack(">BBHHBB", kind, 1, 8 + len(body), 51, 1, 0) + body for kind, body in said]
    return [*recording("plain", "tds")[:4], ("client", packets[0]), ("server", packets[1])]


def _metadata(script: Script, folder: Path) -> list[bool]:
    """Of each set of objects of the conversation, whether all of them are."""
    windows = spoken(script, CLIENT, SERVER, AT, folder)
    sets: Iterable[list[str]] = (part.names for window in windows for part in window.objects if part.names)
    return [all(is_metadata(name) for name in names) for names in sets]
