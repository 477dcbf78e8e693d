"""A slice's opening call: the organization and the first page of every due stream, in one.

The organization is checked first, as in every later call (``graph/batch``). Unless it is a 200 with
the connection's tenant, the other responses are discarded unread: no data of one tenant ever
reaches another's rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from models.change_event import ConnectionChange
from models.connection import ConnectionStatus
from models.run import RunState
from worker.core.errors import ResourceRefused, RetryLater
from worker.events.append import append_connection_event
from worker.nango.response import ApiResponse
from worker.store.lease import Transaction, interrupt_writer_in
from worker.store.state.connections import (
    SYNCED_STATUSES,
    Connection,
    get_connection,
    list_same_tenant,
    update_connection,
)
from worker.store.state.runs import finish_run
from worker.store.state.takeover import find_predecessor, hand_over, has_history, lock_tenant
from worker.sync.context import SliceContext


def open_connection(context: SliceContext, targets: Mapping[str, str]) -> dict[str, ApiResponse]:
    """Send the opening call; return the responses by stream, once the tenant is verified.

    Raises ConnectionBroken (another tenant, no access), ResourceRefused (another connection mirrors
    the tenant), RetryLater, ConfigurationError.
    """
    organization, replies = context.client.open(targets)
    _check_tenant(context, organization.tenant_id, organization.display_name)
    return replies


def _check_tenant(context: SliceContext, tenant: str, name: str | None) -> None:
    """Check that only this connection mirrors the tenant.

    Raises ResourceRefused, with the connection marked, if another connection mirrors the tenant
    already, or if a retired one that has the tenant's history continues in its place.
    """
    connection = context.connection
    if (connection.tenant_id, connection.display_name) == (
        tenant,
        name,
    ) and not context.is_tenant_shared:
        return
    refusal = None
    with context.open_transaction() as tx:
        others = list_same_tenant(tx, tenant)
        if others or connection.tenant_id is None:
            lock_tenant(tx, tenant)
            refusal = _resolve_tenant_conflict(context, tx, tenant, name)
        if refusal is None and (connection.tenant_id, connection.display_name) != (tenant, name):
            update_connection(tx, tenant_id=tenant, display_name=name)
    if refusal is not None:
        raise ResourceRefused(refusal)
    context.connection = replace(connection, tenant_id=tenant, display_name=name)


def _resolve_tenant_conflict(
    context: SliceContext, tx: Transaction, tenant: str, name: str | None
) -> str | None:
    new = context.connection.tenant_id is None or not has_history(tx)
    rival = _find_rival(list_same_tenant(tx, tenant), tx.connection_id, is_new=new)
    if rival is not None:
        reason = _mark_duplicate(tx, rival, tenant, name)
        finish_run(tx, context.run, RunState.FAILED, error=reason)
        return reason
    retired = find_predecessor(tx, tenant) if new else None
    return None if retired is None else _hand_over_to_retired(context, tx, retired, tenant, name)


def _find_rival(
    others: Sequence[Connection], connection_id: int, *, is_new: bool
) -> Connection | None:
    """Return the connection that keeps the tenant, if it is not this one.

    Any other one precedes a connection that never mirrored the tenant; otherwise the older one
    does. A paused one keeps it, too: its rows are still shown, and it may resume at any time.
    """
    for other in others:
        older = other.status in SYNCED_STATUSES and other.id < connection_id
        if older or (is_new and other.status in (*SYNCED_STATUSES, ConnectionStatus.PAUSED)):
            return other
    return None


def _mark_duplicate(tx: Transaction, other: Connection, tenant: str, name: str | None) -> str:
    how = "" if other.status is ConnectionStatus.ACTIVE else f", but is {other.status}"
    reason = (
        f"connection {other.id} ({other.label}) mirrors this tenant already{how}; "
        "delete one of the two in Nango"
    )
    update_connection(
        tx,
        status=ConnectionStatus.DUPLICATE,
        status_reason=reason,
        due_at=None,
        tenant_id=tenant,
        display_name=name,
    )
    return reason


def _hand_over_to_retired(
    context: SliceContext, tx: Transaction, retired: int, tenant: str, name: str | None
) -> str:
    """Give the retired connection this one's Nango reference, and retire this one.

    Raises RetryLater if the retired one was just reactivated or forgotten.
    """
    reason = f"connection {retired} has this tenant's history and took its place"
    with interrupt_writer_in(tx.db, retired, tx.counts) as other:
        found = get_connection(tx.db, retired)
        if not found.is_retired or found.tenant_id != tenant:
            raise RetryLater(f"connection {retired} of the same tenant is being changed", after=5)
        heir = hand_over(tx, other, name=name, reason=reason)
        append_connection_event(tx, ConnectionChange.REMOVED, {"continued_by": retired})
        about: dict[str, object] = {
            "nango_connection_id": heir.nango_connection_id,
            "provider_config_key": heir.provider_config_key,
            "provider": heir.provider,
        }
        append_connection_event(other, ConnectionChange.ADDED, about)
    finish_run(tx, context.run, RunState.FAILED, error=reason)
    return reason


def mark_recovered(context: SliceContext) -> None:
    """Mark a broken connection as active again, with an event."""
    connection = context.connection
    if connection.status is not ConnectionStatus.BROKEN:
        return
    with context.open_transaction() as tx:
        update_connection(tx, status=ConnectionStatus.ACTIVE, status_reason=None, broken_count=0)
        append_connection_event(tx, ConnectionChange.RECOVERED, {}, run_id=context.run.id)
    context.connection = replace(connection, status=ConnectionStatus.ACTIVE, status_reason=None)
