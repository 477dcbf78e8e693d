"""A slice's first call: the organization and the first page of everything due, in one.

The organization is judged first. Unless it answers 200 and is the tenant it has always been, all
else that came with it is dropped unread: no byte of one tenant ever reaches another's rows.
"""

import time
from collections.abc import Mapping
from dataclasses import replace

import msgspec

from models.change_event import ConnectionChange
from models.connection import ConnectionStatus
from models.record import Guid
from worker.core.errors import Broken, Refused, Torn
from worker.events.ledger import tell_connection
from worker.graph.targets import ORGANIZATION
from worker.graph.verdict import graph_trouble
from worker.nango.reply import Reply
from worker.store.connections import change_connection, same_tenant
from worker.sync.session import Session

FIRST = "organization"


class _Organization(msgspec.Struct):
    id: Guid
    display_name: str | None = msgspec.field(name="displayName", default=None)


class _Organizations(msgspec.Struct):
    value: list[_Organization]


def open_connection(session: Session, targets: Mapping[str, str]) -> dict[str, Reply]:
    """Send the opening call; the answers by stream, once the tenant is known to be the same.

    Raises Broken (another tenant, no access), Refused (a duplicate), Later, Halt.
    """
    session.keep_lease()
    replies = session.batcher.open(FIRST, {FIRST: ORGANIZATION, **targets})
    organization = _judged(replies.pop(FIRST))
    known = session.connection
    tenant = organization.id.lower()
    if known.tenant_id is not None and known.tenant_id != tenant:
        raise Broken(
            f"it now belongs to another Microsoft tenant ({tenant}) than before "
            f"({known.tenant_id}); nothing was read. Delete it in Nango and connect anew"
        )
    if known.tenant_id is None or known.display_name != organization.display_name:
        _remember(session, tenant, organization.display_name)
    _refuse_duplicate(session, tenant)
    return replies


def _judged(reply: Reply) -> _Organization:
    trouble = graph_trouble(reply, time.time(), "Organization.Read.All")
    if isinstance(trouble, Refused):
        raise Broken(f"whose tenant it is cannot be read: {trouble.message}")
    if trouble is not None:
        raise trouble
    try:
        listed = msgspec.json.decode(reply.body, type=_Organizations).value
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Torn("the organization cannot be read", after=300) from None
    if len(listed) != 1:
        raise Torn(f"Graph names {len(listed)} organizations instead of one", after=300)
    return listed[0]


def _remember(session: Session, tenant: str, name: str | None) -> None:
    with session.writing() as tx:
        change_connection(tx, tenant_id=tenant, display_name=name)
    session.connection = replace(session.connection, tenant_id=tenant, display_name=name)


def _refuse_duplicate(session: Session, tenant: str) -> None:
    """A tenant is mirrored once: the oldest connection keeps it.

    Raises Refused, with the connection marked, where another mirrors the tenant already.
    """
    with session.writing() as tx:
        other = same_tenant(tx, tenant)
        if other is not None:
            reason = f"connection {other.id} ({other.label}) mirrors this tenant already"
            status = ConnectionStatus.DUPLICATE
            change_connection(tx, status=status, status_reason=reason, due_at=None)
    if other is not None:
        raise Refused(reason)


def mend(session: Session) -> None:
    """The connection works: if it was broken, say so once."""
    known = session.connection
    if known.status is not ConnectionStatus.BROKEN:
        return
    with session.writing() as tx:
        change_connection(tx, status=ConnectionStatus.ACTIVE, status_reason=None, broken_count=0)
        tell_connection(tx, ConnectionChange.RECOVERED, {}, run_id=session.run.id)
    session.connection = replace(known, status=ConnectionStatus.ACTIVE, status_reason=None)
