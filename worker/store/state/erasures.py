"""Erasures: an erased object is stored as a keyed digest, never by its id.

The key is random, created at the first erasure and kept in the database: a worker without it would
mirror erased people again. Ids are random too, so a digest cannot be reversed by trying ids.
"""

import hmac
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy import text

from models.erasure import ERASED_PREFIX
from worker.core.errors import ConfigurationError

DIGEST_BYTES: Final = 16
"""Bytes of a digest: enough that no two objects share one."""


_KEY = text("select value ->> 'key' from sync.service_state where name = 'erasure_key'")
_DIGESTS = text("select digest from sync.erasures where connection_id = :id")
_COLUMNS = "connection_id, digest, resource, created_at, last_seq, pending, scrubbed_at"
_ONE = text(f"""
    select {_COLUMNS} from sync.erasures where connection_id = :id and digest = :digest for update
""")
_ALL = text(f"select {_COLUMNS} from sync.erasures where connection_id = :id order by created_at")


@dataclass(frozen=True)
class ErasureDigests:
    """Computes digests of ids.

    Ids are unique across resources, so a principal or member need not be checked per resource.
    """

    key: bytes = field(repr=False)

    def digest(self, object_id: str) -> bytes:
        return hmac.digest(self.key, object_id.lower().encode(), "sha256")[:DIGEST_BYTES]

    def render_mark(self, object_id: str) -> str:
        """Return the text that replaces an id in the keys of events."""
        return render_mark(self.digest(object_id))


@dataclass(frozen=True)
class ErasedObjects:
    """The erased objects of one connection; false if there are none."""

    digests: ErasureDigests = ErasureDigests(b"")
    known_digests: frozenset[bytes] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.known_digests)

    def __contains__(self, object_id: object) -> bool:
        return isinstance(object_id, str) and self.digests.digest(object_id) in self.known_digests


class PendingErasure(msgspec.Struct, kw_only=True):
    """The object that is being erased, and the progress of scrubbing its events."""

    id: str
    upto: int = 0
    """Sequence number up to which events have been scrubbed."""
    referring: list[str] = msgspec.field(name="assignments", default_factory=list)
    """Keys of known rows that name the object, such as its role assignments."""
    again: bool = False
    """Such a row was found late, so earlier events may concern it."""
    kept_from: int | None = None
    """Sequence number of the first deletion that keeps its key for a sink."""
    rows: bool = False
    """Its rows are still being deleted: events are scrubbed after that."""


@dataclass(frozen=True)
class Erasure:
    """A row of the table."""

    connection_id: int
    digest: bytes
    resource: str
    created_at: datetime
    last_seq: int | None
    pending: PendingErasure | None
    scrubbed_at: datetime | None

    @property
    def mark(self) -> str:
        return render_mark(self.digest)


def render_mark(digest: bytes) -> str:
    return f"{ERASED_PREFIX}{digest.hex()}"


def find_digests(db: sa.Connection) -> ErasureDigests | None:
    """Return digests with the stored key; None if nothing was ever erased."""
    found = db.execute(_KEY).scalar()
    return ErasureDigests(bytes.fromhex(found)) if found else None


def get_digests(db: sa.Connection) -> ErasureDigests:
    """Return digests with the stored key. Raises ConfigurationError if the key is missing."""
    found = find_digests(db)
    if found is None:
        raise ConfigurationError(
            "the key of the erasures is missing in sync.service_state, so erased objects "
            "cannot be recognized; restore the row 'erasure_key' from a backup"
        )
    return found


def load_erased(db: sa.Connection, connection_id: int) -> ErasedObjects:
    """Return the objects that a sync skips. Raises ConfigurationError if the key is missing."""
    digests = frozenset(
        bytes(digest) for digest in db.execute(_DIGESTS, {"id": connection_id}).scalars()
    )
    return ErasedObjects(get_digests(db), digests) if digests else ErasedObjects()


def find_erasure(db: sa.Connection, connection_id: int, digest: bytes) -> Erasure | None:
    """Return one erasure, locked until the end of the transaction, or None."""
    values = {"id": connection_id, "digest": digest}
    row = db.execute(_ONE, values).one_or_none()
    return None if row is None else _erasure_from_row(row)


def list_erasures(db: sa.Connection, connection_id: int) -> list[Erasure]:
    """Return the erasures of a connection, the oldest first."""
    return [_erasure_from_row(row) for row in db.execute(_ALL, {"id": connection_id})]


def _erasure_from_row(row: Any) -> Erasure:
    pending = None if row.pending is None else msgspec.convert(row.pending, PendingErasure)
    return Erasure(
        row.connection_id,
        bytes(row.digest),
        row.resource,
        row.created_at,
        row.last_seq,
        pending,
        row.scrubbed_at,
    )


def list_ids_being_erased(db: sa.Connection, connection_id: int) -> frozenset[str]:
    """Return the ids whose events are being scrubbed: objects and their role assignments."""
    pending = (one.pending for one in list_erasures(db, connection_id))
    return frozenset(key for one in pending if one for key in (one.id, *one.referring))
