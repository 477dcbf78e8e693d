"""Takeover: a customer who connects again gets the row and history of the retired connection.

Both rows change in one transaction, under both locks. Decisions about a tenant take the tenant's
lock first, so that of two new connections one is first.
"""

from sqlalchemy import func, text

from models.connection import ConnectionStatus
from worker.store.lease import Transaction
from worker.store.state.connections import Connection, get_connection, update_connection

_LOCK_TENANT = text("select pg_advisory_xact_lock(hashtextextended(:tenant, 0))")

# Whether anything was ever mirrored; `added` and the like do not concern the tenant.
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
    """Lock the decision which connection mirrors the tenant, until the commit."""
    tx.db.execute(_LOCK_TENANT, {"tenant": tenant_id})


def has_history(tx: Transaction) -> bool:
    """Whether anything of the tenant was ever mirrored through this connection."""
    return bool(tx.db.execute(_HAS_HISTORY, {"id": tx.connection_id}).scalar())


def find_predecessor(tx: Transaction, tenant_id: str) -> int | None:
    """Return the tenant's last retired connection that has a history, or None."""
    values = {"tenant": tenant_id, "id": tx.connection_id}
    found: int | None = tx.db.execute(_PREDECESSOR, values).scalar()
    return found


def hand_over(
    retiring: Transaction, continuing: Transaction, *, name: str | None, reason: str
) -> Connection:
    """Give ``continuing`` the identity of ``retiring``, which retires; return the continuing row.

    The new connection may belong to another app registration and see other objects, so cursors and
    unfinished walks are discarded: everything is walked and compared again. Rows stay.
    """
    connection = get_connection(retiring.db, retiring.connection_id)
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
        nango_connection_id=connection.nango_connection_id,
        provider_config_key=connection.provider_config_key,
        provider=connection.provider,
        settings=connection.settings,
        settings_problem=connection.settings_problem,
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
