"""Operations: submitted once, carried out exactly once or again without harm, always audited."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from sqlalchemy import text

from models.audit import AuditOutcome, Via
from models.operation import Action, OperationState, TargetState
from models.run import RunState
from sandbox.tenant import Nango, Tenant
from tests.integration.test_pauses import execute as execute_sql
from tests.integration.test_pauses import load
from tests.integration.test_takeover import look
from tests.support.mirror import MakeMirror, Mirror, assert_exact, fetch_scalar
from worker.core.errors import ExpectationChanged, InvalidInput, NotFound, StateConflict
from worker.operations.cancel import cancel_operation
from worker.operations.execute import HOLD_SECONDS, execute
from worker.operations.request import (
    DecisionParameters,
    OperationRequest,
    Parameters,
    PauseParameters,
    ResumeParameters,
    ResyncParameters,
    parse_parameters,
)
from worker.operations.submit import KeyReused, Submitted, submit
from worker.store.engine import Database
from worker.store.service.audit import Actor, AuditEntry, list_audit
from worker.store.state.operations import (
    IdempotencyKey,
    Operation,
    Target,
    claim_operation,
    claim_waiting_operations,
    forget_idempotency_keys,
    get_operation,
    list_targets,
)
from worker.store.sweep.held import summarize_held
from worker.sync.finish.approve import SeenSet
from worker.sync.runtime import Runtime

ANN = Actor("ann", Via.API, "req-1")
BOB = Actor("bob", Via.CLI)


@pytest.fixture
def fleet(runtime: Runtime, nango: Nango) -> Database:
    """Three connections, the third of them retired."""
    for name in ("a", "b", "c"):
        nango.add_connection(name, Tenant(seed=len(name), users=2))
    look(runtime)
    execute_sql(runtime.database, "update sync.connections set status = 'retired' where id = 3")
    return runtime.database


def send(
    database: Database,
    action: Action,
    parameters: Parameters,
    *ids: int,
    key: IdempotencyKey | None = None,
    expected: int | None = None,
) -> Submitted:
    with database.open_transaction() as db:
        return submit(db, ANN, OperationRequest(action, ids, parameters, expected), key=key)


def free(database: Database) -> None:
    """As if the message that was sent had been lost, or its process had died, long ago."""
    execute_sql(database, "update sync.operations set held_until = now() - interval '1 s'")


def run(database: Database, submitted: Submitted) -> tuple[Operation, list[Target]]:
    assert execute(database, submitted.operation.id)
    return look_up(database, submitted.operation.id)


def look_up(database: Database, operation_id: int) -> tuple[Operation, list[Target]]:
    with database.open_transaction() as db:
        return get_operation(db, operation_id), list_targets(db, operation_id)


def list_entries(database: Database) -> list[AuditEntry]:
    with database.open_transaction() as db:
        return list_audit(db)[::-1]


def test_what_no_process_has_begun_can_be_cancelled_and_stays_cancelled(fleet: Database) -> None:
    waiting = send(fleet, Action.PAUSE, PauseParameters("moving"), 1, 2).operation
    with fleet.open_transaction() as db:
        assert claim_waiting_operations(db, 15) == []
    done = cancel_operation(fleet, BOB, waiting.id)
    assert (done.state, done.error) == (OperationState.CANCELLED, "cancelled by bob")
    assert cancel_operation(fleet, ANN, waiting.id).error == "cancelled by bob"
    operation, targets = run(fleet, Submitted(waiting, is_new=False))
    assert operation.finished_at == done.finished_at
    assert {one.state for one in targets} == {TargetState.CANCELLED}
    assert not load(fleet, 1).is_operator_paused
    told = [(one.actor, one.action, one.outcome, one.subject) for one in list_entries(fleet)]
    assert told == [
        ("ann", "pause", "accepted", "2 connections"),
        ("bob", "operations.cancel", "done", f"operation {waiting.id}"),
    ]


@pytest.mark.parametrize("begun", ["held", "marked", "partly done", "running", "finished"])
def test_what_a_process_has_begun_is_not_cancelled(fleet: Database, begun: str) -> None:
    number = send(fleet, Action.RESYNC, ResyncParameters(), 1, 2).operation.id
    match begun:
        case "held":
            execute_sql(fleet, "update sync.operations set holder = 'a command'")
        case "marked":
            execute_sql(fleet, "update sync.operation_targets set result = '{}'")
        case "partly done":
            execute_sql(
                fleet, "update sync.operation_targets set state = 'done' where connection_id = 1"
            )
        case "running":
            with fleet.open_transaction() as db:
                assert claim_operation(db, number, "p", HOLD_SECONDS)
        case "finished":
            execute(fleet, number)
    before = look_up(fleet, number)
    with pytest.raises(StateConflict, match="finished" if begun == "finished" else "has begun"):
        cancel_operation(fleet, BOB, number)
    assert look_up(fleet, number) == before
    assert list_entries(fleet)[-1].outcome is AuditOutcome.REFUSED


def test_an_unknown_operation_cannot_be_cancelled(fleet: Database) -> None:
    with pytest.raises(NotFound):
        cancel_operation(fleet, BOB, 4711)


@pytest.mark.parametrize(
    ("action", "parameters", "proof"),
    [
        (Action.RESYNC, ResyncParameters(("users",), full=True), "requested_full"),
        (Action.PAUSE, PauseParameters("moving"), "operator_pause_reason = 'moving'"),
        (Action.RESUME, ResumeParameters(), "operator_paused_at is null"),
    ],
)
def test_an_operation_is_carried_out_and_audited_for_each_connection(
    fleet: Database, action: Action, parameters: Parameters, proof: str
) -> None:
    operation, targets = run(fleet, send(fleet, action, parameters, 1, 2))
    assert operation.state is OperationState.SUCCEEDED
    assert operation.finished_at is not None
    assert [one.state for one in targets] == [TargetState.DONE] * 2
    assert (
        fetch_scalar(fleet, f"select count(*) from sync.connections where id < 3 and {proof}") == 2
    )
    entries = list_entries(fleet)
    assert [(one.action, one.outcome, one.connection_id) for one in entries] == [
        (action, "accepted", None),
        (action, "done", 1),
        (action, "done", 2),
    ]
    assert {(one.actor, one.via, one.request_id, one.operation_id) for one in entries} == {
        ("ann", Via.API, "req-1", operation.id)
    }


def test_what_fails_for_some_connections_is_partial_and_says_for_which(fleet: Database) -> None:
    operation, targets = run(fleet, send(fleet, Action.PAUSE, PauseParameters(), 1, 2, 3))
    assert operation.state is OperationState.PARTIAL
    assert [one.state for one in targets] == ["done", "done", "failed"]
    assert "it is retired" in str(targets[2].detail)
    assert operation.error == targets[2].detail
    assert list_entries(fleet)[-1].outcome is AuditOutcome.REFUSED


def test_what_the_only_connection_does_not_allow_is_refused_at_once(fleet: Database) -> None:
    for action, parameters in (
        (Action.RESYNC, ResyncParameters()),
        (Action.PAUSE, PauseParameters()),
    ):
        with pytest.raises(StateConflict, match="it is retired"):
            send(fleet, action, parameters, 3)
    with pytest.raises(NotFound, match="no connection 99"):
        send(fleet, Action.RESUME, ResumeParameters(), 1, 99)
    assert fetch_scalar(fleet, "select count(*) from sync.operations") == 0


def test_a_confirmed_number_that_is_no_longer_right_does_nothing(fleet: Database) -> None:
    with pytest.raises(ExpectationChanged, match="2 connections match now, not 5") as changed:
        send(fleet, Action.RESYNC, ResyncParameters(), 1, 2, expected=5)
    assert changed.value.current == 2
    assert send(fleet, Action.RESYNC, ResyncParameters(), 1, 2, expected=2).is_new


@pytest.mark.parametrize(
    ("action", "given", "words"),
    [
        (Action.RESYNC, {"resources": ["cats"]}, "cats: no such resource"),
        (Action.RESYNC, {"fully": True}, "unknown field `fully`"),
        (Action.PAUSE, {"until": "soon"}, "Invalid RFC3339"),
        (Action.APPROVE, {}, "missing required field `expected`"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(
    action: Action, given: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidInput, match=words):
        parse_parameters(action, given)


def test_a_request_that_is_sent_twice_is_one_operation(fleet: Database) -> None:
    key = IdempotencyKey("k1", "digest")
    first = send(fleet, Action.RESYNC, ResyncParameters(), 1, key=key)
    again = send(fleet, Action.RESYNC, ResyncParameters(), 1, key=key)
    assert (first.is_new, again.is_new) == (True, False)
    assert again.operation.id == first.operation.id
    run(fleet, first)
    assert [one.outcome for one in list_entries(fleet)] == ["accepted", "done"]


def test_a_key_that_comes_with_another_request_is_refused(fleet: Database) -> None:
    send(fleet, Action.RESYNC, ResyncParameters(), 1, key=IdempotencyKey("k1", "one"))
    with pytest.raises(KeyReused, match="another request"):
        send(fleet, Action.PAUSE, PauseParameters(), 1, key=IdempotencyKey("k1", "two"))


@pytest.mark.parametrize("by_maintenance", [True, False])
def test_a_key_is_forgotten_after_a_day(fleet: Database, by_maintenance: bool) -> None:
    key = IdempotencyKey("k1", "one")
    first = send(fleet, Action.RESYNC, ResyncParameters(), 1, key=key)
    execute_sql(fleet, "update sync.operations set created_at = now() - interval '25 h'")
    if by_maintenance:
        with fleet.open_transaction() as db:
            assert forget_idempotency_keys(db) == 1
    again = send(fleet, Action.RESYNC, ResyncParameters(), 1, key=IdempotencyKey("k1", "two"))
    assert again.is_new
    assert again.operation.id != first.operation.id


def in_parallel(work: Callable[[], object], number: int) -> None:
    together = threading.Barrier(number)

    def one() -> None:
        together.wait()
        work()

    threads = [threading.Thread(target=one) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_of_requests_with_one_key_that_come_together_one_is_new(
    database_url: str, fleet: Database
) -> None:
    opened = Database(database_url, pool_size=4)
    found: list[Submitted] = []
    key = IdempotencyKey("k1", "one")
    in_parallel(
        lambda: found.append(send(opened, Action.RESYNC, ResyncParameters(), 1, key=key)), 4
    )
    opened.close()
    assert sorted(one.is_new for one in found) == [False, False, False, True]
    assert len({one.operation.id for one in found}) == 1


def test_an_operation_is_held_by_one_process_until_its_hold_ends(fleet: Database) -> None:
    number = send(fleet, Action.RESYNC, ResyncParameters(), 1, 2).operation.id
    with fleet.open_transaction() as db:
        assert claim_operation(db, number, "one", HOLD_SECONDS)
        assert not claim_operation(db, number, "two", HOLD_SECONDS)
        assert claim_waiting_operations(db, 15) == []
    free(fleet)
    with fleet.open_transaction() as db:
        assert claim_waiting_operations(db, 15) == [number]
        assert claim_waiting_operations(db, 15) == [], "its message is under way"
        assert claim_operation(db, number, "two", HOLD_SECONDS)


def test_two_processes_that_both_carry_out_an_operation_do_each_connection_once(
    database_url: str, fleet: Database
) -> None:
    execute_sql(
        fleet,
        "insert into sync.connections (nango_connection_id, provider_config_key, provider)"
        " select 'n' || i, 'entra', 'microsoft' from generate_series(1, 30) i",
    )
    ids = [1, 2, *range(4, 34)]
    number = send(fleet, Action.RESYNC, ResyncParameters(), *ids).operation.id
    opened = Database(database_url, pool_size=4)

    def take_away_and_run() -> None:
        free(opened)
        execute(opened, number)

    in_parallel(take_away_and_run, 3)
    opened.close()
    operation, _ = look_up(fleet, number)
    assert operation.state is OperationState.SUCCEEDED
    done = [one.connection_id for one in list_entries(fleet) if one.outcome is AuditOutcome.DONE]
    assert sorted(filter(None, done)) == ids


def hold(make_mirror: MakeMirror) -> Mirror:
    """A mirror of which 70 of 200 users are held."""
    mirror = make_mirror(Tenant(seed=4, users=200, groups=4))
    mirror.sync()
    for index in range(70):
        mirror.tenant.delete_user(mirror.tenant.users.id_at(index))
    assert mirror.sync().state is RunState.HELD
    return mirror


def see(mirror: Mirror) -> DecisionParameters:
    with mirror.database.open_transaction() as db:
        held = summarize_held(db, 1)
    return DecisionParameters({one.resource: SeenSet(one.count, one.digest) for one in held})


def hold_one_more(mirror: Mirror, index: int = 100) -> str:
    """As if a round had held another user since."""
    user = mirror.tenant.users.id_at(index)
    with mirror.database.open_transaction() as db:
        db.execute(
            text(
                "insert into sync.removals (connection_id, resource, key, reason, held)"
                " values (1, 'users', :user, 'soft_deleted', true)"
            ),
            {"user": user},
        )
    return user


def count_live_users(mirror: Mirror) -> int:
    return int(
        fetch_scalar(
            mirror.database, "select count(*) from directory.users where deleted_at is null"
        )
    )


def test_an_approval_deletes_exactly_what_was_seen(make_mirror: MakeMirror) -> None:
    mirror = hold(make_mirror)
    operation, (target,) = run(
        mirror.database, send(mirror.database, Action.APPROVE, see(mirror), 1)
    )
    assert operation.state is OperationState.SUCCEEDED
    assert target.result is not None
    assert target.result["approved"] == {"users": 70}
    assert target.result["deleted"]["users"] == 70
    assert str(target.detail).startswith("70 users")
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact(mirror.database, mirror.tenant)


@pytest.mark.parametrize("action", [Action.APPROVE, Action.REJECT])
@pytest.mark.parametrize("is_submitted", [True, False])
def test_nothing_is_decided_once_anything_more_is_held(
    make_mirror: MakeMirror, action: Action, is_submitted: bool
) -> None:
    mirror = hold(make_mirror)
    seen = see(mirror)
    if is_submitted:
        submitted = send(mirror.database, action, seen, 1)
        hold_one_more(mirror)
        operation, (target,) = run(mirror.database, submitted)
        assert operation.state is OperationState.FAILED
        assert "71 users now, 70 users when it was shown" in str(target.detail)
        assert target.result is not None
        assert [one["count"] for one in target.result["held"]] == [71]
    else:
        hold_one_more(mirror)
        with pytest.raises(ExpectationChanged, match="71 users now, 70 users") as changed:
            send(mirror.database, action, seen, 1)
        assert isinstance(changed.value.current, list)
    assert count_live_users(mirror) == 200
    assert fetch_scalar(mirror.database, "select count(*) from sync.removals where held") == 71


def test_another_set_of_the_same_size_is_not_what_was_seen(make_mirror: MakeMirror) -> None:
    mirror = hold(make_mirror)
    seen = see(mirror)
    first = "(select min(key) from sync.removals where held)"
    execute_sql(mirror.database, f"delete from sync.removals where key = {first}")
    hold_one_more(mirror)
    with pytest.raises(ExpectationChanged, match="70 users now, 70 users"):
        send(mirror.database, Action.APPROVE, seen, 1)


def test_what_is_held_after_the_approval_began_stays_held(make_mirror: MakeMirror) -> None:
    mirror = hold(make_mirror)
    number = send(mirror.database, Action.APPROVE, see(mirror), 1).operation.id
    answers = iter([False, True])
    assert not execute(mirror.database, number, should_stop=lambda: next(answers))
    later = hold_one_more(mirror)
    assert execute(mirror.database, number)
    operation, (target,) = look_up(mirror.database, number)
    assert operation.state is OperationState.SUCCEEDED
    assert target.result is not None
    assert target.result["deleted"]["users"] == 70
    left = "select string_agg(key, ',') from sync.removals where held"
    assert fetch_scalar(mirror.database, left) == later
    assert mirror.sync().state is RunState.HELD
    assert count_live_users(mirror) == 130


def test_an_interrupted_approval_goes_on_without_asking_again(make_mirror: MakeMirror) -> None:
    mirror = hold(make_mirror)
    number = send(mirror.database, Action.APPROVE, see(mirror), 1).operation.id
    answers = iter([False, True])
    assert not execute(mirror.database, number, should_stop=lambda: next(answers))
    assert look_up(mirror.database, number)[1][0].state is TargetState.QUEUED
    assert execute(mirror.database, number)
    assert look_up(mirror.database, number)[0].state is OperationState.SUCCEEDED
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact(mirror.database, mirror.tenant)


def test_a_rejection_reads_everything_again(make_mirror: MakeMirror) -> None:
    mirror = hold(make_mirror)
    operation, (target,) = run(
        mirror.database, send(mirror.database, Action.REJECT, see(mirror), 1)
    )
    assert operation.state is OperationState.SUCCEEDED
    assert target.result == {"rejected": {"users": 70}}
    mirror.take_call_count()
    mirror.sync()
    assert mirror.nango.calls.graph["users"] == 1


def test_the_digest_of_what_is_held_does_not_depend_on_the_order(database: Database) -> None:
    execute_sql(
        database,
        "insert into sync.connections (nango_connection_id, provider_config_key, provider)"
        " select 'n' || i, 'entra', 'microsoft' from generate_series(1, 3) i",
    )
    for connection_id, order in ((1, "i"), (2, "-i"), (3, "i")):
        last = 500 if connection_id == 3 else 501
        execute_sql(
            database,
            "insert into sync.removals (connection_id, resource, key, reason, held)"
            f" select {connection_id}, 'users', 'k' || i, 'not_seen', true"
            f" from generate_series(1, {last}) i order by {order}",
        )
    with database.open_transaction() as db:
        one, two, other = (summarize_held(db, number)[0].digest for number in (1, 2, 3))
    assert one == two != other


def test_a_resync_of_a_paused_connection_says_when_it_starts(fleet: Database) -> None:
    run(fleet, send(fleet, Action.PAUSE, PauseParameters(), 1))
    _, (target,) = run(fleet, send(fleet, Action.RESYNC, ResyncParameters(), 1))
    assert target.detail == "requested; it starts when the pause ends"
    assert load(fleet).requested_at is not None


def list_ids(targets: Sequence[Target]) -> list[int]:
    return [one.connection_id for one in targets]


def test_a_connection_that_is_forgotten_meanwhile_holds_up_no_operation(fleet: Database) -> None:
    submitted = send(fleet, Action.RESYNC, ResyncParameters(), 1, 2)
    execute_sql(fleet, "delete from sync.leases where connection_id = 2")
    execute_sql(fleet, "delete from sync.connections where id = 2")
    operation, targets = run(fleet, submitted)
    assert operation.state is OperationState.SUCCEEDED
    assert list_ids(targets) == [1]
