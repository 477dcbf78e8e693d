"""A customer who connects anew gets the row and the history of the connection that was retired.

Two rows change in one transaction, under the locks of both. What decides about a tenant takes the
tenant's own lock first, so that of two new connections one is first.
"""

from sqlalchemy import func, text

from models.connection import ConnectionStatus
from worker.store.lease import Transaction
from worker.store.state.connections import Connection, get_connection, update_connection

_LOCK_TENANT = text("select pg_advisory_xact_lock(hashtextextended(:tenant, 0))")

# What was mirrored at any time; `added` and the like are not about the tenant.
_HISTORY = """
    (exists (select from sync.streams s
              where s.connection_id = {id} and s.first_complete_at is not null)
     or exists (select from events.change_events e
                 where e.connection_id = {id} and e.resource <> 'connection'))
"""
_HAS_HISTORY = text(f"select {_HISTORY.format(id=':id')}")
_PREDECESSOR = text(f"""
    select c.id from sync.connections c
     where c.tenant_id = cast(:tenant as uuid) and c.status = 'retired' and c.id <> :id
       and {_HISTORY.format(id="c.id")}
     order by c.retired_at desc nulls last, c.id desc limit 1
""")

_FORGET_EVIDENCE = (
    text("delete from sync.seen where connection_id = :id"),
    text("delete from sync.removals where connection_id = :id"),
    text("delete from sync.candidates where connection_id = :id"),
)
_FORGET_CURSORS = text("""
    update sync.streams
       set phase = 'ready', refused_phase = null, mode = 'plain', walk_id = walk_id + 1,
           page_no = 0, next_link = null, delta_link = null, delta_link_at = null, parts = null,
           seen_count = 0, loop_mark = null, body_digest = null, body_repeats = 0, restarts = 0,
           incomplete = false, due_at = clock_timestamp(), reason = null
     where connection_id = :id
""")


def lock_tenant(tx: Transaction, tenant_id: str) -> None:
    """Until the commit, nobody else decides which connection mirrors the tenant."""
    tx.db.execute(_LOCK_TENANT, {"tenant": tenant_id})


def has_history(tx: Transaction) -> bool:
    """Whether anything of the tenant was ever mirrored through this connection."""
    return bool(tx.db.execute(_HAS_HISTORY, {"id": tx.connection_id}).scalar())


def find_predecessor(tx: Transaction, tenant_id: str) -> int | None:
    """The connection of the tenant that was retired last and has a history."""
    values = {"tenant": tenant_id, "id": tx.connection_id}
    found: int | None = tx.db.execute(_PREDECESSOR, values).scalar()
    return found


def hand_over(
    retiring: Transaction, continuing: Transaction, *, name: str | None, reason: str
) -> Connection:
    """``continuing`` goes on in the place of ``retiring``, which retires; the row that goes on.

    The new connection may belong to another app registration and see other things, so no cursor
    and no half-finished evidence is trusted: everything is walked and compared. Rows stay.
    """
    known = get_connection(retiring.db, retiring.connection_id)
    update_connection(
        retiring,
        status=ConnectionStatus.RETIRED,
        status_reason=reason,
        retired_at=retiring.moment,
        tenant_id=None,
        display_name=name,
        due_at=None,
        requested_at=None,
        requested_resources=None,
        requested_full=False,
    )
    update_connection(
        continuing,
        nango_connection_id=known.nango_connection_id,
        provider_config_key=known.provider_config_key,
        provider=known.provider,
        settings=known.settings,
        settings_problem=known.settings_problem,
        display_name=name,
        status=ConnectionStatus.ACTIVE,
        status_reason=None,
        retired_at=None,
        broken_count=0,
        due_at=func.clock_timestamp(),
    )
    for statement in (*_FORGET_EVIDENCE, _FORGET_CURSORS):
        continuing.db.execute(statement, {"id": continuing.connection_id})
    return get_connection(continuing.db, continuing.connection_id)
