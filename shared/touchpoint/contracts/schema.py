"""Publish the contracts outside Python: a JSON Schema per event, and one AsyncAPI document for all topics."""

from typing import Any

from touchpoint.contracts import topics
from touchpoint.contracts.base import REGISTRY, Event

DRAFT = "http://json-schema.org/draft-07/schema#"
"""The JSON Schema draft that all AsyncAPI tools must support."""

_KEY = (
    "tenant:customer; without a customer tenant:submission, else tenant:event id. "
    "Events of one customer keep their order within a topic."
)
_EXAMPLE_TIME = "2026-11-22T09:30:00Z"


def file_name(event: type[Event]) -> str:
    """The file name of an event's schema in docs/events."""
    return f"{event.type}.v{event.version}.json"


def json_schema(event: type[Event]) -> dict[str, Any]:
    """The JSON Schema of an event's data, binding for writers; readers ignore fields they do not know."""
    schema = event.model_json_schema()
    return {"$schema": DRAFT, "$id": event.dataschema(), **schema, "title": event.type}


def asyncapi() -> dict[str, Any]:
    """The AsyncAPI 3.0 document: every topic is a channel, every event type a message on it."""
    events = [REGISTRY[name] for name in sorted(REGISTRY)]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Touchpoint events",
            "version": "1.0.0",
            "description": "CloudEvents 1.0, Kafka binding, binary mode. A topic has one writer and any number of "
            "readers. Readers must ignore unknown fields and keep unknown enum values.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {topic: _channel(topic, events) for topic in sorted(topics.WRITERS)},
        "operations": {
            f"{writer}.writes.{topic}": {
                "action": "send",
                "channel": {"$ref": f"#/channels/{topic}"},
                "summary": f"{writer} is the only writer of this topic.",
            }
            for topic, writer in sorted(topics.WRITERS.items())
        },
        "components": {"messages": {event.type: _message(event) for event in events}},
    }


def _channel(topic: str, events: list[type[Event]]) -> dict[str, Any]:
    return {
        "address": topic,
        "description": f"Written by {topics.WRITERS[topic]}. A deployment may add a prefix to the name.",
        "messages": {
            event.type: {"$ref": f"#/components/messages/{event.type}"} for event in events if event.topic == topic
        },
    }


def _message(event: type[Event]) -> dict[str, Any]:
    schema = json_schema(event)
    return {
        "name": event.type,
        "title": event.type,
        "summary": schema["description"],
        "contentType": "application/json",
        "headers": _headers(event),
        "payload": {
            "schemaFormat": "application/schema+json;version=draft-07",
            "schema": {"$ref": f"./{file_name(event)}"},
        },
        "bindings": {"kafka": {"key": {"type": "string", "description": _KEY}, "bindingVersion": "0.5.0"}},
        "examples": [
            {"name": event.type, "headers": _example_headers(event), "payload": payload}
            for payload in schema["examples"]
        ],
    }


def _headers(event: type[Event]) -> dict[str, Any]:
    text = {"type": "string"}
    moment = {"type": "string", "format": "date-time"}
    return {
        "type": "object",
        "required": ["ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time", "ce_tenant"],
        "properties": {
            "ce_specversion": {"const": "1.0"},
            "ce_id": text | {"description": "event id, unique within its source; a repeated event changes nothing"},
            "ce_source": text | {"description": "the system that the event comes from, a URI reference"},
            "ce_type": {"const": event.type},
            "ce_time": moment | {"description": "when the event occurred"},
            "ce_subject": text | {"description": "the subject of the event, as its source names it"},
            "ce_dataschema": {"const": event.dataschema()},
            "ce_tenant": text | {"description": "the tenant that the event belongs to"},
            "ce_recordedtime": moment | {"description": "when the gateway accepted the event"},
            "ce_backfill": {"const": "true", "description": "imported history: nobody is paged for it"},
            "traceparent": text | {"description": "W3C Trace Context"},
            "content-type": {"const": "application/json"},
        },
    }


def _example_headers(event: type[Event]) -> dict[str, str]:
    return {
        "ce_specversion": "1.0",
        "ce_id": "7c0d6f5e-example",
        "ce_source": f"/touchpoint/{topics.WRITERS[event.topic]}" if event.topic != topics.TOUCHPOINTS else "/crm",
        "ce_type": event.type,
        "ce_time": _EXAMPLE_TIME,
        "ce_dataschema": event.dataschema(),
        "ce_tenant": "acme",
        "ce_recordedtime": _EXAMPLE_TIME,
        "content-type": "application/json",
    }
