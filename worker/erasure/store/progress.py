"""Erasures under way: begin, save their progress, finish."""

import secrets

import msgspec
import sqlalchemy as sa
from sqlalchemy import text

from worker.store.lease import Transaction
from worker.store.state.erasures import (
    Erasure,
    ErasureDigests,
    PendingErasure,
    find_erasure,
    get_digests,
)

_MAKE_KEY = text("""
    insert into sync.service_state (name, value)
    values ('erasure_key', jsonb_build_object('key', cast(:key as text))) on conflict do nothing
""")


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


def create_digests(db: sa.Connection) -> ErasureDigests:
    """Return the digests of the erasure key, which is created if there is none."""
    db.execute(_MAKE_KEY, {"key": secrets.token_hex(32)})
    return get_digests(db)


def list_unfinished_erasures(db: sa.Connection) -> list[tuple[int, bytes]]:
    """Return the unfinished erasures of all connections, the oldest first."""
    return [(row.connection_id, bytes(row.digest)) for row in db.execute(_UNFINISHED)]


def find_unfinished_rows(db: sa.Connection, connection_id: int, digest: bytes) -> Erasure | None:
    """Return the erasure if its rows are still being deleted."""
    found = find_erasure(db, connection_id, digest)
    return found if found and found.pending and found.pending.rows else None


def save_erasure(
    tx: Transaction, digest: bytes, resource: str, pending: PendingErasure | None
) -> None:
    """Store an erasure; without ``pending`` there are no events to redact."""
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
    """Save how far the events are redacted."""
    values = {"id": erasure.connection_id, "digest": erasure.digest}
    text_of = msgspec.json.encode(pending).decode()
    db.execute(_SAVE, {**values, "pending": text_of})


def finish_erasure(db: sa.Connection, erasure: Erasure) -> None:
    """Mark the erasure as finished and forget the object's id."""
    values = {"id": erasure.connection_id, "digest": erasure.digest}
    db.execute(_FINISH, values)


def delete_erasure(tx: Transaction, erasure: Erasure) -> None:
    tx.db.execute(_REMOVE, {"id": tx.connection_id, "digest": erasure.digest})
