"""The format reference names every key, and the errors it shows are the ones people get."""

from pathlib import Path

import pytest

from hopwatch.declared.load import loads
from hopwatch.declared.problem import ArchitectureError
from hopwatch.declared.schema import json_schema

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "declaration.md").read_text("utf-8")
TEXT = (ROOT / "examples" / "plant-north.yaml").read_text("utf-8")


def test_every_key_of_the_schema_stands_in_the_reference() -> None:
    schema = json_schema()
    keys = set(schema["properties"]) | {key for model in schema["$defs"].values() for key in model.get("properties", {})}
    assert {key for key in keys if f"`{key}`" not in DOCS and f"{key}:" not in DOCS and f"## {key}" not in DOCS} == set()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("who: svc_lake", "whom: svc_lake"),
        ("limit: 250 MiB / 1d", "limit: 250 MB / 1d"),
        (', pseudonymise: ["*.operator_id"]', ""),
    ],
)
def test_error_shown_in_the_reference_is_the_error_given(old: str, new: str) -> None:
    with pytest.raises(ArchitectureError) as caught:
        loads(TEXT.replace(old, new, 1), "plant-north.yaml")
    assert any(str(problem) in DOCS for problem in caught.value.problems), str(caught.value)


def test_examples_of_budgets_calendar_and_exceptions_hold() -> None:
    block = DOCS.split("```yaml\n")[1].split("```")[0]
    assert loads(TEXT[: TEXT.index("budgets:")] + block).exceptions["repair"].account == "dba"
