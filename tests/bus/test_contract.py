"""What is published for other programs: current, whole, and true for what was recorded."""

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from hopwatch.bus.contract import MODELS, SPEAKERS, asyncapi, kind_schema
from hopwatch.bus.topics import DAY_MS, TOPICS
from scripts.contract import ROOT, documents

DOCUMENT = asyncapi("1.2.3")


def references(part: Any) -> list[str]:
    if isinstance(part, dict):
        return [value for name, value in part.items() if name == "$ref"] + [name for one in part.values() for name in references(one)]
    return [name for one in part for name in references(one)] if isinstance(part, list) else []


def test_the_published_documents_are_those_of_the_models_and_topics() -> None:
    for path, text in documents().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run `python -m scripts.contract`"


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    found = references(DOCUMENT)
    assert found
    for name in found:
        place: Any = DOCUMENT
        for part in name.removeprefix("#/").split("/"):
            place = place[part]


def test_every_topic_is_a_channel_with_its_partitions_retention_and_cleanup() -> None:
    assert set(DOCUMENT["channels"]) == set(TOPICS) == set(SPEAKERS)
    for kind, topic in TOPICS.items():
        said = DOCUMENT["channels"][kind]["bindings"]["kafka"]
        assert (said["topic"], said["partitions"]) == (topic.name, topic.partitions)
        assert said["topicConfiguration"]["retention.ms"] == topic.retention_ms
        assert said["topicConfiguration"]["cleanup.policy"] == [topic.cleanup]


def test_the_page_has_every_topic_as_it_is() -> None:
    rows = [
        line.split(" | ")
        for line in (ROOT / "docs" / "kafka.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| `hopwatch.")
    ]
    said = {row[0].strip("| `"): (row[2], row[3].split(" ")[0]) for row in rows}
    assert said == {
        topic.name: (str(topic.partitions), "for" if topic.cleanup == "compact" else str(topic.retention_ms // DAY_MS))
        for topic in TOPICS.values()
    }


@pytest.mark.parametrize("kind", MODELS)
def test_the_schema_of_a_kind_is_one_and_refuses_what_is_no_event(kind: str) -> None:
    whole = kind_schema(kind)
    Draft202012Validator.check_schema(whole)
    assert not Draft202012Validator(whole).is_valid({"kind": kind})
    assert all(name.removeprefix("#/$defs/") in whole["$defs"] for name in references(whole))


def test_nothing_is_defined_that_a_schema_does_not_need() -> None:
    assert "Flow" not in kind_schema("loss").get("$defs", {})
    assert set(references(kind_schema("flow"))) <= {f"#/$defs/{name}" for name in kind_schema("flow")["$defs"]}
