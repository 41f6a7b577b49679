"""Every verb, client and server that this machine can run by itself, counted by the client and by the sensor."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.matrix.run import Bench, bench, cells, recordings, replay
from tests.matrix.table import NOT_SHOWN, VERBS, Cell, Report, Shown, lines

RECORDED = recordings()


@pytest.fixture(scope="session")
def live(request: pytest.FixtureRequest) -> Iterator[Bench]:
    # Not pytest's own folder: another run closes that one to the servers' unprivileged user.
    with tempfile.TemporaryDirectory(prefix="matrix-") as folder, bench(Path(folder)) as made:
        yield made
        request.config.stash[TABLE] = made.report


TABLE = pytest.StashKey[Report]()


@pytest.mark.parametrize("cell", cells(), ids=str)
def test_the_sensor_counts_what_the_client_counted_however_the_bytes_are_cut(live: Bench, cell: Cell) -> None:
    assert live.run(cell).wrong == []


@pytest.mark.parametrize("cell", RECORDED, ids=str)
def test_a_recording_gives_what_its_client_counted_however_the_bytes_are_cut(live: Bench, cell: Cell) -> None:
    live.report.cells[cell] = shown = replay(cell, RECORDED[cell])
    assert shown.wrong == []


def test_a_cell_without_a_sample_says_so() -> None:
    report = Report({Cell("mqtt", "bridge", "a", "b"): Shown([], [], 10)})
    row = next(line for line in lines(report) if line.startswith("| topic alias"))
    assert row == f"| topic alias | {NOT_SHOWN} |"


def test_every_cell_belongs_to_a_verb_of_the_table() -> None:
    assert {(cell.protocol, cell.verb) for cell in (*cells(), *RECORDED)} <= {
        (name, verb) for name, verbs in VERBS.items() for verb in verbs
    }
