"""Renders the mirror in the form of the simulated tenant's truth, to compare the two."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import Connection, text

from models.resources import RESOURCES, STREAMED
from models.switches import find_off
from sandbox.tenant import Nango, Tenant, Truth, compute_checksum
from tests.support.synced import sync_by_hand
from worker.events.verify import Verification, verify
from worker.store.engine import Database, get_driver_connection
from worker.sync.report import SyncReport
from worker.sync.runtime import Runtime

OFF: Final = find_off({})
"""The resources that are off unless settings switch them on."""
FIRST_RESOURCES: Final = frozenset(
    {"users", "groups", "sites", "role_definitions", "role_assignments"}
)
"""What every simulated tenant has; others have rows only where a test asks for them."""
LATER_RESOURCES: Final = sorted({one.name for one in STREAMED} - FIRST_RESOURCES - OFF)
"""Each of them costs a sync as much as the first ones do, whether it has rows or not."""


def to_truth_value(value: Any) -> Any:
    """A stored value as the truth spells it."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return sorted(value)
    return value


def read_live_rows(
    database: Database, resource: str, connection_id: int = 1
) -> Iterator[dict[str, Any]]:
    """The live rows of a resource, in the truth's spelling."""
    with database.open_transaction() as db:
        yield from _read_live_rows(db, resource, connection_id)


def _read_live_rows(db: Connection, resource: str, connection_id: int) -> Iterator[dict[str, Any]]:
    names = RESOURCES[resource].column_names
    columns = ", ".join(f'"{name}"' for name in names)
    statement = (
        f"select {columns} from directory.{resource}"
        " where connection_id = %s and deleted_at is null"
    )
    with get_driver_connection(db).cursor() as cursor:
        for row in cursor.execute(statement, (connection_id,)):
            yield dict(zip(names, map(to_truth_value, row), strict=True))


def live_counts(database: Database, connection_id: int = 1) -> dict[str, int]:
    """Number of live rows of every mirrored table."""
    with database.open_transaction() as db:
        return _count_live(db, connection_id)


def _count_live(db: Connection, connection_id: int) -> dict[str, int]:
    counts = ", ".join(
        f"(select count(*) from directory.{resource}"
        " where connection_id = %(id)s and deleted_at is null)"
        for resource in RESOURCES
    )
    with get_driver_connection(db).cursor() as cursor:
        found = cursor.execute(f"select {counts}", {"id": connection_id}).fetchone()
    assert found is not None
    return dict(zip(RESOURCES, found, strict=True))


def compute_mirror_truth(database: Database, connection_id: int = 1) -> dict[str, Truth]:
    """Count and checksum of every mirrored table."""
    truth = {}
    with database.open_transaction() as db:
        for resource, count in _count_live(db, connection_id).items():
            rows = list(_read_live_rows(db, resource, connection_id)) if count else []
            truth[resource] = Truth(len(rows), compute_checksum(rows))
    return truth


def assert_exact(database: Database, tenant: Tenant, connection_id: int = 1) -> None:
    """The mirror equals the tenant, and the events tell the mirror."""
    found, truth = compute_mirror_truth(database, connection_id), tenant.truth()
    wrong = {name: (found[name], truth[name]) for name in found if found[name] != truth[name]}
    wrong = {name: both for name, both in wrong.items() if both[0].count or name not in OFF}
    assert not wrong, f"the mirror, then the tenant: {wrong}"
    assert found.keys() == truth.keys()
    assert verify_connection(database, connection_id).problems == []


def verify_connection(database: Database, connection_id: int = 1) -> Verification:
    with database.open_transaction() as db:
        return verify(db, connection_id)


def read_events(database: Database, connection_id: int = 1, after: int = 0) -> list[dict[str, Any]]:
    """Change events about objects, in order."""
    statement = text(
        "select * from events.change_events where connection_id = :id and seq > :after"
        " and resource <> 'connection' order by seq"
    )
    with database.open_transaction() as db:
        rows = db.execute(statement, {"id": connection_id, "after": after}).mappings()
        return [dict(row) for row in rows]


def read_last_seq(database: Database, connection_id: int = 1) -> int:
    with database.open_transaction() as db:
        found = db.execute(
            text("select event_seq from sync.leases where connection_id = :id"),
            {"id": connection_id},
        )
        return int(found.scalar() or 0)


def read_row_versions(database: Database) -> dict[str, str]:
    """The physical versions of all rows of the mirror and its events: any write changes them."""
    tables = [f"directory.{name}" for name in RESOURCES] + ["events.change_events"]
    by_row = {}
    with database.open_transaction() as db:
        for table in tables:
            versions = f"select tableoid || '.' || ctid || '.' || xmin as v from {table}"
            statement = f"select md5(string_agg(v, ',' order by v)) from ({versions}) as t"
            by_row[table] = str(db.execute(text(statement)).scalar())
    return by_row


def fetch_scalar(database: Database, statement: str, **values: Any) -> Any:
    with database.open_transaction() as db:
        return db.execute(text(statement), values).scalar()


@dataclass
class Mirror:
    """One simulated customer with its mirror."""

    runtime: Runtime
    nango: Nango
    tenant: Tenant
    connection_id: int = 1

    @property
    def database(self) -> Database:
        return self.runtime.database

    def sync(self, *resources: str, full: bool = False) -> SyncReport:
        """A sync by hand, of everything or of some resources."""
        return sync_by_hand(self.runtime, self.connection_id, *resources, full=full)

    def take_call_count(self) -> int:
        """Calls that Nango has counted since the last time."""
        total = self.nango.calls.total
        self.nango.calls.reset()
        return total


MakeMirror = Callable[[Tenant], Mirror]
MakeSynced = Callable[..., Mirror]
"""Takes what a tenant is made from."""
