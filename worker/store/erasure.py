"""Erasures: who was erased is remembered by a keyed digest, never by the id itself.

The key is random, made at the first erasure and kept in the database: a worker that lacked it
would bring people back. Ids are random as well, so a digest cannot be turned back by trying.
"""

import hmac
import secrets
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec
import sqlalchemy as sa
from sqlalchemy import text

from models.erasure import ERASED_PREFIX
from models.resource import Kind
from models.resources import RESOURCES
from worker.core.errors import ConfigurationError
from worker.store.lease import Transaction

DIGEST_BYTES: Final = 16
"""Bytes of a digest: enough that no two objects ever share one."""

SINK_WAIT_DAYS: Final = 30
"""How long deletions keep their keys for a sink that has not had them."""

_MAKE_KEY = text("""
    insert into sync.service_state (name, value)
    values ('erasure_key', jsonb_build_object('key', cast(:key as text))) on conflict do nothing
""")
_KEY = text("select value ->> 'key' from sync.service_state where name = 'erasure_key'")
_DIGESTS = text("select digest from sync.erasures where connection_id = :id")
_COLUMNS = "connection_id, digest, resource, created_at, last_seq, pending, scrubbed_at"
_ONE = text(f"""
    select {_COLUMNS} from sync.erasures where connection_id = :id and digest = :digest for update
""")
_ALL = text(f"select {_COLUMNS} from sync.erasures where connection_id = :id order by created_at")
_UNFINISHED = text("""
    select connection_id, digest from sync.erasures where scrubbed_at is null order by created_at
""")
_PUT = text("""
    insert into sync.erasures (connection_id, digest, resource, created_at, last_seq, pending,
                               scrubbed_at)
    values (:id, :digest, :resource, :moment, :last_seq, cast(:pending as jsonb),
            case when cast(:pending as jsonb) is null then cast(:moment as timestamptz) end)
        on conflict (connection_id, digest) do update
       set created_at = excluded.created_at, last_seq = excluded.last_seq,
           pending = excluded.pending, scrubbed_at = excluded.scrubbed_at
""")
_SAVE = text("""
    update sync.erasures set pending = cast(:pending as jsonb)
     where connection_id = :id and digest = :digest
""")
_FINISH = text("""
    update sync.erasures set pending = null, scrubbed_at = clock_timestamp()
     where connection_id = :id and digest = :digest
""")
_REMOVE = text("delete from sync.erasures where connection_id = :id and digest = :digest")
_BEHIND = text("""
    select s.name, s.status, coalesce(p.seq, 0) as seq
      from sync.erasures e
      join events.sinks s on s.created_at <= e.created_at
      left join events.positions p on p.sink_id = s.id and p.connection_id = e.connection_id
     where e.connection_id = :id and e.digest = :digest and coalesce(p.seq, 0) < e.last_seq
       and e.created_at > clock_timestamp() - make_interval(days => :days)
       and s.status in ('active', 'paused')
       and (s.connections is null or e.connection_id = any (s.connections))
       and (s.changes is null or 'deleted' = any (s.changes))
       and (s.resources is null or s.resources && cast(:resources as text[]))
     order by s.name
""")


@dataclass(frozen=True)
class ErasureDigests:
    """Makes digests of ids.

    An id is unique whatever it is of, so a principal or a member need not be tried as a user, as
    a group and so on.
    """

    key: bytes = field(repr=False)

    def digest(self, object_id: str) -> bytes:
        return hmac.digest(self.key, object_id.lower().encode(), "sha256")[:DIGEST_BYTES]

    def render_mark(self, object_id: str) -> str:
        """What takes an id's place in the keys of events."""
        return render_mark(self.digest(object_id))


@dataclass(frozen=True)
class ErasedObjects:
    """The erased objects of one connection; false where there are none."""

    digests: ErasureDigests = ErasureDigests(b"")
    known_digests: frozenset[bytes] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.known_digests)

    def __contains__(self, object_id: object) -> bool:
        return isinstance(object_id, str) and self.digests.digest(object_id) in self.known_digests


class PendingErasure(msgspec.Struct, kw_only=True):
    """Who is being erased, and how far the events are scrubbed."""

    id: str
    upto: int = 0
    """Events up to this one have been looked at."""
    assignments: list[str] = []
    """Role assignments of whom it is about, as far as they are known."""
    again: bool = False
    """An assignment became known late: earlier events may tell of it."""
    kept_from: int | None = None
    """The first deletion that keeps its key for a sink."""
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


class SinkBehind(NamedTuple):
    """A sink that has not had every deletion."""

    name: str
    status: str
    seq: int


def render_mark(digest: bytes) -> str:
    return f"{ERASED_PREFIX}{digest.hex()}"


def create_digests(db: sa.Connection) -> ErasureDigests:
    """The digests of the one key, which is made where there is none yet."""
    db.execute(_MAKE_KEY, {"key": secrets.token_hex(32)})
    return get_digests(db)


def find_digests(db: sa.Connection) -> ErasureDigests | None:
    """The digests of the key; None where nothing was ever erased."""
    found = db.execute(_KEY).scalar()
    return ErasureDigests(bytes.fromhex(found)) if found else None


def get_digests(db: sa.Connection) -> ErasureDigests:
    """The digests of the key. Raises ConfigurationError where it has got lost."""
    found = find_digests(db)
    if found is None:
        raise ConfigurationError(
            "the key of the erasures is missing in sync.service_state, so that nobody can tell "
            "who was erased; restore the row 'erasure_key' from a backup"
        )
    return found


def load_erased(db: sa.Connection, connection_id: int) -> ErasedObjects:
    """Whom a sync passes over. Raises ConfigurationError where the key is missing."""
    known = frozenset(
        bytes(found) for found in db.execute(_DIGESTS, {"id": connection_id}).scalars()
    )
    return ErasedObjects(get_digests(db), known) if known else ErasedObjects()


def find_erasure(db: sa.Connection, connection_id: int, digest: bytes) -> Erasure | None:
    """One erasure, locked until the end of the transaction."""
    values = {"id": connection_id, "digest": digest}
    row = db.execute(_ONE, values).one_or_none()
    return None if row is None else _erasure_from_row(row)


def list_erasures(db: sa.Connection, connection_id: int) -> list[Erasure]:
    """The erasures of a connection, the oldest first."""
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
    """The ids whose events are being scrubbed: of the objects, and of their role assignments."""
    pending = (one.pending for one in list_erasures(db, connection_id))
    return frozenset(key for one in pending if one for key in (one.id, *one.assignments))


def list_unfinished_erasures(db: sa.Connection) -> list[tuple[int, bytes]]:
    """Erasures of any connection that are not scrubbed to the end, the oldest first."""
    return [(row.connection_id, bytes(row.digest)) for row in db.execute(_UNFINISHED)]


def find_unfinished_rows(db: sa.Connection, connection_id: int, digest: bytes) -> Erasure | None:
    """The erasure, where its rows are still being deleted."""
    found = find_erasure(db, connection_id, digest)
    return found if found and found.pending and found.pending.rows else None


def save_erasure(
    tx: Transaction, digest: bytes, resource: str, pending: PendingErasure | None
) -> None:
    """Remember an erasure; without ``pending`` there is nothing to scrub."""
    values = {
        "id": tx.connection_id,
        "digest": digest,
        "resource": resource,
        "moment": tx.moment,
        "last_seq": None if pending is None else tx.seq,
        "pending": None if pending is None else msgspec.json.encode(pending).decode(),
    }
    tx.db.execute(_PUT, values)


def save_progress(db: sa.Connection, erasure: Erasure, pending: PendingErasure) -> None:
    """Remember how far the events are scrubbed."""
    values = {"id": erasure.connection_id, "digest": erasure.digest}
    text_of = msgspec.json.encode(pending).decode()
    db.execute(_SAVE, {**values, "pending": text_of})


def finish_erasure(db: sa.Connection, erasure: Erasure) -> None:
    """Everything is scrubbed: forget who it was."""
    values = {"id": erasure.connection_id, "digest": erasure.digest}
    db.execute(_FINISH, values)


def delete_erasure(tx: Transaction, erasure: Erasure) -> None:
    tx.db.execute(_REMOVE, {"id": tx.connection_id, "digest": erasure.digest})


def list_sinks_behind(db: sa.Connection, erasure: Erasure) -> list[SinkBehind]:
    """Sinks that want the deletions and have not had all of them; none after so many days.

    One that was added later never told its receiver of the object, and one that its receiver has
    switched off tells nobody. A paused one goes on some day.
    """
    values = {
        "id": erasure.connection_id,
        "digest": erasure.digest,
        "days": SINK_WAIT_DAYS,
        "resources": list_touched_resources(erasure.resource),
    }
    return [SinkBehind(*row) for row in db.execute(_BEHIND, values)]


def list_touched_resources(resource: str) -> list[str]:
    """The resources whose events may tell of an object: its own, and those that point at it."""
    if RESOURCES[resource].kind is Kind.ENTITY:
        return [resource, "group_members", "role_assignments"]
    return [resource]
