"""Ways out of a table on which nobody counts its rows, each beside one that only looks like it."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from moves import DAY_NS
from north import MES_APP, MES_DB, NOON, architecture, end, extract, flow, mes, objects
from spoken import recording, spoken

from detectors.hidden import FOLDED_BYTES_MIN, VALUE_BYTES_MIN
from detectors.judgement import Judgement
from detectors.memory import Memory
from detectors.moved import Moved, Question
from detectors.online import Online, moved_of, online
from hopwatch.declared.model import Architecture
from hopwatch.events import Finding, Flow, time_ns, time_text

LAPTOP = ("10.20.1.77", 51512)
OWN = {"hidden-extraction", "class-copy", "way-out"}
GENEALOGY = "mes.genealogy"


def said(*names: str, marks: str, operation: str = "ddl", number: int = 0, at: str = NOON, **counts: int) -> Flow:
    """A statement of somebody's, with its marks."""
    part = objects(*names, columns=("*",), **{"messages": 1} | counts) | {"marks": marks.split()}
    # DDL and INSERT run from the client to the server.
    ends = {"source": end(LAPTOP), "destination": end(MES_DB), "opened_by": "source"}
    if operation in ("select", "copy"):
        ends = {"source": end(MES_DB), "destination": end(LAPTOP), "opened_by": "destination"}
    return flow(**ends, account="someone", operation=operation, objects=[part], at=at, n=number, connection="one")


def findings(windows: Iterable[Flow], watch: Online | None = None) -> list[Finding]:
    watch = watch or online(architecture())
    said = [one for window in windows for one in watch.observe(window)]
    return [one for one in said if isinstance(one, Finding) and one.verdict in OWN]


@pytest.mark.parametrize(
    ("mark", "where"),
    [("to-file", "a file of mes-db"), ("to-program", "a program on mes-db"), ("to-server", "another server, from mes-db")],
)
def test_rows_that_go_elsewhere_are_said_at_once_and_by_their_class(mark: str, where: str) -> None:
    (finding,) = findings([said(GENEALOGY, marks=mark, operation="copy")])
    assert (finding.verdict, finding.severity, finding.who, finding.source) == ("hidden-extraction", "high", "someone", "mes-db")
    assert finding.differences[0].observed == f"{GENEALOGY} to {where}"


def test_copy_to_the_client_as_declared_is_quiet_and_to_a_file_it_is_not() -> None:
    part = objects("quality.inspection", columns=("lot", "result"), rows=100, bytes=9000)
    assert findings([extract(operation="copy", objects=[part])]) == []
    (finding,) = findings([extract(operation="copy", objects=[part | {"marks": ["to-file"]}])])
    assert finding.nearest_hop == "extract-quality"


def test_what_was_refused_or_is_of_catalogues_alone_moved_nothing_elsewhere() -> None:
    assert findings([said(GENEALOGY, marks="to-file", operation="refused")]) == []
    assert findings([said("pg_catalog.pg_class", marks="to-file folded", operation="copy", bytes=900_000)]) == []
    (finding,) = findings([said(marks="to-file", operation="select")])
    assert finding.differences[0].observed.startswith("what no name tells")


@pytest.mark.parametrize("operation", ["ddl", "insert", "select"])
def test_a_copy_that_lacks_the_class_of_what_fills_it_is_said(operation: str) -> None:
    (finding,) = findings([said("public.scratch", GENEALOGY, marks="fills", operation=operation)])
    assert (finding.verdict, finding.severity) == ("class-copy", "medium")
    assert finding.differences[0].observed == "process_ip from mes.genealogy"


def test_a_copy_into_a_table_declared_with_the_class_and_rows_of_the_clients_own_are_quiet() -> None:
    declared = architecture(
        scratch=("tables: [mes.genealogy,", "tables: [public.scratch, mes.genealogy,"),
    )
    assert findings([said("public.scratch", GENEALOGY, marks="fills")], online(declared)) == []
    assert findings([said("public.scratch", marks="", operation="insert", rows=50)]) == []


class Probe(Question):
    """Keeps the classes of what it is shown."""

    name: ClassVar[str] = "probe"

    def __init__(self) -> None:
        self.classes: list[tuple[str, ...]] = []

    def memories(self) -> Mapping[str, Memory[Any]]:
        return {}

    def look(self, moved: Moved) -> tuple[Finding, ...]:
        self.classes.append(moved.classes)
        return ()


def probed(plant: Architecture | None = None) -> tuple[Online, Probe]:
    watch, probe = online(plant or architecture()), Probe()
    watch.questions = (*watch.questions, probe)
    return watch, probe


def read(name: str, number: int = 100) -> Flow:
    return said(name, marks="", operation="select", rows=5, number=number)


def test_a_later_read_of_a_copy_is_one_of_its_classes_over_any_number_of_copies() -> None:
    watch, probe = probed()
    windows = [
        said("public.scratch", GENEALOGY, marks="fills", number=1), said("public.second", "scratch", marks="fills", number=2),
        said("other.third", "public.second", marks="fills", number=3), read("other.third", 4), read("third", 5), read("public.third", 6),
        read("public.fourth", 7),
    ]  # fmt: skip
    findings(windows, watch)
    *_, third, bare, elsewhere, other = probe.classes
    assert "process_ip" in third
    assert "process_ip" in bare
    assert "process_ip" not in elsewhere
    assert "process_ip" not in other


def test_what_a_copy_inherits_survives_a_restart_and_is_told_as_changes() -> None:
    before, _ = probed()
    before.changes()
    whole = before.state()
    findings([said("public.scratch", GENEALOGY, marks="fills")], before)
    changes = json.loads(json.dumps(before.changes()))
    after, probe = probed()
    after.restore(json.loads(json.dumps(whole)) | {"probe": {}})
    after.merge(changes)
    findings([read("public.scratch")], after)
    assert "process_ip" in probe.classes[-1]


def test_a_copy_that_is_read_by_a_hop_that_is_not_for_its_class_is_said_once_a_day() -> None:
    copied = said("quality.inspection", GENEALOGY, marks="fills", number=1)
    part = objects("quality.inspection", columns=("lot", "result"), rows=100, bytes=9000)
    _, finding, *more = findings([copied, extract(objects=[part]), extract(objects=[part], n=1)])
    assert (finding.verdict, finding.severity, finding.nearest_hop) == ("class-copy", "high", "extract-quality")
    assert finding.differences[0].observed == "process_ip copied into quality.inspection"
    assert more == []
    # The MES's own hop is for the genealogy too.
    assert len(findings([copied, mes(objects=[part])])) == 1
    assert findings([extract(objects=[part])]) == []


def test_what_a_ticket_covers_may_be_copied() -> None:
    watch = online(architecture())
    covered = said("mes.work_order_history", "mes.work_order", marks="fills", operation="insert")
    (uncovered,) = findings([covered])
    assert uncovered.verdict == "class-copy"
    moved = next(moved_of(one, watch.verdict.index) for one in watch.observe(covered) if isinstance(one, Judgement))
    (question,) = [one for one in online(architecture()).questions if one.name == "hidden"]
    assert question.observe(moved.but(verdict="declared", hop=None)) == []


def test_an_approved_fill_of_a_classed_table_is_quiet_and_ends_what_it_inherited() -> None:
    approved = mes(
        source=end(MES_APP), destination=end(MES_DB), opened_by="source", operation="insert",
        objects=[objects("quality.inspection", "mes.genealogy", columns=("lot",), rows=9) | {"marks": ["fills"]}],
    )  # fmt: skip
    watch, probe = probed()
    assert findings([approved], watch) == []
    findings([read("quality.inspection", 1)], watch)
    assert "process_ip" not in probe.classes[-1]
    (finding,) = findings([said("quality.inspection", GENEALOGY, marks="fills", number=2)], watch)
    assert finding.verdict == "class-copy"
    findings([read("quality.inspection", 3)], watch)
    assert "process_ip" in probe.classes[-1]
    findings([approved.model_copy(update={"event_id": "again", "sequence": 9}), read("quality.inspection", 4)], watch)
    assert "process_ip" not in probe.classes[-1]


def test_a_foreign_table_is_said_when_it_is_made_and_when_it_is_filled() -> None:
    made = [said("public.far", marks="foreign", number=1), said("server:s", "schema:there", marks="foreign", number=2)]
    filled = [
        said("public.far", GENEALOGY, marks="fills", operation="insert", rows=20, number=3),
        said("there.any", GENEALOGY, marks="fills", operation="insert", rows=20, number=4),
        said("public.near", "mes.work_order_note", marks="fills", operation="insert", rows=20, number=5),
    ]
    found = findings([*made, *filled])
    assert [one.verdict for one in found] == ["way-out", "way-out", "hidden-extraction", "hidden-extraction"]
    assert found[2].differences[0].observed == "mes.genealogy to the foreign table public.far"
    assert [one.verdict for one in findings(filled)] == ["class-copy", "class-copy"]


def folded(size: int, rows: int = 1, number: int = 0, at: str = NOON) -> Flow:
    return said(GENEALOGY, marks="folded", operation="select", bytes=size, rows=rows, number=number, at=at)


def test_one_value_as_large_as_a_table_is_said_and_one_order_as_json_is_not() -> None:
    (finding,) = findings([folded(FOLDED_BYTES_MIN)])
    assert (finding.verdict, finding.severity, finding.differences[0].question) == ("hidden-extraction", "high", "how_much")
    assert findings([folded(3_000, number=number) for number in range(400)]) == []
    assert findings([folded(FOLDED_BYTES_MIN, rows=1 + FOLDED_BYTES_MIN // VALUE_BYTES_MIN)]) == []


def test_values_of_a_day_add_up_and_those_of_two_days_do_not() -> None:
    size = FOLDED_BYTES_MIN // 2
    assert len(findings([folded(size, number=number) for number in range(6)])) == 1
    tomorrow = time_text(time_ns(NOON) + DAY_NS)
    assert findings([folded(size), folded(size, number=1, at=tomorrow)]) == []


def test_an_approved_hop_limited_by_bytes_may_fold_and_one_limited_by_rows_alone_may_not() -> None:
    part = {"columns": ["lot", "result"], "rows": 1, "bytes": 200_000, "messages": 1, "marks": ["folded"]}
    assert findings([extract(objects=[part | {"names": ["quality.inspection"]}])]) == []
    (finding,) = findings([mes(objects=[part | {"names": [GENEALOGY]}])])
    assert finding.nearest_hop == "mes-works"


def test_every_way_out_of_a_real_server_is_said_and_what_only_looks_like_one_is_not(tmp_path: Path) -> None:
    windows = spoken(recording("elsewhere"), LAPTOP, MES_DB, NOON, tmp_path)
    told = {(one.verdict, one.differences[0].observed) for one in findings(windows)}
    expected = {
        ("hidden-extraction", "mes.genealogy to a program on mes-db"),
        ("hidden-extraction", "mes.genealogy to a file of mes-db"),
        ("hidden-extraction", "what no name tells to a file of mes-db"),
        ("hidden-extraction", "what no name tells to another server, from mes-db"),
        ("hidden-extraction", "mes.genealogy to another server, from mes-db"),
        ("hidden-extraction", "mes.genealogy to the foreign table public.far"),
        ("way-out", "extension:dblink"),
        ("way-out", "extension:postgres_fdw"),
        ("way-out", "server:far"),
        ("way-out", "public.far"),
    }
    assert expected <= told
    rest = told - expected
    assert sum("that fold many" in seen for _, seen in rest) == 1
    copies = {seen.rpartition(" from ")[2] for verdict, seen in rest if verdict == "class-copy"}
    assert copies == {"mes.genealogy", "public.also"}
    assert not any("public.target" in seen for _, seen in told)
