"""The AsyncAPI document: well formed, whole, and the one that lies in docs."""

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner

import models.property
from models.event_type import EVENT_TYPES
from models.property import NESTED, Property, ValueType
from models.resources import RESOURCES
from tests.support.asyncapi_schema import find_problems, iterate_references
from worker.core.settings import SETTINGS
from worker.delivery.asyncapi import build_document
from worker.delivery.settings import DEFAULT_STREAM
from worker.events.schema_fields import build_column_schema
from worker.ops.cli.asyncapi import asyncapi

PREFIX = str(SETTINGS["event_prefix"].default)
PUBLISHED = Path(__file__).parents[2] / "docs" / "asyncapi.json"
MADE = build_document(PREFIX)
SCHEMAS = MADE["components"]["schemas"]


def test_the_document_that_lies_in_docs_is_what_the_registry_says() -> None:
    printed = CliRunner().invoke(asyncapi, ["--prefix", PREFIX], catch_exceptions=False)
    command = f"tenant-mirror asyncapi --prefix {PREFIX} > docs/asyncapi.json"
    assert PUBLISHED.read_text(encoding="utf-8") == printed.output, f"rewrite it: {command}"
    assert json.loads(printed.output) == MADE


def test_the_command_goes_by_the_prefix_that_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENANT_MIRROR_EVENT_PREFIX", "com.example.mirror")
    made = json.loads(CliRunner().invoke(asyncapi, [], catch_exceptions=False).output)
    assert made == build_document("com.example.mirror")
    created = made["components"]["schemas"]["user.created"]["properties"]["type"]
    assert created == {"const": "com.example.mirror.user.created"}


def test_the_document_is_asyncapi() -> None:
    assert find_problems(MADE) == []


SPOILT: dict[str, Callable[[dict[str, Any]], object]] = {
    "no version": lambda it: it["info"].pop("version"),
    "an action that there is not": lambda it: it["operations"]["post_event"].update(action="post"),
    "an operation without a channel": lambda it: it["operations"]["post_event"].pop("channel"),
    "a message of another channel": lambda it: it["operations"]["post_event"]["messages"].append(
        {"$ref": "#/channels/stream/messages/user.created"}
    ),
    "a channel that there is not": lambda it: it["operations"]["append_event"].update(
        channel={"$ref": "#/channels/none"}
    ),
    "a message that there is not": lambda it: it["channels"]["stream"]["messages"].pop("test"),
    "a schema that there is not": lambda it: it["components"]["schemas"].pop("sequence"),
    "a trait that there is not": lambda it: it["components"]["messageTraits"].pop("signed"),
    "a name with a blank": lambda it: it["components"]["schemas"].update({"a b": {}}),
    "a type that there is not": lambda it: it["components"]["schemas"]["flag"].update(type="bool"),
    "a field that there is not": lambda it: it["channels"]["stream"].update(subscribe={}),
    "a message without a payload": lambda it: it["channels"]["webhook"]["messages"]["batch"].pop(
        "payload"
    ),
    "an older release": lambda it: it.update(asyncapi="2.6.0"),
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_what_is_not_asyncapi_is_noticed(spoil: Callable[[dict[str, Any]], object]) -> None:
    spoilt = copy.deepcopy(MADE)
    spoil(spoilt)
    assert find_problems(spoilt) != []


@pytest.mark.skipif("ASYNCAPI_SCHEMA" not in os.environ, reason="ASYNCAPI_SCHEMA names no file")
def test_the_official_schema_accepts_the_document() -> None:
    """With schemas/3.0.0.json of github.com/asyncapi/spec-json-schemas, for who has it."""
    official = json.loads(Path(os.environ["ASYNCAPI_SCHEMA"]).read_text(encoding="utf-8"))
    judge = jsonschema.Draft7Validator(official)
    assert [fault.message for fault in judge.iter_errors(MADE)] == []


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_schema_is_one(name: str) -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMAS[name])


def test_every_schema_is_used() -> None:
    used = {pointer.rpartition("/")[2] for pointer in iterate_references(MADE)}
    assert set(SCHEMAS) - used == set()


def test_every_type_is_a_message_of_both_channels() -> None:
    types = {f"{PREFIX}.{name}" for name in EVENT_TYPES.values()} | {f"{PREFIX}.test"}
    stream, webhook = (MADE["channels"][name]["messages"] for name in ("stream", "webhook"))
    assert {one["name"] for one in stream.values()} == types
    assert {one["name"] for one in webhook.values()} == types | {"batch"}
    sent = MADE["operations"]
    assert (
        len(sent["append_event"]["messages"]) == len(sent["post_event"]["messages"]) == len(types)
    )
    for name in stream:
        assert SCHEMAS[name]["properties"]["type"] == {"const": f"{PREFIX}.{name}"}
    assert MADE["channels"]["stream"]["address"] == DEFAULT_STREAM


@pytest.mark.parametrize("name", [name for name, one in RESOURCES.items() if one.has_events])
def test_every_column_of_a_resource_is_told(name: str) -> None:
    columns = [column.name for column in RESOURCES[name].told_columns]
    assert list(SCHEMAS[name]["properties"]) == SCHEMAS[name]["required"] == columns
    rest = [column for column in columns if column not in RESOURCES[name].key]
    assert list(SCHEMAS[f"{name}.some"]["properties"]) == rest


@pytest.mark.parametrize(
    "kind",
    [kind for kind in vars(models.property).values() if isinstance(kind, ValueType)],
    ids=lambda kind: kind.name,
)
def test_every_type_of_a_property_has_a_schema(kind: ValueType) -> None:
    schema = build_column_schema(Property(name="price", type=kind, meaning="what it costs"))
    assert schema["description"] == "what it costs"
    if kind in NESTED:
        assert schema["anyOf"]
    else:
        assert [part["$ref"].rpartition("/")[2] for part in schema["allOf"]] == [kind.name]
