"""The parts of AsyncAPI 3.0 that our document has, as a JSON Schema written from the specification.

Stricter than the specification in that nothing else may be there: who adds a part adds it here.
https://www.asyncapi.com/docs/reference/specification/v3.0.0
"""

from collections.abc import Iterator
from typing import Any

import jsonschema

Part = dict[str, Any]

TEXT: Part = {"type": "string", "minLength": 1}
NAME = r"^[a-zA-Z0-9._-]+$"
DRAFT_7: Part = {"$ref": "http://json-schema.org/draft-07/schema#"}


def build_part(required: str = "", **fields: Part) -> Part:
    """An object with these fields and no others."""
    return {
        "type": "object",
        "properties": fields,
        "required": required.split(),
        "additionalProperties": False,
    }


def build_map(value: Part) -> Part:
    """Any number of parts by name, one at least."""
    return {
        "type": "object",
        "propertyNames": {"pattern": NAME},
        "additionalProperties": value,
        "minProperties": 1,
    }


def build_reference(place: str) -> Part:
    return {
        "type": "object",
        "properties": {"$ref": {"type": "string", "pattern": f"^#/{place}$"}},
        "required": ["$ref"],
        "additionalProperties": False,
    }


def build_array(value: Part) -> Part:
    return {"type": "array", "items": value, "minItems": 1, "uniqueItems": True}


MESSAGE = build_part(
    "payload",
    name=TEXT,
    title=TEXT,
    summary=TEXT,
    contentType={"type": "string", "pattern": "^[a-z]+/[a-z0-9.+-]+$"},
    traits=build_array(build_reference("components/messageTraits/[^/]+")),
    payload=DRAFT_7,
)
CHANNEL = build_part(
    "messages",
    address={"type": ["string", "null"]},
    title=TEXT,
    description=TEXT,
    messages=build_map(MESSAGE),
)
OPERATION = build_part(
    "action channel",
    action={"enum": ["send", "receive"]},
    channel=build_reference("channels/[^/]+"),
    summary=TEXT,
    messages=build_array(build_reference("channels/[^/]+/messages/[^/]+")),
    security=build_array(build_reference("components/securitySchemes/[^/]+")),
    bindings=build_part(
        http=build_part(method={"enum": ["POST"]}, bindingVersion={"const": "0.3.0"}),
    ),
)
INFO = build_part(
    "title version",
    title=TEXT,
    version={"type": "string", "pattern": r"^\d+\.\d+\.\d+$"},
    description=TEXT,
    license=build_part("name", name=TEXT, url={"type": "string", "format": "uri"}),
)
HEADERS: Part = {
    "allOf": [DRAFT_7, {"properties": {"type": {"const": "object"}}, "required": ["type"]}]
}
COMPONENTS = build_part(
    schemas=build_map(DRAFT_7),
    messageTraits=build_map(build_part("headers", headers=HEADERS)),
    securitySchemes=build_map(
        build_part(
            "type name in",
            type={"const": "httpApiKey"},
            name=TEXT,
            **{"in": {"enum": ["header", "query", "cookie"]}},
            description=TEXT,
        )
    ),
)
DOCUMENT = build_part(
    "asyncapi info",
    asyncapi={"const": "3.0.0"},
    info=INFO,
    defaultContentType={"type": "string"},
    channels=build_map(CHANNEL),
    operations=build_map(OPERATION),
    components=COMPONENTS,
)
_VALIDATOR = jsonschema.Draft7Validator(DOCUMENT, format_checker=jsonschema.FormatChecker())


def find_problems(document: Part) -> list[str]:
    """What is wrong with a document: its form, and what its references lead to."""
    found = [
        f"{list(error.absolute_path)}: {error.message}"
        for error in _VALIDATOR.iter_errors(document)
    ]
    found += [f"{pointer} leads nowhere" for pointer in find_dangling(document)]
    for name, operation in document.get("operations", {}).items():
        channel = operation.get("channel", {}).get("$ref")
        for message in operation.get("messages", []):
            if not message["$ref"].startswith(f"{channel}/messages/"):
                found.append(f"{name} sends {message['$ref']}, which is not of its channel")
    return found


def find_dangling(document: Part) -> list[str]:
    return [
        pointer for pointer in iterate_references(document) if not is_resolvable(document, pointer)
    ]


def iterate_references(value: Any) -> Iterator[str]:
    """Every reference, wherever it is."""
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for inner in value.values():
            yield from iterate_references(inner)
    if isinstance(value, list):
        for inner in value:
            yield from iterate_references(inner)


def is_resolvable(document: Part, pointer: str) -> bool:
    found: Any = document
    for step in pointer.removeprefix("#/").split("/"):
        if not isinstance(found, dict) or step not in found:
            return False
        found = found[step]
    return pointer.startswith("#/")
