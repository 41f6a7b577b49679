"""Messages that earlier versions wrote, recorded from a real broker (tests/data/messages/record.py): this version reads them."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from hopwatch.bus.contract import MODELS, kind_schema
from hopwatch.bus.topics import TOPICS, kind_of
from hopwatch.events import EventError, dump, parse
from hopwatch.storing import KINDS, check

FOLDER = Path(__file__).parents[1] / "data" / "messages"
MESSAGES: list[dict[str, Any]] = [
    json.loads(line) for path in sorted(FOLDER.glob("*.jsonl")) for line in path.read_text(encoding="utf-8").splitlines()
]
EVENTS = [message for message in MESSAGES if kind_of(message["topic"]) in MODELS]
NAMES = [f"{kind_of(message['topic'])}-{message['headers']['ce_id'][:8]}" for message in EVENTS]


def test_every_kind_that_is_written_was_recorded() -> None:
    assert {kind_of(message["topic"]) for message in MESSAGES} == {*MODELS, "rejected"}


@pytest.mark.parametrize("message", EVENTS, ids=NAMES)
def test_a_recorded_message_loads_and_says_what_its_headers_say(message: dict[str, Any]) -> None:
    event = parse(message["value"])
    headers = message["headers"]
    said = json.loads(message["value"])
    assert headers["ce_type"] == TOPICS[event.kind].name
    assert headers["ce_id"] == said["event_id"]
    assert message["key"] == said["plant"]
    assert headers["ce_source"].startswith(f"/plants/{said['plant']}/")
    Draft202012Validator(kind_schema(event.kind)).validate(said)


STORED = [(message, name) for message, name in zip(EVENTS, NAMES, strict=True) if kind_of(message["topic"]) in KINDS]


@pytest.mark.parametrize("message", [message for message, _ in STORED], ids=[name for _, name in STORED])
def test_the_store_takes_a_recorded_message(message: dict[str, Any]) -> None:
    check(json.loads(message["value"]), kind_of(message["topic"]))


@pytest.mark.parametrize("message", EVENTS, ids=NAMES)
def test_fields_of_a_newer_version_are_kept(message: dict[str, Any]) -> None:
    said = json.loads(message["value"])
    said["from_tomorrow"] = {"deep": [1, None]}
    for part in ("source", "completeness", "observed"):
        if isinstance(said.get(part), dict):
            said[part]["from_tomorrow"] = "x"
    again = json.loads(dump(parse(json.dumps(said))))
    assert {name: again[name] for name in said} == said


def test_a_message_without_a_needed_field_names_it_and_quotes_nothing() -> None:
    said = json.loads(next(message["value"] for message in EVENTS if kind_of(message["topic"]) == "flow"))
    said["start"] = "sesame-7f"
    with pytest.raises(EventError, match="start") as refused:
        parse(json.dumps(said))
    assert "sesame" not in str(refused.value)
