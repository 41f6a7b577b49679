"""The loader: text until the schema types it, every error located, and no YAML the format does not have."""

from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hopwatch.declared.load import DEPTH_MAX, load, loads
from hopwatch.declared.problem import ArchitectureError, Problem

TEXT = (Path(__file__).parents[2] / "examples" / "plant-north.yaml").read_text("utf-8")
DAY = date(2026, 4, 7)


def refused(text: str) -> tuple[Problem, ...]:
    with pytest.raises(ArchitectureError) as caught:
        loads(text, "plant-north.yaml", at=DAY)
    return caught.value.problems


@pytest.mark.parametrize(
    ("old", "new", "place", "sentence"),
    [
        ("who: svc_lake", "whom: svc_lake", "108:5", "lake-upload: key whom is unknown, did you mean who?"),
        ("may: [put]", "may: [putt]", "112:11", "lake-upload: may.0 \"putt\": expected one of"),
        ("plant: north", "plant: north\nplant: south", "4:1", "plant: plant is declared twice, first in line 3"),
        ("limit: 250 MiB / 1d", "limit: 250 MB / 1d", "116:5", "MB is read two ways, write MiB"),
        ("version: 14", "version: fourteen", "4:1", 'version: "fourteen": expected a whole number'),
        ("keep: 90d", "keep: &long 90d", "118:11", "anchors and aliases are no part of the format"),
        ("keep: 90d", "keep: !!str 90d", "118:11", "is no part of the format, the schema types every value"),
        ("gdpr: true", "gdpr: yes", "16:113", 'operator: gdpr "yes": expected true or false'),
        ("    why: scrap model training, UC-12\n", "", "107:3", "lake-upload: why is missing"),
        ("    what: [inspection]\n", "    what: []\n", "113:5", "lake-upload: what is empty"),
        ("review_by: 2026-09-02", "review_by: 2026-02-30", "7:1", 'review_by: "2026-02-30": expected a day such as 2026-12-31'),
        ("nets: [10.10.1.0/24]", "nets: [10.10.1.5/24]", "19:44", "expected a network such as 10.20.0.0/22 with no host bits set"),
    ],
)  # fmt: skip
def test_error_names_line_column_key_and_expectation(old: str, new: str, place: str, sentence: str) -> None:
    assert old in TEXT
    problems = refused(TEXT.replace(old, new, 1))
    assert any(f"plant-north.yaml:{place} " in str(problem) and sentence in str(problem) for problem in problems), problems


@pytest.mark.parametrize("section", ["hops", "accounts", "zones", "classes", "conduits", "assets", "data"])
def test_every_required_key_of_the_first_entity_is_missed_at_its_line(section: str) -> None:
    from ruamel.yaml import YAML

    tree = YAML(typ="safe", pure=True).load(TEXT)
    name = next(iter(tree[section]))
    required = {
        "hops": "who limit keep why what may from to",
        "accounts": "kind owner from auth",
        "zones": "level",
        "classes": "sensitivity transit keep_max",
        "conduits": "from to agent sees",
        "assets": "zone kind",
        "data": "class in",
    }
    text = TEXT.replace(f"  {name}:", f"  {name}: {{}}\n  {name}-other:", 1)
    missing = {p.path[2] for p in refused(text) if p.path[:2] == (section, name) and p.message.endswith("is missing")}
    assert missing == set(required[section].split())


def test_scalars_mean_the_same_to_yaml_1_1_and_1_2() -> None:
    # 1.1 reads these as 1320 minutes, false and a date; here they are the text the author wrote.
    text = TEXT.replace("why: process history", "why: no").replace("owner: ot-data,", "owner: 22:00,").replace("CHG-3990", "2026-01-01")
    architecture = loads(text, at=DAY)
    hop = architecture.hops["collect-tags"]
    assert (hop.why, hop.approved and hop.approved.ticket, architecture.accounts["svc_hist"].owner) == ("no", "2026-01-01", "22:00")


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "- a\n", "plant", "plant: {", "a: 1\n---\nb: 2\n", "? [a]\n: b\n", "\tplant: x", "a: *b"]
)
def test_text_that_is_no_declaration_is_refused_and_not_raised_through(text: str) -> None:
    assert refused(text)


def test_nesting_is_bounded() -> None:
    assert any(f"nested over {DEPTH_MAX} deep" in problem.message for problem in refused("plant: " + "[" * 5000))


@given(st.data())
def test_any_damage_to_a_file_is_read_or_refused_with_located_errors(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, 2500))
    damage = data.draw(st.text(alphabet="{}[]:,#&*!|>'\"%@`- \n\tax0\x00é", max_size=6))
    text = TEXT[:at] + damage + TEXT[at + data.draw(st.integers(0, 6)) : 2600]
    try:
        loads(text, "damaged.yaml", at=DAY)
    except ArchitectureError as error:
        assert error.problems
        assert all(problem.line >= 1 and problem.column >= 1 and problem.message for problem in error.problems)


def test_file_that_is_absent_or_not_utf8_is_an_architecture_error(tmp_path: Path) -> None:
    with pytest.raises(ArchitectureError, match="cannot be read"):
        load(tmp_path / "absent.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"plant: n\xf6rd")
    with pytest.raises(ArchitectureError, match="byte 8 is not UTF-8"):
        load(tmp_path / "latin.yaml")
