"""What travels, for programs that are not ours: one JSON Schema a kind of event, and the AsyncAPI document of the topics.

Both are computed from the models of ``hopwatch/events.py`` and the table in ``topics.py``, and published in ``docs/schemas/`` and
``docs/asyncapi.json``; a test holds that they are current.
"""

from __future__ import annotations

from typing import Any, Final

from hopwatch.bus.topics import TOGETHER, TOPICS, Topic
from hopwatch.events import schema

Document = dict[str, Any]  # Any: JSON values

MODELS: Final = {
    "flow": "Flow", "loss": "Loss", "heartbeat": "Heartbeat", "finding": "Finding", "alert": "Alert", "decision": "Decision",
    "declared": "DeclaredEdition",
}  # fmt: skip
"""The kinds that have a model, by its name."""

SPEAKERS: Final = {
    "flow": ("agents", "detectors, stores"),
    "loss": ("agents", "detectors, stores"),
    "heartbeat": ("agents", "detectors, stores"),
    "finding": ("detectors", "stores, alerts, whoever asks about the company"),
    "alert": ("alerts", "consoles, SOC connectors"),
    "decision": ("consoles", "alerts, detectors"),
    "declared": ("hopwatch declared apply", "detectors"),
    "rejected": ("detectors, stores", "a person"),
}

_DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"


def kind_schema(kind: str) -> Document:
    """The JSON Schema of the events of one kind (JSON Schema 2020-12), with only the definitions it needs."""
    definitions = schema()["$defs"]
    whole = definitions[MODELS[kind]]
    needed = _needed(whole, definitions)
    return {"$schema": _DRAFT, **whole, "title": f"hopwatch {kind}"} | ({"$defs": needed} if needed else {})


def asyncapi(version: str) -> Document:
    """The AsyncAPI 3.0 document of the topics; ``version`` is that of the program."""
    definitions = schema()["$defs"]
    models = {name: definitions[name] for name in MODELS.values()}
    parts: Document = {}
    for model in models.values():
        parts |= _needed(model, definitions)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "hopwatch",
            "version": version,
            "description": "What data moves in plants, against what was declared. Each message is one event, a CloudEvent in binary mode "
            "(CloudEvents 1.0, Kafka Protocol Binding). Readers keep fields they do not know. A topic's name may have a prefix.",
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "cluster": {
                "host": "{broker}",
                "protocol": "kafka",
                "variables": {"broker": {"default": "localhost:9092", "description": "any broker of the cluster"}},
            }
        },
        "channels": {kind: _channel(topic) for kind, topic in TOPICS.items()},
        "operations": {name: operation for kind in TOPICS for name, operation in _operations(kind).items()},
        "components": {
            "messages": {kind: _message(topic) for kind, topic in TOPICS.items()},
            "schemas": {name: _moved(part) for name, part in sorted((parts | models).items())} | {"Attributes": _ATTRIBUTES},
        },
    }


def _channel(topic: Topic) -> Document:
    return {
        "address": topic.name,
        "title": topic.about,
        "description": f"{topic.about[0].upper()}{topic.about[1:]}. Kept {_kept(topic)}: {topic.why}.",
        "messages": {topic.kind: {"$ref": f"#/components/messages/{topic.kind}"}},
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "partitions": topic.partitions,
                "replicas": 3,
                "topicConfiguration": {
                    "cleanup.policy": [topic.cleanup],
                    "retention.ms": topic.retention_ms,
                    "max.message.bytes": int(topic.config()["max.message.bytes"]),
                },
                "bindingVersion": "0.5.0",
            }
        },
    }


def _operations(kind: str) -> Document:
    writers, readers = SPEAKERS[kind]
    channel = {"$ref": f"#/channels/{kind}"}
    messages = [{"$ref": f"#/channels/{kind}/messages/{kind}"}]
    return {
        f"{kind}.send": {"action": "send", "channel": channel, "title": f"by {writers}", "messages": messages},
        f"{kind}.receive": {"action": "receive", "channel": channel, "title": f"by {readers}", "messages": messages},
    }


def _message(topic: Topic) -> Document:
    kind = topic.kind
    split = ", or plant/shard where a plant is split" if kind in TOGETHER else ""
    key = {"type": "string", "description": f"the plant{split}" if kind != "rejected" else "the key of the message that was rejected"}
    said: Document = {
        "name": f"hopwatch.{kind}.v1",
        "title": topic.about,
        "headers": {"$ref": "#/components/schemas/Attributes"},
        "bindings": {"kafka": {"key": key, "bindingVersion": "0.5.0"}},
    }
    if kind in MODELS:
        return {**said, "payload": {"$ref": f"#/components/schemas/{MODELS[kind]}"}}
    if kind == "rejected":
        about = {"description": "the bytes of the rejected message, as they came"}
        return {**said, "contentType": "application/octet-stream", "headers": _REJECTED, "payload": about}
    return {**said, "payload": {"type": "object", "description": "the topic is kept for it; no program of this version writes it"}}


def _kept(topic: Topic) -> str:
    return "for ever, the newest of each key" if topic.cleanup == "compact" else f"{topic.retention_ms // 86_400_000} days"


def _needed(part: Any, definitions: Document) -> Document:
    """The definitions a schema refers to, and those that they refer to."""
    found: Document = {}
    waiting = [part]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            name = str(one.get("$ref", "")).removeprefix("#/$defs/")
            if name and name not in found:
                found[name] = definitions[name]
                waiting.append(definitions[name])
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
    return dict(sorted(found.items()))


def _moved(part: Any) -> Any:
    """The same schema with its references to where AsyncAPI keeps schemas."""
    if isinstance(part, dict):
        return {
            name: str(value).replace("#/$defs/", "#/components/schemas/") if name == "$ref" else _moved(value)
            for name, value in part.items()
        }
    return [_moved(one) for one in part] if isinstance(part, list) else part


_ATTRIBUTES: Final[Document] = {
    "type": "object",
    "description": "context attributes (CloudEvents 1.0, Kafka Protocol Binding 3.2.3)",
    "required": ["ce_specversion", "ce_type", "ce_source", "ce_id"],
    "properties": {
        "content-type": {"const": "application/json"},
        "ce_specversion": {"const": "1.0"},
        "ce_type": {"type": "string", "description": "the topic's name without a prefix"},
        "ce_source": {"type": "string", "format": "uri-reference", "description": "/plants/PLANT/agents/AGENT and the like"},
        "ce_id": {"type": "string", "description": "the event_id: a repeated event has the same"},
        "ce_time": {"type": "string", "format": "date-time", "description": "the end of the window; left out where there is none"},
    },
}
_REJECTED: Final[Document] = {
    "type": "object",
    "required": ["ce_specversion", "ce_type", "ce_source", "ce_id", "ce_reason", "ce_fromtopic", "ce_frompartition", "ce_fromoffset"],
    "properties": {
        "content-type": {"const": "application/octet-stream"},
        "ce_specversion": {"const": "1.0"},
        "ce_type": {"const": "hopwatch.rejected.v1"},
        "ce_source": {"type": "string", "format": "uri-reference"},
        "ce_id": {"type": "string", "description": "TOPIC/PARTITION/OFFSET: a message rejected twice has the same"},
        "ce_reason": {"type": "string", "description": "the field that is wrong and how; never a value"},
        "ce_fromtopic": {"type": "string"},
        "ce_frompartition": {"type": "string"},
        "ce_fromoffset": {"type": "string"},
    },
}
