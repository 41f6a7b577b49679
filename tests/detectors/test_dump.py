"""The marks of a copy of everything, on one connection."""

from typing import Any

import pytest
from moves import QUOTED, later, moved
from north import OPC, UNS, architecture, end, extract, flow, objects

from detectors.dump import NODES_MIN, TABLES_MIN, TOPICS_MIN, Dump
from hopwatch.events import Finding, Flow

LAPTOP = ("10.40.9.77", 50200)


def watch(windows: list[Flow], **changes: Any) -> list[Finding]:  # Any: fields of Moved
    detector = Dump(architecture(), QUOTED)
    return [found for place, window in enumerate(windows) for found in detector.observe(later(moved(window, **changes), place * 10**9))]


def tables(count: int, connection: str | None = None, **said: Any) -> list[Flow]:  # Any: fields of a flow
    return [
        extract(
            **{"operation": "copy", "account": "someone", "connection": connection or "one", "objects": [objects(f"mes.t{n}", rows=9)]}
            | said
        )
        for n in range(count)
    ]


def test_tables_copied_whole_one_after_another_are_a_dump_from_the_eighth_on() -> None:
    assert watch(tables(TABLES_MIN - 1)) == []
    (finding,) = watch(tables(TABLES_MIN + 5))
    assert (finding.verdict, finding.source, finding.who) == ("dump", "mes-db", "someone")
    assert finding.differences[0].observed.startswith("tables whole")


def test_a_dump_program_that_reads_catalogues_on_a_hop_is_told_by_what_it_takes() -> None:
    catalogue = [objects("pg_catalog.pg_proc", rows=11_000)]
    dumping = {"application": "pg_dump", "connection": "one"}
    listed = extract(operation="select", objects=catalogue, **dumping)
    assert watch([listed], verdict="undeclared-data") == []
    assert len(watch([listed], verdict="undeclared-account", hop=None)) == 1
    taken = extract(operation="copy", objects=[objects("mes.genealogy", rows=9)], **dumping)
    assert len(watch([listed, taken], verdict="undeclared-data")) == 1


def test_select_star_counts_like_copy_and_a_select_of_columns_does_not() -> None:
    starred = [objects(f"mes.t{n}", columns=("*",), rows=9) for n in range(TABLES_MIN)]
    assert len(watch([extract(operation="select", account="someone", connection="one", objects=[one]) for one in starred])) == 1
    named = [objects(f"mes.t{n}", columns=("lot",), rows=9) for n in range(TABLES_MIN)]
    assert watch([extract(operation="select", account="someone", connection="one", objects=[one]) for one in named]) == []


def test_tables_on_connections_of_their_own_are_no_mark_of_one_dump() -> None:
    assert [found for n in range(20) for found in watch(tables(1, connection=f"c{n}"))] == []


@pytest.mark.parametrize("program", ["pg_dump", "mariadb-dump/11.4", "pg_basebackup"])
def test_a_dump_program_is_said_at_its_first_table(program: str) -> None:
    (finding,) = watch(tables(1, application=program))
    assert finding.differences[0].observed == f"dump program: {program.split('/', maxsplit=1)[0]}"


def test_a_declared_backup_may_look_like_one() -> None:
    assert watch(tables(TABLES_MIN + 5, application="pg_dump"), verdict="declared") == []


def test_history_of_many_nodes_is_a_harvest() -> None:
    read = flow(
        source=end(OPC), destination=end(LAPTOP), protocol="opcua", account="someone", operation="history-read",
        objects=[objects(*(f"ns=2;s=Line1/Recipe/{n}" for n in range(NODES_MIN)), values=900)],
    )  # fmt: skip
    (finding,) = watch([read])
    assert finding.differences[0].observed.startswith("history harvest")


def test_values_read_after_browsing_are_a_harvest_and_without_browsing_are_not() -> None:
    ends = {"source": end(OPC), "destination": end(LAPTOP), "protocol": "opcua", "account": "someone", "connection": "one"}
    read = flow(**ends, operation="read", objects=[objects(*(f"ns=2;s=Line1/Recipe/{n}" for n in range(NODES_MIN)), values=50)])
    browsed = flow(**ends, operation="browse", objects=[objects("ns=0;i=85", messages=9)])
    assert watch([read]) == []
    assert len(watch([browsed, read])) == 1


def test_a_wildcard_counts_by_what_it_delivered() -> None:
    ends = {"source": end(UNS), "destination": end(LAPTOP), "protocol": "mqtt", "account": "someone", "connection": "one"}
    asked = flow(**ends, operation="subscribe", objects=[objects("#", messages=1)])
    brought = flow(**ends, operation="subscribe", objects=[objects(f"north/line1/t{n}", messages=1) for n in range(TOPICS_MIN)])
    assert watch([asked]) == []
    assert watch([brought]) == []
    assert len(watch([asked, brought])) == 1
