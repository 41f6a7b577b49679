"""The JSON Schema of the format, for completion and checks in an editor (JSON Schema 2020-12)."""

from typing import Any

from hopwatch.declared.model import PlantFile


def json_schema() -> dict[str, Any]:  # Any: a JSON Schema is free in shape
    """The schema of a whole plant file. It types; what two places together contradict only ``validate`` proves."""
    schema = PlantFile.model_json_schema(by_alias=True, mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "hopwatch declaration", **_without(schema, "title")}


def _without(schema: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in schema.items() if name != key}
