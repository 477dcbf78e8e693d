"""A slice's first call: the organization and the first page of everything due, in one.

The organization is judged first, as it is with every later call (``graph/batch``). Unless it
answers 200 and is the tenant it has always been, all else that came with it is dropped unread: no
byte of one tenant ever reaches another's rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from models.change_event import ConnectionChange
from models.connection import ConnectionStatus
from models.run import RunState
from worker.core.errors import Later, Refused
from worker.events.ledger import tell_connection
from worker.nango.reply import Reply
from worker.store.connections import IN_USE, Known, change_connection, get, same_tenant
from worker.store.lease import Transaction, joining
from worker.store.runs import finish_run
from worker.store.takeover import hand_over, has_history, one_at_a_time, predecessor
from worker.sync.session import Session


def open_connection(session: Session, targets: Mapping[str, str]) -> dict[str, Reply]:
    """Send the opening call; the answers by stream, once the tenant is known to be the same.

    Raises Broken (another tenant, no access), Refused (another row mirrors it), Later, Halt.
    """
    organization, replies = session.batcher.open(targets)
    _settle_who_mirrors(session, organization.tenant, organization.display_name)
    return replies


def _settle_who_mirrors(session: Session, tenant: str, name: str | None) -> None:
    """A tenant is mirrored once, and by one row for ever.

    Raises Refused, with the connection marked, where another mirrors the tenant already, or where
    a retired one that has its history goes on in this one's place.
    """
    known = session.connection
    if (known.tenant_id, known.display_name) == (tenant, name) and not session.contested:
        return
    refusal = None
    with session.writing() as tx:
        others = same_tenant(tx, tenant)
        if others or known.tenant_id is None:
            one_at_a_time(tx, tenant)
            refusal = _refusal(session, tx, tenant, name)
        if refusal is None and (known.tenant_id, known.display_name) != (tenant, name):
            change_connection(tx, tenant_id=tenant, display_name=name)
    if refusal is not None:
        raise Refused(refusal)
    session.connection = replace(known, tenant_id=tenant, display_name=name)


def _refusal(session: Session, tx: Transaction, tenant: str, name: str | None) -> str | None:
    new = session.connection.tenant_id is None or not has_history(tx)
    rival = _rival(same_tenant(tx, tenant), tx.connection_id, new=new)
    if rival is not None:
        reason = _marked_duplicate(tx, rival, tenant, name)
        finish_run(tx, session.run, RunState.FAILED, error=reason)
        return reason
    retired = predecessor(tx, tenant) if new else None
    return None if retired is None else _taken_over(session, tx, retired, tenant, name)


def _rival(others: Sequence[Known], mine: int, *, new: bool) -> Known | None:
    """Who keeps the tenant: before a connection that never mirrored it everybody, else the older.

    One that is paused keeps it, too: its rows are still shown, and it may go on at any time.
    """
    for other in others:
        older = other.status in IN_USE and other.id < mine
        if older or (new and other.status in (*IN_USE, ConnectionStatus.PAUSED)):
            return other
    return None


def _marked_duplicate(tx: Transaction, other: Known, tenant: str, name: str | None) -> str:
    how = "" if other.status is ConnectionStatus.ACTIVE else f", but is {other.status}"
    reason = (
        f"connection {other.id} ({other.label}) mirrors this tenant already{how}; "
        "delete one of the two in Nango"
    )
    change_connection(
        tx,
        status=ConnectionStatus.DUPLICATE,
        status_reason=reason,
        due_at=None,
        tenant_id=tenant,
        display_name=name,
    )
    return reason


def _taken_over(
    session: Session, tx: Transaction, retired: int, tenant: str, name: str | None
) -> str:
    """The retired row goes on with this connection's address; this row retires in its place.

    Raises Later where the retired one came back or was forgotten a moment ago.
    """
    reason = f"connection {retired} has this tenant's history and took its place"
    with joining(tx.connection, retired) as other:
        found = get(tx.connection, retired)
        if not found.is_retired or found.tenant_id != tenant:
            raise Later(f"connection {retired} of the same tenant changes just now", after=5)
        heir = hand_over(tx, other, name=name, reason=reason)
        tell_connection(tx, ConnectionChange.REMOVED, {"continued_by": retired})
        about: dict[str, object] = {
            "nango_connection_id": heir.nango_connection_id,
            "provider_config_key": heir.provider_config_key,
            "provider": heir.provider,
        }
        tell_connection(other, ConnectionChange.ADDED, about)
    finish_run(tx, session.run, RunState.FAILED, error=reason)
    return reason


def mend(session: Session) -> None:
    """The connection works: if it was broken, say so once."""
    known = session.connection
    if known.status is not ConnectionStatus.BROKEN:
        return
    with session.writing() as tx:
        change_connection(tx, status=ConnectionStatus.ACTIVE, status_reason=None, broken_count=0)
        tell_connection(tx, ConnectionChange.RECOVERED, {}, run_id=session.run.id)
    session.connection = replace(known, status=ConnectionStatus.ACTIVE, status_reason=None)
