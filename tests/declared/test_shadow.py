"""Hops that decide nothing: each way in which one can still decide something keeps it from being called so."""

from pathlib import Path

import pytest

from hopwatch.declared.load import loads
from hopwatch.declared.problem import Level
from hopwatch.declared.shadow import overshadowed

TEXT = (Path(__file__).parents[2] / "examples" / "plant-north.yaml").read_text(encoding="utf-8")
INNER = (
    "  inner:\n    {who: svc_mw, from: mes-db, to: mw, via: c-ops, may: [select], what: [inspection],\n"
    '     without: ["*.operator_name"], when: daily 01:30-03:00, limit: 9k rows / 1h, protect: {transit: tls1.3}, keep: 7d, why: again,\n'
    "     approved: {by: a.ruiz, ticket: CHG-1, until: 2026-12-31}}\n"
)


def shadows(inner: str, *, before: bool = False) -> list[tuple[str, str]]:
    place = "  extract-quality:" if before else "  lake-upload:"
    return list(overshadowed(loads(TEXT.replace(place, inner + place, 1))))


def test_a_hop_inside_another_is_overshadowed_wherever_it_stands() -> None:
    assert shadows(INNER) == shadows(INNER, before=True) == [("inner", "extract-quality")]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("may: [select]", "may: [select, call]"),
        ("what: [inspection]", "what: [inspection, genealogy]"),
        ("when: daily 01:30-03:00", "when: daily 01:30-04:00"),
        ("when: daily 01:30-03:00, ", ""),
        ('without: ["*.operator_name"], ', ""),
        ("until: 2026-12-31", "until: 2027-01-31"),
        ("{who: svc_mw, from: mes-db, to: mw,", "{who: svc_mw, from: mes-db, to: idmz,"),
    ],
)
def test_a_hop_that_allows_anything_of_its_own_is_not(old: str, new: str) -> None:
    assert old in INNER
    assert shadows(INNER.replace(old, new)) == []


def test_of_two_hops_that_allow_the_same_the_later_decides_nothing() -> None:
    whole = INNER.replace("may: [select]", "may: [copy, select]").replace("what: [inspection]", "what: [orders, inspection]")
    assert shadows(whole) == [("inner", "extract-quality")]
    assert shadows(whole, before=True) == [("extract-quality", "inner")]


def test_the_file_is_not_refused_and_says_it_at_the_hops_line() -> None:
    text = TEXT.replace("  lake-upload:", INNER + "  lake-upload:", 1)
    problems = [one for one in loads(text, "north.yaml").problems if one.rule == "overshadowed"]
    line = text[: text.index("  inner:")].count("\n") + 1
    assert [(one.level, one.line) for one in problems] == [(Level.WARNING, line)]
    assert "is overshadowed by extract-quality" in str(problems[0])
