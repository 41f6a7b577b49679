"""Every verb, client and server that this machine can run by itself, counted by the client and by the sensor."""

import pytest

from tests.matrix import capture
from tests.matrix.ledger import Moved, differences
from tests.matrix.run import Bench, cells, recordings, replay
from tests.matrix.table import NOT_SHOWN, VERBS, Cell, Report, Shown, lines

RECORDED = recordings()


@pytest.mark.parametrize("cell", cells(), ids=str)
def test_the_sensor_counts_what_the_client_counted_however_the_bytes_are_cut(live: Bench, cell: Cell) -> None:
    assert live.run(cell).wrong == []


@pytest.mark.parametrize("cell", RECORDED, ids=str)
def test_a_recording_gives_what_its_client_counted_however_the_bytes_are_cut(live: Bench, cell: Cell) -> None:
    shown = replay(cell, RECORDED[cell])
    live.report.cells.setdefault(cell, shown)
    assert shown.wrong == []


def test_one_row_more_or_less_than_the_client_counted_is_told() -> None:
    held = dict.fromkeys(("values", "messages", "bytes", "bytes_back"), 0)
    for rows, told in ((9, 1), (10, 0), (11, 1)):
        assert len(differences([Moved("svc", "select", rows=10)], {("svc", "select"): {**held, "rows": rows}})) == told


def test_rows_that_no_client_counted_are_told_unless_a_driver_makes_them_for_itself() -> None:
    seen = {("svc", "select"): {"rows": 1, "values": 0, "messages": 1, "bytes": 0, "bytes_back": 0}}
    assert len(differences([], seen)) == 1
    assert differences([], seen, ["select"]) == []


def test_every_place_of_both_streams_is_cut_and_each_replay_says_the_same_bytes() -> None:
    conversation = capture.Conversation(("10.99.0.1", 40_000), ("10.99.0.2", 5432))
    maker = capture.Maker()
    maker.add([(conversation, True, bytes(150)), (conversation, False, bytes(range(200))), (conversation, True, b"end")])
    frames, clients = capture.every_cut(maker.frames)
    places: set[tuple[bool, int]] = set()
    replays: dict[tuple[str, int], dict[bool, bytes]] = {}
    for one, from_client, data in capture.conversations(frames):
        said = replays.setdefault(one.client, {True: b"", False: b""})
        said[from_client] += data
        places.add((from_client, len(said[from_client])))
    assert len(replays) == len(clients)
    assert all(said == {True: bytes(150) + b"end", False: bytes(range(200))} for said in replays.values())
    assert places == {(True, place) for place in range(1, 154)} | {(False, place) for place in range(1, 201)}


def test_a_cell_without_a_sample_says_so() -> None:
    report = Report({Cell("mqtt", "bridge", "a", "b"): Shown([], [], 10)})
    row = next(line for line in lines(report) if line.startswith("| topic alias"))
    assert row == f"| topic alias | {NOT_SHOWN} |"


def test_every_cell_belongs_to_a_verb_of_the_table() -> None:
    assert {(cell.protocol, cell.verb) for cell in (*cells(), *RECORDED)} <= {
        (name, verb) for name, verbs in VERBS.items() for verb in verbs
    }
