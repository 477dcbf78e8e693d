"""Find the object to erase: by id, or a user by principal name or mail."""

import re
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from models.erasure import ERASED_PREFIX
from models.resources import ERASABLE
from worker.core.errors import NotFound
from worker.erasure.store.events import find_resource_in_events
from worker.erasure.store.lookup import (
    PEOPLE,
    find_referenced_resource,
    find_stored_resource,
    find_users,
)
from worker.erasure.store.rows import find_bookkeeping_resource
from worker.store.state.connections import Connection
from worker.store.state.erasures import DIGEST_BYTES, find_digests, find_erasure

_GUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class ErasureTarget:
    """The object to erase."""

    connection_id: int
    resource: str
    id: str
    is_known: bool = True
    """Whether tables or events mention it; else only its erasure is stored."""


def parse_object_id(named: str) -> str | None:
    """Return the id in an operator's input: a GUID, or a site's composite id, which ends in one."""
    last = named.strip().lower().rpartition(",")[2]
    return last if _GUID.fullmatch(last) else None


def find_target(
    db: sa.Connection, connection: Connection, named: str, resource: str | None
) -> ErasureTarget:
    """Return the object meant. Raises NotFound, with the reason, if none or several match.

    An unknown id is accepted if its ``resource`` is given: syncs will skip it.
    """
    key = parse_object_id(named)
    if key is None:
        return ErasureTarget(connection.id, PEOPLE, _find_user(db, connection, named, resource))
    choice = (resource,) if resource else ERASABLE
    stored = find_stored_resource(db, connection.id, key, choice)
    if stored is not None:
        return ErasureTarget(connection.id, stored, key)
    before = _find_erased_resource(db, connection.id, key)
    if before is not None:
        return ErasureTarget(connection.id, before, key)
    mentioned = find_resource_in_events(db, connection.id, key, choice)
    found = mentioned if mentioned in ERASABLE else None
    pointing = find_referenced_resource(db, connection.id, key)
    if found or mentioned or pointing:
        return ErasureTarget(connection.id, resource or found or pointing or PEOPLE, key)
    apart = find_bookkeeping_resource(db, connection.id, key)
    if resource is None and apart not in ERASABLE:
        raise NotFound(
            f"no row or event mentions {key}; pass --resource {'|'.join(ERASABLE)} to "
            "keep it from being mirrored if it appears later",
            connection=connection.label,
        )
    return ErasureTarget(connection.id, resource or str(apart), key, is_known=False)


def _find_user(db: sa.Connection, connection: Connection, named: str, resource: str | None) -> str:
    if resource not in (None, PEOPLE):
        raise NotFound(f"{resource} can only be named by id", connection=connection.label)
    found = find_users(db, connection.id, named)
    if not found:
        raise NotFound(
            f"no user here has the principal name or mail '{named}'; if the user is gone from "
            "the tables, pass the id",
            connection=connection.label,
        )
    if len(found) > 1:
        those = ", ".join(f"{one.id} ({'live' if one.is_live else 'deleted'})" for one in found)
        raise NotFound(
            f"several users have that name, pass the id: {those}", connection=connection.label
        )
    return found[0].id


def _find_erased_resource(db: sa.Connection, connection_id: int, key: str) -> str | None:
    mine = find_digests(db)
    erasure = mine and find_erasure(db, connection_id, mine.digest(key))
    return erasure.resource if erasure else None


def parse_digest(db: sa.Connection, named: str) -> bytes:
    """Return the digest of an erased object, by id or as ``--list`` shows it. Raises NotFound."""
    key, mine = parse_object_id(named), find_digests(db)
    if mine is None:
        raise NotFound("no object of this connection was erased")
    if key is not None:
        return mine.digest(key)
    shown = named.strip().lower().removeprefix(ERASED_PREFIX)
    if len(shown) != 2 * DIGEST_BYTES or set(shown) - set("0123456789abcdef"):
        raise NotFound(
            f"'{named}' is neither an id nor a digest; names of erased objects are not kept"
        )
    return bytes.fromhex(shown)
