"""What people call the objects that events tell of."""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

import msgspec
from sqlalchemy import Connection

from models.base import DIRECTORY
from models.event_type import CONNECTION
from worker.store.engine import driver
from worker.store.sinks import Told

NAMED: Final = ("display_name", "user_principal_name", "name", "reason")
"""Columns that name an object, the best first; a broken connection has a reason."""

_GUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_BY_NAME: Final = ("users", "groups", "sites", "role_definitions")
_NAMES: Final = " union all ".join(
    f"select id::text, display_name from {DIRECTORY}.{resource}"
    " where connection_id = %(id)s and id = any (%(ids)s::uuid[]) and display_name <> ''"
    for resource in _BY_NAME
).encode()


def names_of(
    connection: Connection, connection_id: int, told: Collection[Told]
) -> Mapping[str, str]:
    """The names, as they are today, of all objects that some events of a connection tell of."""
    ids = sorted({one for event in told for one in _mentioned(event) if _GUID.fullmatch(one)})
    if not ids:
        return {}
    with driver(connection).cursor() as cursor:
        cursor.execute(_NAMES, {"id": connection_id, "ids": ids})
        return dict(cursor.fetchall())


def called(told: Told, names: Mapping[str, str]) -> str:
    """What an event is about, for people: names where they are known, else ids."""
    if told.resource == "group_members":
        group, _, member = told.object_id.partition("/")
        return f"{names.get(member, member)} in {names.get(group, group)}"
    held = _held(told)
    if told.resource == "role_assignments" and held.get("principal_id"):
        who, role = str(held["principal_id"]), str(held.get("role_definition_id"))
        return f"{names.get(who, who)} as {names.get(role, role)}"
    known = names.get(told.object_id)
    named = next((str(held[name]) for name in NAMED if held.get(name)), None)
    return known or named or ("" if told.resource == CONNECTION else told.object_id)


def _mentioned(told: Told) -> Iterator[str]:
    if told.resource == "role_assignments":
        held = _held(told)
        yield from (str(held.get(name)) for name in ("principal_id", "role_definition_id"))
    else:
        yield from told.object_id.split("/")


def _held(told: Told) -> dict[str, Any]:
    """What an event holds of its object."""
    found = msgspec.json.decode(told.after or told.before or "{}")
    return found if isinstance(found, dict) else {}
