"""Display names of the objects that events concern."""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from models.base import DIRECTORY
from models.event_type import CONNECTION_RESOURCE
from worker.events.event import Event
from worker.store.engine import get_driver_connection

NAME_COLUMNS: Final = ("display_name", "user_principal_name", "name", "reason")
"""Columns that name an object, best first; a broken connection has a reason."""

_GUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NAMED_RESOURCES: Final = ("users", "groups", "sites", "role_definitions")
_SELECT_NAMES: Final = " union all ".join(
    f"select id::text, display_name from {DIRECTORY}.{resource}"
    " where connection_id = %(id)s and id = any (%(ids)s::uuid[]) and display_name <> ''"
    for resource in _NAMED_RESOURCES
).encode()


def load_object_names(
    db: sa.Connection, connection_id: int, events: Collection[Event]
) -> Mapping[str, str]:
    """Return the current names of all objects that a connection's events mention, by id."""
    ids = sorted(
        {one for event in events for one in _list_mentioned_ids(event) if _GUID.fullmatch(one)}
    )
    if not ids:
        return {}
    with get_driver_connection(db).cursor() as cursor:
        cursor.execute(_SELECT_NAMES, {"id": connection_id, "ids": ids})
        return dict(cursor.fetchall())


def describe_object(event: Event, names: Mapping[str, str]) -> str:
    """Return a description of an event's object: names if known, else ids."""
    if event.resource == "group_members":
        group, _, member = event.object_id.partition("/")
        return f"{names.get(member, member)} in {names.get(group, group)}"
    state = _decode_state(event)
    if event.resource == "role_assignments" and state.get("principal_id"):
        who, role = str(state["principal_id"]), str(state.get("role_definition_id"))
        return f"{names.get(who, who)} as {names.get(role, role)}"
    found_name = names.get(event.object_id)
    label = next((str(state[name]) for name in NAME_COLUMNS if state.get(name)), None)
    return found_name or label or ("" if event.resource == CONNECTION_RESOURCE else event.object_id)


def _list_mentioned_ids(event: Event) -> Iterator[str]:
    if event.resource == "role_assignments":
        held = _decode_state(event)
        yield from (str(held.get(name)) for name in ("principal_id", "role_definition_id"))
    else:
        yield from event.object_id.split("/")


def _decode_state(event: Event) -> dict[str, Any]:
    """Return the object's columns in an event."""
    state = msgspec.json.decode(event.after or event.before or "{}")
    return state if isinstance(state, dict) else {}
