"""The published schemas by a validator that is not ours: what the example gives and says is valid, and what is broken is not."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker
from ruamel.yaml import YAML

from hopwatch.cli import main
from hopwatch.declared.schema import json_schema

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
EVENT = Draft202012Validator(json.loads((ROOT / "docs" / "events.schema.json").read_text("utf-8")), format_checker=FormatChecker())
PLANT = Draft202012Validator(json_schema(), format_checker=FormatChecker())


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What `watch --json` writes about the shipped day."""
    out = tmp_path_factory.mktemp("day") / "events"
    with pytest.MonkeyPatch.context() as patch, out.open("w") as stream:
        patch.setattr("sys.stdout", stream)
        day = ["-d", str(EXAMPLES / "plant-demo.yaml"), "-r", str(EXAMPLES / "plant-day.pcap.gz"), "--json", "--store", "none"]
        assert main(["watch", *day]) == 1
    return [json.loads(line) for line in out.read_text().splitlines()]


def read(path: Path) -> dict[str, Any]:
    """The file as an editor reads it: YAML 1.2, whose core schema has no dates."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(one) for key, one in value.items()}
        if isinstance(value, list):
            return [plain(one) for one in value]
        return value.isoformat() if isinstance(value, date) else value

    return dict(plain(YAML(typ="safe", pure=True).load(path)))


def test_the_published_schemas_are_schemas() -> None:
    Draft202012Validator.check_schema(EVENT.schema)
    Draft202012Validator.check_schema(PLANT.schema)


def test_every_event_of_the_shipped_day_is_valid(lines: list[dict[str, Any]]) -> None:
    assert {line["kind"] for line in lines} >= {"flow", "finding", "summary"}
    assert [error.message for line in lines for error in EVENT.iter_errors(line)] == []


@pytest.mark.parametrize(
    ("kind", "broken"),
    [
        ("flow", {"depth": "guessed"}), ("flow", {"start": "yesterday"}), ("flow", {"bytes": -1}), ("flow", {"source": None}),
        ("flow", {"kind": "flaw"}), ("flow", {"objects": [{"columns": []}]}), ("flow", {"bytes": 1.5}), ("flow", {"sequence": "0"}),
        ("finding", {"severity": "dire"}), ("finding", {"checked": {"who": "perhaps"}}), ("finding", {"differences": [{}]}),
        ("summary", {"packets": "many"}), ("summary", {"findings": {"decoy": None}}),
    ],
)  # fmt: skip
def test_an_event_with_one_wrong_field_is_not(lines: list[dict[str, Any]], kind: str, broken: dict[str, Any]) -> None:
    event = next(line for line in lines if line["kind"] == kind)
    assert EVENT.is_valid(event)
    assert not EVENT.is_valid(event | broken)


@pytest.mark.parametrize("missing", ["event_id", "plant", "connection", "start", "source", "operation", "depth"])
def test_a_flow_without_a_field_it_needs_is_not(lines: list[dict[str, Any]], missing: str) -> None:
    event = next(line for line in lines if line["kind"] == "flow")
    assert not EVENT.is_valid({key: value for key, value in event.items() if key != missing})


@pytest.mark.parametrize("name", ["plant-north.yaml", "plant-demo.yaml"])
def test_the_example_plants_are_valid_as_an_editor_reads_them(name: str) -> None:
    assert [f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in PLANT.iter_errors(read(EXAMPLES / name))] == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("hops", "extract-quality", "limit"), "200k lines / 1h"), (("hops", "extract-quality", "may"), ["steal"]),
        (("hops", "extract-quality", "when"), "sometimes"), (("hops", "extract-quality", "whom"), "svc_mw"),
        (("accounts", "svc_mw", "kind"), "robot"), (("zones", "lake-eu", "off_site"), "yes"), (("version",), "fourteen"),
        (("review_by",), "2026-02-30"), (("calendar", 0, "limit"), "three times"), (("classes", "quality", "transit"), "tls1.1"),
        (("services", "dns", "cap"), None), (("hops", "extract-quality", "limit"), []), (("hops", "extract-quality", "what"), []),
    ],
)  # fmt: skip
def test_a_plant_with_one_wrong_value_is_not(path: tuple[Any, ...], value: object) -> None:
    plant = read(EXAMPLES / "plant-north.yaml")
    place: Any = plant
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert not PLANT.is_valid(plant)


def test_the_file_beside_the_docs_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == EVENT.schema
