"""The page of requirements says what is so: every test that it names is there, and its sums are those of its rows."""

import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "requirements.md").read_text(encoding="utf-8")
STATES = ("built", "in part", "not built")


def rows() -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in TEXT.splitlines() if re.match(r"\| \d+ \|", line)]


def test_every_test_that_is_named_is_there() -> None:
    named = re.findall(r"(tests/[\w/]+\.py)(?:::(\w+))?", TEXT)
    assert len(named) > 100
    lacking = [
        (file, test)
        for file, test in named
        if not (ROOT / file).exists() or (test and f"def {test}(" not in (ROOT / file).read_text(encoding="utf-8"))
    ]
    assert not lacking


def test_the_sums_are_those_of_the_rows_and_what_is_built_or_in_part_is_shown() -> None:
    found = rows()
    assert [int(row[0]) for row in found] == list(range(1, 129))
    of = {row[0]: next(state for state in reversed(STATES) if row[3].startswith(state)) for row in found}
    counts = Counter(of.values())
    assert f"Built {counts['built']}, in part {counts['in part']}, not built {counts['not built']}." in TEXT
    assert not [row[0] for row in found if of[row[0]] != "not built" and not row[4]]
    assert not [row[0] for row in found if of[row[0]] == "not built" and row[4]]
