"""Techniques by verdict: every verdict of the product has some, or a reason why not."""

import re

import pytest
from spoken_verdicts import said_in_code

from alerts.techniques import TECHNIQUES_MAX, page, read, shipped, technique, techniques

FILE = """
version = "18"
released = "2025-10-28"
source = "https://attack.mitre.org/"
[techniques]
"T1074" = { matrix = "enterprise", name = "Data Staged", tactic = "Collection" }
[verdicts]
"staging" = [%s]
[none]
"""


def test_every_verdict_in_the_code_has_techniques_or_says_why_not() -> None:
    file = shipped()
    assert said_in_code() == set(file.by_verdict) | set(file.none)
    assert not set(file.by_verdict) & set(file.none)
    assert all(file.none.values())
    assert all(file.by_verdict.values())


def test_every_technique_is_used_and_written_as_its_matrix_writes_them() -> None:
    file = shipped()
    assert {id for ids in file.by_verdict.values() for id in ids} == set(file.known)
    for one in file.known.values():
        assert re.fullmatch(r"T0\d{3}" if one.matrix == "ics" else r"T1\d{3}(\.\d{3})?", one.id)
        assert one.name and one.tactic
    assert (file.version, file.released) == ("18", "2025-10-28")


def test_a_technique_has_its_page_in_the_release() -> None:
    databases = technique("T1213.006")
    assert databases is not None
    assert databases.url == "https://attack.mitre.org/versions/v18/techniques/T1213/006/"
    assert (databases.parent, technique("T9999")) == ("T1213", None)


def test_an_alert_of_a_verdict_that_nobody_knows_names_nothing_and_every_verdict() -> None:
    assert (techniques("../../etc"), page("../../etc")) == ([], "docs/verdicts.md")
    assert (techniques("clock"), page("clock")) == ([], "docs/verdicts/clock.md")
    assert "T0882" in techniques("dump")


@pytest.mark.parametrize(
    ("ids", "why"),
    [
        ('"T0882"', "T0882 is not among"),
        (", ".join(['"T1074"'] * (TECHNIQUES_MAX + 1)), "expected at most"),
        ("1.", "no file of techniques"),
    ],
)
def test_a_file_that_is_wrong_is_refused(ids: str, why: str) -> None:
    assert read(FILE % '"T1074"').by_verdict == {"staging": ("T1074",)}
    with pytest.raises(ValueError, match=why):
        read(FILE % ids)
