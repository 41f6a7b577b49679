"""Files that change under the reader: what one is called says nothing of which it is."""

from pathlib import Path

import pytest

from collectors.log import cut_lines
from collectors.tail import Tail


def tail(folder: Path) -> Tail:
    return Tail(f"{folder}/*.log*", lambda _: cut_lines)


def test_a_file_that_is_renamed_while_it_is_read_is_not_read_again(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("one\n")
    reading = tail(tmp_path)
    (piece,) = reading.pieces()
    found = reading.read(piece)
    (tmp_path / "a.log").rename(tmp_path / "a.log.1")
    (tmp_path / "a.log").write_text("another\n")
    reading.done(piece)
    (next_,) = reading.pieces(most=9)
    again = reading.read(next_)
    assert found is not None and again is not None
    assert (found.content, again.content, reading.truncated_total) == (b"one\n", b"another\n", 0)


def test_a_file_that_goes_while_others_are_looked_for_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.log").write_text("one\n")
    (piece,) = tail(tmp_path).pieces()
    restarted = tail(tmp_path)
    monkeypatch.setattr(restarted, "files", lambda: [tmp_path / "gone.log", tmp_path / "a.log"])
    found = restarted.read(piece)
    assert found is not None
    assert found.content == b"one\n"


def test_the_first_lines_come_with_a_piece_whatever_has_its_name_by_then(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("#fields\n1\n")
    reading = tail(tmp_path)
    (piece,) = reading.pieces()
    reading.read(piece)
    reading.done(piece)
    with (tmp_path / "a.log").open("a") as file:
        file.write("2\n")
    (piece,) = reading.pieces()
    (tmp_path / "a.log").rename(tmp_path / "a.log.1")
    (tmp_path / "a.log").write_text("#other\n")
    found = reading.read(piece, head_bytes=8)
    assert found is not None
    assert (found.content, found.head) == (b"2\n", b"#fields\n")
