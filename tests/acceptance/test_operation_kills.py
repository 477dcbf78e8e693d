"""Kill -9 of a worker in an operation, and lost messages: they cost time, and nothing else."""

from collections.abc import Callable
from pathlib import Path

import pytest

from models.operation import Action, OperationState
from models.run import RunState
from sandbox.tenant import Tenant
from tests.integration.test_operations import ANN, list_entries, look_up, see
from tests.integration.test_pauses import load
from tests.support.mirror import MakeMirror, Mirror, assert_exact, fetch_scalar, verify_connection
from tests.support.service import Service, wait_until
from worker.core.errors import LeaseHeld
from worker.core.process.failpoints import OPERATION_FAILPOINTS
from worker.operations.request import OperationRequest, Parameters, ResyncParameters
from worker.operations.submit import submit


@pytest.fixture
def mirror(make_mirror: MakeMirror) -> Mirror:
    made = make_mirror(Tenant(seed=4, users=200, groups=4))
    made.sync()
    return made


def hold_users(mirror: Mirror, first: int) -> None:
    for index in range(first, first + 70):
        mirror.tenant.delete_user(mirror.tenant.users.id_at(index))
    wait_until(lambda: sync_if_free(mirror) is RunState.HELD, 60, "the hold")


def sync_if_free(mirror: Mirror) -> RunState | None:
    """Sync, unless a slice of a worker holds the connection, or did when it was killed."""
    try:
        return mirror.sync().state
    except LeaseHeld:
        return None


def submit_and_lose(mirror: Mirror, action: Action, parameters: Parameters) -> int:
    """Submit an operation whose message is lost."""
    with mirror.database.open_transaction() as db:
        request = OperationRequest(action, [1], parameters)
        return submit(db, ANN, request, hold_seconds=0).operation.id


def prepare(mirror: Mirror, number: int) -> tuple[Action, Parameters]:
    """The action that meets a failpoint: the first of them needs nothing to be held."""
    if number == 0:
        return Action.RESYNC, ResyncParameters()
    hold_users(mirror, 70 * (number - 1))
    return Action.APPROVE, see(mirror)


def is_done(mirror: Mirror, operation_id: int) -> Callable[[], bool]:
    return lambda: look_up(mirror.database, operation_id)[0].state is OperationState.SUCCEEDED


def test_a_killed_worker_and_a_lost_message_cost_an_operation_only_time(
    mirror: Mirror, service: Service, tmp_path: Path
) -> None:
    service.start_maintenance()
    service.start_beat()
    for number, point in enumerate(OPERATION_FAILPOINTS):
        action, parameters = prepare(mirror, number)
        mark = tmp_path / point
        orders = {"TENANT_MIRROR_CRASH_AT": point, "TENANT_MIRROR_CRASH_MARK": str(mark)}
        service.start_worker(**orders)
        operation = submit_and_lose(mirror, action, parameters)
        wait_until(is_done(mirror, operation), 90, f"the operation after a kill at {point}")
        assert mark.exists(), point
        outcomes = [
            one.outcome for one in list_entries(mirror.database) if one.operation_id == operation
        ]
        assert outcomes == ["accepted", "done"], point
        service.kill("worker")
    assert load(mirror.database).requested_at is None or not load(mirror.database).requested_full
    assert fetch_scalar(mirror.database, "select count(*) from sync.removals where held") == 0
    live = "select count(*) from directory.users where deleted_at is null"
    assert fetch_scalar(mirror.database, live) == 60
    wait_until(lambda: sync_if_free(mirror) is RunState.SUCCEEDED, 60, "the last sync")
    assert_exact(mirror.database, mirror.tenant)
    assert verify_connection(mirror.database).problems == []
