"""Rows of operations: actions of operators, their connections, and who carries them out.

The holder of an operation keeps it until ``held_until``. While a message to the workers is under
way, it is kept without a holder, so that no tick sends another one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import bindparam, func, select, text, update
from sqlalchemy.dialects.postgresql import JSONB

from models.audit import Via
from models.operation import Action, OperationState, TargetState, operation_targets, operations
from worker.core.errors import NotFound
from worker.store.service.audit import Actor

KEY_HOURS: Final = 24
"""Hours for which an idempotency key is remembered."""

_INSERT = text("""
    insert into sync.operations (action, parameters, actor, via, request_id, idempotency_key,
                                 request_digest, targets, holder, held_until)
    values (:action, :parameters, :actor, :via, :request_id, :key, :digest, :targets, :holder,
            clock_timestamp() + make_interval(secs => :seconds))
    on conflict (actor, idempotency_key) where idempotency_key is not null do nothing
 returning id
""").bindparams(bindparam("parameters", type_=JSONB))
_INSERT_TARGETS = text("""
    insert into sync.operation_targets (operation_id, connection_id)
    select :id, unnest(cast(:connections as bigint[]))
""")
_FORGET_OLD_KEYS = text("""
    update sync.operations set idempotency_key = null, request_digest = null
     where idempotency_key is not null
       and created_at < clock_timestamp() - make_interval(hours => :hours)
       and (cast(:actor as text) is null or actor = :actor and idempotency_key = :key)
""")
_CLAIM = text("""
    update sync.operations
       set state = 'running', holder = :holder,
           started_at = coalesce(started_at, clock_timestamp()),
           held_until = clock_timestamp() + make_interval(secs => :seconds)
     where id = (select id from sync.operations
                  where id = :id and state in ('queued', 'running')
                    and (holder is null or held_until < clock_timestamp())
                    for update skip locked)
 returning id
""")
_CLAIM_WAITING = text("""
    update sync.operations
       set holder = null, held_until = clock_timestamp() + make_interval(secs => :seconds)
     where id in (select id from sync.operations
                   where state in ('queued', 'running')
                     and coalesce(held_until < clock_timestamp(), true)
                   order by id limit :limit for update skip locked)
 returning id
""")
_RENEW = text("""
    update sync.operations
       set held_until = clock_timestamp() + make_interval(secs => :seconds)
     where id = :id and holder = :holder
""")
_RELEASE = text("""
    update sync.operations set holder = null, held_until = null where id = :id and holder = :holder
""")
_FINISH = text("""
    with counts as (
        select count(*) filter (where state = 'queued') as queued,
               count(*) filter (where state = 'failed') as failed, count(*) as number,
               min(detail) filter (where state = 'failed') as error
          from sync.operation_targets where operation_id = :id)
    update sync.operations o
       set state = case when counts.failed = 0 then 'succeeded'
                        when counts.failed < counts.number then 'partial' else 'failed' end,
           error = counts.error, finished_at = clock_timestamp(), holder = null, held_until = null
      from counts
     where o.id = :id and o.finished_at is null and counts.queued = 0
""")
_COUNT_TARGETS = text("""
    select state, count(*) from sync.operation_targets where operation_id = :id group by state
""")
_PURGE = text("""
    delete from sync.operations
     where id in (select id from sync.operations
                   where finished_at < clock_timestamp() - make_interval(days => :days) limit 1000)
""")
OPERATION_DAYS: Final = 90
"""Days for which a finished operation can be asked for."""


@dataclass(frozen=True)
class Operation:
    """An action that an operator asked for. Columns are explained in models/operation.py."""

    id: int
    action: Action
    state: OperationState
    parameters: dict[str, Any]
    actor: str
    via: Via
    request_id: str | None
    request_digest: str | None
    targets: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    error: str | None

    @property
    def who(self) -> Actor:
        """The operator who asked for it."""
        return Actor(self.actor, self.via, self.request_id)


@dataclass(frozen=True)
class Target:
    """A connection of an operation, and what became of it."""

    connection_id: int
    state: TargetState
    detail: str | None
    result: dict[str, Any] | None
    finished_at: datetime | None


_OPERATION: Final = tuple(operations.c[name] for name in Operation.__dataclass_fields__)
_TARGET: Final = tuple(operation_targets.c[name] for name in Target.__dataclass_fields__)


@dataclass(frozen=True)
class IdempotencyKey:
    """A client's key: a request that is sent twice is carried out once."""

    key: str
    digest: str
    """Of the request that came with it."""


def insert_operation(
    db: sa.Connection,
    actor: Actor,
    action: Action,
    parameters: Mapping[str, Any],
    connection_ids: Sequence[int],
    *,
    key: IdempotencyKey | None,
    holder: str | None,
    seconds: float,
) -> int | None:
    """Store an operation, kept for ``seconds``, and return its id; None if its key is known."""
    values = {
        "action": action.value,
        "parameters": dict(parameters),
        "actor": actor.name,
        "via": actor.via.value,
        "request_id": actor.request_id,
        "key": key.key if key else None,
        "digest": key.digest if key else None,
        "targets": len(connection_ids),
        "holder": holder,
        "seconds": seconds,
    }
    if key is not None:
        old = {"hours": KEY_HOURS, "actor": actor.name, "key": key.key}
        db.execute(_FORGET_OLD_KEYS, old)
    operation_id: int | None = db.execute(_INSERT, values).scalar()
    if operation_id is not None:
        targets = {"id": operation_id, "connections": list(connection_ids)}
        db.execute(_INSERT_TARGETS, targets)
    return operation_id


def forget_idempotency_keys(db: sa.Connection) -> int:
    """Forget the keys that are older than a day, and return how many."""
    old = {"hours": KEY_HOURS, "actor": None, "key": None}
    return db.execute(_FORGET_OLD_KEYS, old).rowcount


def purge_operations(db: sa.Connection) -> int:
    """Delete old finished operations, and return how many; the audit keeps their entries."""
    return db.execute(_PURGE, {"days": OPERATION_DAYS}).rowcount


def find_by_key(db: sa.Connection, actor: Actor, key: IdempotencyKey) -> Operation | None:
    """Return the operation that came with a key, if it is still known."""
    row = db.execute(
        select(*_OPERATION).where(
            operations.c.actor == actor.name,
            operations.c.idempotency_key == key.key,
            operations.c.created_at > func.clock_timestamp() - timedelta(hours=KEY_HOURS),
        )
    ).one_or_none()
    return None if row is None else _operation_from_row(row)


def get_operation(db: sa.Connection, operation_id: int) -> Operation:
    """Return an operation. Raises NotFound."""
    row = db.execute(select(*_OPERATION).where(operations.c.id == operation_id)).one_or_none()
    if row is None:
        raise NotFound(f"there is no operation {operation_id}")
    return _operation_from_row(row)


def list_operations(
    db: sa.Connection,
    *,
    before: int | None,
    limit: int,
    states: Sequence[OperationState] = (),
    connection_id: int | None = None,
) -> list[Operation]:
    """Return operations before a number, newest first."""
    column = operations.c
    statement = select(*_OPERATION).order_by(column.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(column.id < before)
    if states:
        statement = statement.where(column.state.in_([one.value for one in states]))
    if connection_id is not None:
        target = operation_targets.c
        statement = statement.where(
            column.id.in_(select(target.operation_id).where(target.connection_id == connection_id))
        )
    return [_operation_from_row(row) for row in db.execute(statement)]


def count_targets(db: sa.Connection, operation_id: int) -> dict[TargetState, int]:
    """Return the numbers of an operation's connections by their state."""
    found = {TargetState(s): n for s, n in db.execute(_COUNT_TARGETS, {"id": operation_id})}
    return {state: found.get(state, 0) for state in TargetState}


def list_targets(
    db: sa.Connection,
    operation_id: int,
    *,
    after: int = 0,
    limit: int = 100,
    state: TargetState | None = None,
) -> list[Target]:
    """Return connections of an operation after an id, by id."""
    column = operation_targets.c
    statement = select(*_TARGET).where(
        column.operation_id == operation_id, column.connection_id > after
    )
    if state is not None:
        statement = statement.where(column.state == state.value)
    rows = db.execute(statement.order_by(column.connection_id).limit(limit))
    return [_target_from_row(row) for row in rows]


def claim_operation(db: sa.Connection, operation_id: int, holder: str, seconds: float) -> bool:
    """Take an unfinished operation that no process holds; return whether it was taken."""
    values = {"id": operation_id, "holder": holder, "seconds": seconds}
    return db.execute(_CLAIM, values).first() is not None


def claim_waiting_operations(db: sa.Connection, seconds: float, limit: int = 20) -> list[int]:
    """Return unfinished operations that nobody carries out, kept for ``seconds`` for a message."""
    return sorted(db.execute(_CLAIM_WAITING, {"seconds": seconds, "limit": limit}).scalars())


def renew_operation(db: sa.Connection, operation_id: int, holder: str, seconds: float) -> bool:
    """Keep an operation for longer; return whether this process still holds it."""
    values = {"id": operation_id, "holder": holder, "seconds": seconds}
    return db.execute(_RENEW, values).rowcount == 1


def release_operation(db: sa.Connection, operation_id: int, holder: str) -> None:
    """Let another process go on with an operation at once."""
    db.execute(_RELEASE, {"id": operation_id, "holder": holder})


def finish_operation(db: sa.Connection, operation_id: int) -> None:
    """Record the outcome of an operation, if none of its connections waits."""
    db.execute(_FINISH, {"id": operation_id})


def lock_target(db: sa.Connection, operation_id: int, connection_id: int) -> Target | None:
    """Lock a connection of an operation that is still to be done; None if it is done or gone."""
    column = operation_targets.c
    row = db.execute(
        select(*_TARGET)
        .where(
            column.operation_id == operation_id,
            column.connection_id == connection_id,
            column.state == TargetState.QUEUED.value,
        )
        .with_for_update()
    ).one_or_none()
    return None if row is None else _target_from_row(row)


def save_target_result(
    db: sa.Connection, operation_id: int, connection_id: int, result: Mapping[str, Any]
) -> None:
    """Store how far a connection has come."""
    _update_target(db, operation_id, connection_id, result=dict(result))


def finish_target(
    db: sa.Connection,
    operation_id: int,
    connection_id: int,
    state: TargetState,
    *,
    detail: str,
    result: Mapping[str, Any] | None,
) -> None:
    """Store what became of a connection."""
    _update_target(
        db,
        operation_id,
        connection_id,
        state=state.value,
        detail=detail,
        result=sa.null() if result is None else dict(result),
        finished_at=func.clock_timestamp(),
    )


def _update_target(db: sa.Connection, operation_id: int, connection_id: int, **values: Any) -> None:
    column = operation_targets.c
    db.execute(
        update(operation_targets)
        .where(column.operation_id == operation_id, column.connection_id == connection_id)
        .values(**values)
    )


def _operation_from_row(row: sa.Row[Any]) -> Operation:
    values = {name: getattr(row, name) for name in Operation.__dataclass_fields__}
    values["action"], values["state"] = Action(row.action), OperationState(row.state)
    values["via"] = Via(row.via)
    return Operation(**values)


def _target_from_row(row: sa.Row[Any]) -> Target:
    values = {name: getattr(row, name) for name in Target.__dataclass_fields__}
    values["state"] = TargetState(row.state)
    return Target(**values)
