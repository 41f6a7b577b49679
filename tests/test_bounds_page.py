"""The page of bounds says what the code says; hashes of tables that strangers fill are seeded."""

import re
from pathlib import Path

from scripts import bounds

SOURCE = Path(__file__).parent.parent / "wire" / "src"


def test_every_bound_of_the_code_stands_in_the_page() -> None:
    assert bounds.PAGE.read_text() == bounds.page(), "run: python -m scripts.bounds"
    assert len(list(bounds.found())) > 120


def test_every_bound_says_why() -> None:
    silent = [f"{one.place} {one.name}" for one in bounds.found() if one.place.endswith(".rs") and not one.why]
    assert silent == []


def test_reaching_a_bound_is_counted_or_loses_nothing() -> None:
    assert [f"{one.place} {one.name}" for one in bounds.found() if bounds.counter(one) == bounds.SILENT] == []
    named = {(one.place, one.name) for one in bounds.found()}
    rows = [(place, names) for table in (bounds.COUNTED, bounds.SAID) for place, of in table.items() for names in of.values()]
    tables = [(place, name) for place, names in rows for name in names.split()]
    assert [one for one in tables if one not in named] == [], "bounds that the code no longer has"
    assert len(tables) == len(set(tables))


def test_no_table_is_hashed_without_a_random_seed() -> None:
    unseeded = re.compile(r"DefaultHasher::new|BuildHasherDefault|FxHash|fnv|with_hasher\(Default")
    found = [path.name for path in SOURCE.rglob("*.rs") if unseeded.search(path.read_text())]
    assert found == []
    table = (SOURCE / "table.rs").read_text()
    assert "let random = RandomState::new();" in table
