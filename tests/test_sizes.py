"""A file of the user that says how large tables are."""

from pathlib import Path

import pytest

from hopwatch.config import ConfigError
from hopwatch.sizes import FILE_BYTES_MAX, RELOAD_S, TableSizes


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_a_table_is_as_large_as_the_file_says_there_and_in_that_plant(tmp_path: Path) -> None:
    path = tmp_path / "sizes.csv"
    path.write_text('plant,asset,table,rows\n,mes-db,mes.genealogy,1204331\nsouth,mes-db,mes.genealogy,7\n,mes-db,"mes.odd, name",3\n')
    sizes = TableSizes(path, Clock(), print)
    assert sizes("north", "mes-db", "mes.genealogy") == 1_204_331
    assert sizes("south", "mes-db", "mes.genealogy") == 7
    assert sizes("north", "mes-db", "mes.odd, name") == 3
    assert sizes("north", "lims", "mes.genealogy") is sizes("north", None, "mes.genealogy") is sizes("north", "mes-db", "mes.x") is None
    assert TableSizes(None, Clock(), print)("north", "mes-db", "mes.genealogy") is None


def test_a_newer_file_counts_after_a_minute_and_a_broken_one_is_said_once(tmp_path: Path) -> None:
    path, clock, said = tmp_path / "sizes.csv", Clock(), list[str]()
    path.write_text("asset,table,rows\nmes-db,mes.lot,10\n")
    sizes = TableSizes(path, clock, said.append)
    path.write_text("asset,table,rows\nmes-db,mes.lot,2000\n")
    assert sizes("north", "mes-db", "mes.lot") == 10
    clock.now_s += RELOAD_S
    assert sizes("north", "mes-db", "mes.lot") == 2000
    path.write_text("asset,table,rows\nmes-db,mes.lot,many\n")
    for _ in range(3):
        clock.now_s += RELOAD_S
        assert sizes("north", "mes-db", "mes.lot") == 2000
    assert said == [f"{path}:2: expected an asset, a table and a whole number of rows; the sizes read before still count"]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (None, ": No such file or directory"),
        (b"mes-db,mes.lot,10\n", ":1: expected a header with asset, table and rows"),
        (b"", ":1: expected a header with asset, table and rows"),
        (b"asset,table,rows\nmes-db,mes.lot,-1\n", ":2: expected an asset, a table and a whole number of rows"),
        (b"asset,table,rows\nmes-db,mes.lot\n", ":2: expected an asset, a table and a whole number of rows"),
        (b'asset,table,rows\nmes-db,"mes.lot,10\n', ":2: unexpected end of data"),
        (b"asset,table,rows\nmes-db,\xff,10\n", ": expected UTF-8"),
        (b"x" * (FILE_BYTES_MAX + 1), f": {FILE_BYTES_MAX + 1} bytes, expected at most {FILE_BYTES_MAX}"),
    ],
)
def test_a_file_that_is_none_is_named_with_its_line(tmp_path: Path, content: bytes | None, line: str) -> None:
    path = tmp_path / "sizes.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as said:
        TableSizes(path, Clock(), print)
    assert str(said.value) == f"{path}{line}"
