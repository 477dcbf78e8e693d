"""Validates events against the AsyncAPI document, with an independent JSON Schema library."""

from typing import Any

import jsonschema
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7

URI = "urn:asyncapi"
BRANCHES = ("if", "then", "else", "not")
"""Closing one of these would refuse what another one names."""


def close_schema(schema: Any) -> Any:
    """The same, but that fields which are not named are refused."""
    if isinstance(schema, list):
        return [close_schema(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    assert not any(name in schema for name in BRANCHES), "say how to close this"
    assert len(schema.get("allOf", ())) <= 1, "one part would refuse what another one names"
    made = {name: close_schema(part) for name, part in schema.items()}
    if isinstance(schema.get("properties"), dict) and "additionalProperties" not in schema:
        made["additionalProperties"] = False
    return made


class EventValidator:
    """The schemas of a document, ready to use; strict about what is not in them."""

    def __init__(self, document: dict[str, Any]) -> None:
        schemas = {
            name: close_schema(one) for name, one in document["components"]["schemas"].items()
        }
        strict = {**document, "components": {**document["components"], "schemas": schemas}}
        found: Resource[Any] = Resource.from_contents(strict, default_specification=DRAFT7)
        self._registry: Registry[Any] = Registry().with_resource(URI, found)
        self._made: dict[str, jsonschema.Draft7Validator] = {}

    def find_problems(self, event: Any, pointer: str) -> list[str]:
        """What of the event does not fit the schema at a place of the document."""
        if pointer not in self._made:
            self._made[pointer] = jsonschema.Draft7Validator(
                {"$ref": f"{URI}#{pointer}"},
                registry=self._registry,
                format_checker=jsonschema.FormatChecker(),
            )
        return [_render_error(error) for error in self._made[pointer].iter_errors(event)]


def _render_error(error: jsonschema.ValidationError) -> str:
    best = jsonschema.exceptions.best_match([error]) or error
    return f"{'.'.join(map(str, best.absolute_path))}: {best.message}"
