"""A table that leaves whole is one extraction, however many statements, pages and sessions it takes."""

from functools import cache
from typing import Any

from moves import DAY_NS, HOUR_NS, QUOTED, later, moved
from north import architecture, extract, objects

from detectors.extraction import PAUSE_NS, ROWS_MIN, Extraction
from hopwatch.declared.model import Architecture
from hopwatch.events import Finding

SIZED = ("tables: [quality.inspection, quality.defect]}", "tables: [quality.inspection, quality.defect], rows: 100000}")


@cache  # Every page asks for it.
def plant() -> Architecture:
    return architecture(sized=SIZED)


def page(rows: int, **said: Any):  # Any: fields of a flow
    return moved(extract(objects=[objects("quality.inspection", columns=("lot",), rows=rows, bytes=rows * 90)], **said), plant())


def pages(detector: Extraction, *, rows: int, count: int, apart_ns: int, at_ns: int = 0) -> list[Finding]:
    found: list[Finding] = []
    for number in range(count):
        # Every page on a connection of its own: paging by key does not need a session.
        found += detector.observe(later(page(rows, connection=f"c{at_ns}/{number}", n=number), at_ns + number * apart_ns))
    return found


def test_paging_a_whole_table_is_said_once_when_half_of_it_is_gone() -> None:
    (finding,) = pages(Extraction(plant(), QUOTED), rows=1_000, count=100, apart_ns=60 * 10**9)
    assert finding.verdict == "bulk-extraction"
    assert finding.differences[0].observed == "50000 rows, 50% of the table in one go"


def test_a_declared_backup_takes_the_whole_and_is_quiet_and_another_hop_there_is_not() -> None:
    kept = architecture(sized=SIZED, kind=("mw:        {zone: idmz,      kind: middleware,", "mw:        {zone: idmz,      kind: backup,"))
    whole = page(100_000)
    assert not Extraction(kept, QUOTED).observe(whole.but(verdict="declared"))
    assert len(Extraction(kept, QUOTED).observe(whole.but(verdict="outside-window"))) == 1
    assert len(Extraction(plant(), QUOTED).observe(whole.but(verdict="declared"))) == 1


def test_a_nightly_job_that_takes_the_last_day_is_quiet() -> None:
    detector = Extraction(plant(), QUOTED)
    assert [found for night in range(30) for found in pages(detector, rows=200, count=10, apart_ns=10**9, at_ns=night * DAY_NS)] == []


def test_many_small_takes_that_add_up_to_the_table_are_said_with_their_days() -> None:
    detector = Extraction(plant(), QUOTED)
    found = [one for night in range(20) for one in pages(detector, rows=5_000, count=1, apart_ns=0, at_ns=night * DAY_NS)]
    assert [one.differences[0].observed for one in found][:1] == ["90000 rows, 90% of the table in 18 days"]


def test_without_a_known_size_the_past_is_what_it_is_compared_with() -> None:
    detector = Extraction(architecture(), QUOTED)
    for night in range(14):
        assert pages(detector, rows=1_000, count=10, apart_ns=10**9, at_ns=night * DAY_NS) == []
    found = pages(detector, rows=1_000, count=40, apart_ns=10**9, at_ns=14 * DAY_NS)
    assert [one.differences[0].observed for one in found] == ["30000 rows in one go, fraction unknown"]


def test_a_flow_that_never_pauses_is_compared_by_the_day() -> None:
    detector = Extraction(architecture(), QUOTED)
    steady = [found for day in range(20) for found in pages(detector, rows=2_000, count=96, apart_ns=HOUR_NS // 4, at_ns=day * DAY_NS)]
    assert steady == []
    more = pages(detector, rows=8_000, count=96, apart_ns=HOUR_NS // 4, at_ns=20 * DAY_NS)
    assert [one.differences[0].observed for one in more] == ["576000 rows in one go, fraction unknown"]


def test_few_rows_are_no_bulk_however_unusual() -> None:
    detector = Extraction(architecture(), QUOTED)
    for night in range(14):
        pages(detector, rows=10, count=1, apart_ns=0, at_ns=night * DAY_NS)
    assert pages(detector, rows=ROWS_MIN - 1, count=1, apart_ns=0, at_ns=14 * DAY_NS) == []
    assert len(pages(detector, rows=1, count=1, apart_ns=0, at_ns=14 * DAY_NS + 10**9)) == 1


def test_a_pause_longer_than_between_pages_begins_another_extraction() -> None:
    detector = Extraction(plant(), QUOTED)
    assert pages(detector, rows=25_000, count=2, apart_ns=PAUSE_NS + HOUR_NS) == []
    assert len(pages(detector, rows=25_000, count=2, apart_ns=HOUR_NS // 4, at_ns=DAY_NS)) == 1


def test_rows_that_another_view_has_counted_are_not_taken_twice() -> None:
    detector = Extraction(plant(), QUOTED)
    window = page(40_000)
    assert not detector.observe(window)
    assert detector.observe(later(window, 10**9, rows=0, values=0)) == ()


def test_writing_is_no_extraction() -> None:
    assert Extraction(plant(), QUOTED).observe(page(90_000, operation="insert")) == ()


def test_what_a_feed_counted_lately_stands_before_what_was_declared() -> None:
    counted: dict[tuple[str, str | None, str], int] = {}
    detector = Extraction(plant(), QUOTED, sizes=lambda *table: counted.get(table))
    counted["north", "mes-db", "quality.inspection"] = 40_000
    (finding,) = pages(detector, rows=1_000, count=25, apart_ns=60 * 10**9)
    assert finding.differences[0].observed == "20000 rows, 50% of the table in one go"
    counted.clear()
    (finding,) = pages(detector, rows=1_000, count=60, apart_ns=60 * 10**9, at_ns=DAY_NS)
    assert finding.differences[-1].observed == "50000 rows, 50% of the table in one go"
