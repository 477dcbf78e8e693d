"""Templates of resources that have none of their own: values by the types of their properties."""

from collections.abc import Callable
from functools import cache
from random import Random
from typing import Any

from models.property import (
    BOOLEAN,
    DOCUMENT,
    DOCUMENTS,
    GUID,
    INTEGER,
    TEXT,
    TEXTS,
    TIMESTAMP,
    Property,
    ValueType,
)
from models.resource import Resource
from sandbox.tenant.directory.ids import guid_from_parts
from sandbox.tenant.directory.templates.sample_names import DEPARTMENTS, TEAMS, draw_time
from sandbox.tenant.directory.templates.template import KEY_PLACEHOLDER, MakeTemplate, Props

_OUTCOMES = ("value", "null", "unset")
_WEIGHTS = (6, 2, 2)


@cache
def generic_template(declared: Resource) -> MakeTemplate:
    """Return the template maker for the objects of a resource. The label of each is unique."""

    def make(rng: Random, object_id: str) -> Props:
        props: Props = {"id": object_id}
        for one in declared.sent:
            outcome = "value" if one.name in declared.labels else _draw_outcome(rng)
            if outcome != "unset":
                props[one.graph_name] = _draw_value(rng, one) if outcome == "value" else None
        return props

    return make


def draw_change(rng: Random, declared: Resource) -> Props:
    """Return a random change of one property."""
    one = rng.choice(declared.sent)
    value = _draw_value(rng, one)
    if isinstance(value, str):
        value = value.replace(KEY_PLACEHOLDER, f"{rng.randrange(10**6)}")
    return {one.graph_name: value}


def _draw_outcome(rng: Random) -> str:
    (outcome,) = rng.choices(_OUTCOMES, _WEIGHTS)
    return outcome


def _draw_value(rng: Random, one: Property) -> Any:
    return _DRAW[one.type](rng)


def _draw_guid(rng: Random) -> str:
    value = guid_from_parts(rng.random())
    return value.upper() if rng.random() < 0.3 else value


def _draw_text(rng: Random) -> str:
    return f"{rng.choice(DEPARTMENTS)} {rng.choice(TEAMS)} {KEY_PLACEHOLDER}"


def _draw_texts(rng: Random) -> list[str]:
    return [f"{rng.randrange(10**6)} {rng.choice(TEAMS)}" for _ in range(rng.randrange(3))]


def _draw_integer(rng: Random) -> int:
    return rng.choice((0, rng.randrange(100), -rng.randrange(100), rng.randrange(2**31, 2**63)))


def _draw_document(rng: Random) -> Props:
    """Return a complex value as Graph sends it: some parts are null, some are objects."""
    return {
        "part1": rng.choice((None, rng.choice(TEAMS))),
        "part2": None,
        "inner": {"number": rng.randrange(99), "isSet": rng.random() < 0.5},
    }


def _draw_documents(rng: Random) -> list[Props]:
    return [{"name": rng.choice(TEAMS), "number": rng.randrange(99)} for _ in range(2)]


_DRAW: dict[ValueType, Callable[[Random], Any]] = {
    GUID: _draw_guid,
    TEXT: _draw_text,
    BOOLEAN: lambda rng: rng.random() < 0.5,
    INTEGER: _draw_integer,
    TIMESTAMP: draw_time,
    TEXTS: _draw_texts,
    DOCUMENT: _draw_document,
    DOCUMENTS: _draw_documents,
}
