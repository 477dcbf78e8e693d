"""What somebody wants erased: by id, or a user by principal name or mail."""

import re
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from models.erasure import MARK
from worker.core.errors import Unknown
from worker.events.scrub import told_of
from worker.store.connections import Known
from worker.store.erasure import LENGTH, find_digests, find_erasure
from worker.store.namesakes import pointed_at, stored_as, users_called
from worker.store.take_out import kept_apart

ERASABLE: Final = ("users", "groups", "sites")
"""Resources whose objects are people, or may be named after people."""

_GUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Subject:
    """What is to be erased."""

    connection_id: int
    resource: str
    id: str
    known: bool = True
    """Tables or events tell of it; else it is only to be remembered."""


def id_of(named: str) -> str | None:
    """The id in what a person typed: a GUID, or a site's composite id, which ends in one."""
    last = named.strip().lower().rpartition(",")[2]
    return last if _GUID.fullmatch(last) else None


def locate(connection: Connection, known: Known, named: str, resource: str | None) -> Subject:
    """Find what is meant. Raises Unknown, saying why, where nothing or more than one is.

    An id that is known nowhere is taken where its ``resource`` is said: it will stay away.
    """
    key = id_of(named)
    if key is None:
        return Subject(known.id, "users", _user(connection, known, named, resource))
    choice = (resource,) if resource else ERASABLE
    stored = stored_as(connection, known.id, key, choice)
    if stored is not None:
        return Subject(known.id, stored, key)
    before = _erased_before(connection, known.id, key)
    if before is not None:
        return Subject(known.id, before, key)
    told = told_of(connection, known.id, key, choice)
    found = told if told in ERASABLE else None
    pointing = pointed_at(connection, known.id, key)
    if found or told or pointing:
        return Subject(known.id, resource or found or pointing or "users", key)
    apart = kept_apart(connection, known.id, key)
    if resource is None and apart not in ERASABLE:
        raise Unknown(
            f"nothing here tells of {key}; say --resource {'|'.join(ERASABLE)} to have it stay "
            "away should it ever come",
            connection=known.label,
        )
    return Subject(known.id, resource or str(apart), key, known=False)


def _user(connection: Connection, known: Known, named: str, resource: str | None) -> str:
    if resource not in (None, "users"):
        raise Unknown(f"{resource} are found by id only", connection=known.label)
    found = users_called(connection, known.id, named)
    if not found:
        raise Unknown(
            f"no user here has the principal name or mail '{named}'; if the user is gone from "
            "the tables, say the id",
            connection=known.label,
        )
    if len(found) > 1:
        those = ", ".join(f"{one.id} ({'live' if one.live else 'deleted'})" for one in found)
        raise Unknown(f"several users have that name, say the id: {those}", connection=known.label)
    return found[0].id


def _erased_before(connection: Connection, connection_id: int, key: str) -> str | None:
    mine = find_digests(connection)
    erasure = mine and find_erasure(connection, connection_id, mine.of(key))
    return erasure.resource if erasure else None


def digest_in(connection: Connection, named: str) -> bytes:
    """The digest of an erased object by its id, or as ``--list`` shows it. Raises Unknown."""
    key, mine = id_of(named), find_digests(connection)
    if mine is None:
        raise Unknown("nobody was ever erased here")
    if key is not None:
        return mine.of(key)
    shown = named.strip().lower().removeprefix(MARK)
    if len(shown) != 2 * LENGTH or set(shown) - set("0123456789abcdef"):
        raise Unknown(f"'{named}' is neither an id nor a digest; no name is kept of who was erased")
    return bytes.fromhex(shown)
