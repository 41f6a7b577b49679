# ruff: noqa: E501 (a row of the table is one change)
"""What two editions say differently, told in words: each kind of change from plant-north with one thing changed."""

from pathlib import Path

import pytest

from hopwatch.declared.diff import changes
from hopwatch.declared.load import loads

TEXT = (Path(__file__).parents[2] / "examples" / "plant-north.yaml").read_text("utf-8")


def told(*replaced: tuple[str, str], back: bool = False) -> list[str]:
    text = TEXT
    for old, new in replaced:
        assert old in text, old
        text = text.replace(old, new, 1)
    editions = [loads(TEXT), loads(text)]
    return [f"{one.sign} {one.name} {one.words}" for one in changes(*(reversed(editions) if back else editions))]


def test_the_same_file_written_otherwise_says_nothing() -> None:
    assert told(("may: [select, copy]  ", "may:  [ select, copy ]  "), ("# how long the copy", "# for how long the copy")) == []


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("limit: 250 MiB / 1d", "limit: 300 MiB / 1d", "~ lake-upload limit 250 -> 300 MiB / 1d"),
        ("limit: 250 MiB / 1d", "limit: 1 GiB / 1d", "~ lake-upload limit 250 MiB / 1d -> 1 GiB / 1d"),
        ("limit: 250 MiB / 1d", "limit: [250 MiB / 1d, 3 GiB / 30d]", "~ lake-upload limit 3 GiB / 30d added"),
        ("when: daily 03:00-04:00", "when: daily 03:00-05:00", "~ lake-upload when daily 03:00-04:00 -> daily 03:00-05:00"),
        ("may: [publish]", "may: [publish, subscribe]", "~ publish-uns may [publish] -> [publish, subscribe]"),
        ("off_site: never,    at_rest", "off_site: approved,    at_rest", "~ class process_ip off_site never -> approved"),
        ("from: [historian],", "from: [historian, mes-app],", "~ account svc_hist from [historian] -> [historian, mes-app]"),
        ("review_by: 2026-09-02", "review_by: 2026-10-02", "~ declaration review_by 2026-09-02 -> 2026-10-02"),
        (
            "ticket: CHG-4388, until: 2026-12-31", "ticket: CHG-5000, until: 2027-01-31",
            "~ extract-quality approved {by: h.keller, ticket: CHG-4388, until: 2026-12-31} -> "
            "{by: h.keller, ticket: CHG-5000, until: 2027-01-31}",
        ),
        ("to: off-site, limit: 300 MiB / 1d", "to: off-site, limit: 200 MiB / 1d", "~ budget all hops with quality to off-site limit 300 -> 200 MiB / 1d"),
        ("limit: 3x", "limit: 4x", "~ calendar line month-end last day 18:00-24:00 limit 3x -> 4x"),
        (
            "  acme: ", "  temp:     {kind: vendor, owner: it, from: [mw], auth: token, expires: 2026-05-01, limit: 9k rows / session}\n  acme: ",
            "+ account temp NEW vendor of it, from mw, 9k rows / session",
        ),
        (
            "  quarter-reload:", "  again: {hop: extract-quality, limit: 5M rows / 1d, when: 2026-04-05 00:00-06:00, ticket: CHG-9, by: a.ruiz}\n  quarter-reload:",
            "+ exception again NEW for extract-quality, 2026-04-05 00:00-06:00, 5M rows / 1d, CHG-9",
        ),
    ],
)  # fmt: skip
def test_one_change_is_one_line_of_the_files_own_words(old: str, new: str, words: str) -> None:
    assert told((old, new)) == [words]


def test_a_hop_that_is_gone_or_new_is_told_by_what_it_moves() -> None:
    hop = TEXT[TEXT.index("  ml-features:") : TEXT.index("  acme-diagnose:")]
    assert told((hop, "")) == ["- ml-features removed"]
    assert told((hop, ""), back=True) == ["+ ml-features NEW hop: uns-events (production) -> ml, 60 MiB / 1h, until 2026-10-01"]
