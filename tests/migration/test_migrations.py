"""Migrations: up, down, no drift, one head, on the oldest and the newest Postgres."""

import json
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, inspect, text

from migrations.scope import is_managed
from models.resources import RESOURCES
from models.run import RunState
from models.tables import metadata
from sandbox.tenant import Nango, Server, Tenant
from tests.support.databases import DatabaseFactory
from tests.support.mirror import (
    assert_exact,
    fetch_scalar,
    read_events,
    read_last_seq,
    verify_connection,
)
from tests.support.synced import sync_by_hand
from worker.core.errors import ConfigurationError
from worker.core.settings import load_settings
from worker.delivery.store.rewind import rewind_history, rewind_if_restored
from worker.events.partitions import ensure_partitions
from worker.ops.schema.migrate import migrate
from worker.rows.hash import HASH_VERSION
from worker.store.engine import Database
from worker.store.schema_version import check_schema, get_newest_revision
from worker.store.state.unresolved import summarize_unresolved
from worker.sync.connections.discover import discover
from worker.sync.plan import SyncRequest
from worker.sync.run import run_to_end
from worker.wiring import close_runtime, open_runtime


@pytest.fixture(params=["18", "15"])
def empty(request: pytest.FixtureRequest) -> Database:
    name = "cluster" if request.param == "18" else "cluster_15"
    cluster: DatabaseFactory = request.getfixturevalue(name)
    return Database(cluster.create_empty())


def test_migrating_up_and_down_and_up_again_leaves_the_same_schema(empty: Database) -> None:
    assert migrate(empty) == (None, get_newest_revision())
    assert migrate(empty) == (get_newest_revision(), get_newest_revision())
    assert migrate(empty, "base") == (get_newest_revision(), None)
    engine = create_engine(empty.url)
    assert inspect(engine).get_table_names("directory") == []
    assert migrate(empty) == (None, get_newest_revision())
    engine.dispose()
    empty.close()


def test_the_tables_are_what_the_models_say(empty: Database) -> None:
    migrate(empty)
    with empty.open_transaction() as db:
        context = MigrationContext.configure(
            db,
            opts={
                "include_schemas": True,
                "include_name": is_managed,
                "version_table": "schema_version",
                "version_table_schema": "sync",
                "target_metadata": metadata,
            },
        )
        assert compare_metadata(context, metadata) == []
    empty.close()


def test_columns_are_declared_in_the_order_in_which_migrations_added_them(empty: Database) -> None:
    """So a new column comes last, as the hashes of the rows stored before it need."""
    migrate(empty)
    order = (
        "select array_agg(column_name::text order by ordinal_position)"
        " from information_schema.columns"
        " where table_schema = 'directory' and table_name = :name and column_name = any(:names)"
    )
    for resource in RESOURCES.values():
        names = list(resource.column_names)
        assert fetch_scalar(empty, order, name=resource.name, names=names) == names
    empty.close()


def test_another_schema_than_ours_is_refused(empty: Database) -> None:
    with pytest.raises(ConfigurationError, match="tenant-mirror migrate"):
        check_schema(empty)
    migrate(empty)
    check_schema(empty)
    empty.close()


def test_events_are_partitioned_by_month_from_the_start(empty: Database) -> None:
    migrate(empty)
    names = "select count(*) from pg_inherits where inhparent = 'events.change_events'::regclass"
    assert fetch_scalar(empty, names) == 5, "a default, this month and the next three"
    with empty.open_transaction() as db:
        assert ensure_partitions(db) == []
        db.execute(
            text(
                "insert into events.change_events (connection_id, seq, occurred_at, resource,"
                " object_id, change) values (1, 1, now(), 'users', 'x', 'created'),"
                " (1, 2, '2001-01-01', 'users', 'x', 'deleted')"
            )
        )
    assert fetch_scalar(empty, "select count(*) from events.change_events_default") == 1
    empty.close()


def test_a_tenant_is_mirrored_on_the_oldest_postgres(
    cluster_15: DatabaseFactory, nango: Nango, nango_server: Server
) -> None:
    settings = load_settings(
        database_url=cluster_15.create_migrated(),
        nango_host=nango_server.url,
        nango_secret_key=nango.key,
    )
    runtime = open_runtime(settings)
    tenant = Tenant(seed=8, users=1500, groups=30, sites=9)
    nango.add_connection("old", tenant)
    discover(runtime.database, runtime.nango, settings)
    for step in range(3):
        now = fetch_scalar(runtime.database, "select clock_timestamp()")
        run_to_end(runtime, 1, SyncRequest(now, manual=True, full=step == 2))
        assert_exact(runtime.database, tenant)
        tenant.mutate(40)
    close_runtime(runtime)


def test_there_is_one_head_and_every_migration_is_numbered() -> None:
    folder = Path(__file__).parents[2] / "migrations" / "versions"
    numbers = sorted(path.name.split("_")[0] for path in folder.glob("*.py"))
    assert numbers == [f"{index + 1:04d}" for index in range(len(numbers))]
    assert get_newest_revision() == numbers[-1]


def test_runs_that_connections_left_behind_have_ended_after_the_upgrade(empty: Database) -> None:
    migrate(empty, "0007")
    with empty.open_transaction() as db:
        for number, status in enumerate(("active", "retired"), start=1):
            db.execute(
                text("""
                    insert into sync.connections
                           (nango_connection_id, provider_config_key, provider, status)
                    values (:name, 'entra', 'microsoft', :status);
                """),
                {"name": f"c{number}", "status": status},
            )
        db.execute(
            text("""
                insert into sync.runs (connection_id, trigger)
                select id, 'backfill' from sync.connections
            """)
        )
    migrate(empty)
    states = "select string_agg(state, ' ' order by connection_id) from sync.runs"
    assert fetch_scalar(empty, states) == "running partial"
    assert fetch_scalar(empty, "select error from sync.runs where state = 'partial'") == (
        "the connection is retired"
    )
    empty.close()


def test_the_epoch_outlives_a_downgrade(empty: Database) -> None:
    """A release that knows no epochs takes over for a while; its events fit its own rules."""
    current = "select id::text from events.epochs order by id desc limit 1"
    migrate(empty)
    with empty.open_transaction() as db:
        columns = "nango_connection_id, provider_config_key, provider"
        customer = f"insert into sync.connections ({columns}) values ('a', 'b', 'c')"
        db.execute(text(customer))
        lease = "insert into sync.leases (connection_id) select id from sync.connections"
        db.execute(text(lease))
    assert rewind_if_restored(empty) is None
    rewind_history(empty)
    epoch = fetch_scalar(empty, current)
    migrate(empty, "0009")
    assert fetch_scalar(empty, "select change from events.change_events") == "resynced"
    migrate(empty)
    assert fetch_scalar(empty, current) == epoch
    assert fetch_scalar(empty, "select count(*) from events.epochs") == 2
    assert rewind_if_restored(empty) is None
    empty.close()


def test_unresolved_members_are_parts_of_their_edges_after_the_upgrade(empty: Database) -> None:
    """Those that an earlier release noted are asked for again, and no others."""
    parts = "select string_agg(resource || ' ' || kind || ' ' || key, ', ' order by key)"
    migrate(empty, "0043")
    with empty.open_transaction() as db:
        columns = "nango_connection_id, provider_config_key, provider"
        db.execute(text(f"insert into sync.connections ({columns}) values ('a', 'b', 'c')"))
        noted = """
            insert into sync.unresolved (connection_id, resource, kind, key, reason, retry_at)
            select id, 'groups', kind, key, 'Graph answers 403', now() from sync.connections
             cross join (values ('members', 'a'), ('object', 'b'), ('members', 'c'))
                as v(kind, key)
        """
        db.execute(text(noted))
    old = "groups members a, groups object b, groups members c"
    assert fetch_scalar(empty, f"{parts} from sync.unresolved") == old
    migrate(empty)
    new = "group_members members a, groups object b, group_members members c"
    assert fetch_scalar(empty, f"{parts} from sync.unresolved") == new
    with empty.open_transaction() as db:
        number = db.execute(text("select id from sync.connections")).scalar_one()
        assert number in summarize_unresolved(db)
        assert set(summarize_unresolved(db)[number]) == {"groups"}
    migrate(empty, "0043")
    assert fetch_scalar(empty, f"{parts} from sync.unresolved") == old
    empty.close()


FREE = {
    "users": RESOURCES["users"].column_names[37:],
    "groups": RESOURCES["groups"].column_names[21:],
}
"""The columns that revision 0042 added."""
BEFORE_FREE = "0041"
FREE_PROPERTIES = {
    f"{name}.{one.graph_name}"
    for name, added in FREE.items()
    for one in RESOURCES[name].columns
    if one.name in added
} | {"groups.owners"}


def test_an_upgrade_learns_what_earlier_walks_have_brought(
    cluster: DatabaseFactory, nango: Nango, nango_server: Server
) -> None:
    """And rehashes the rows without an event; a downgrade keeps the numbers of the events."""
    settings = load_settings(
        database_url=cluster.create_migrated(),
        nango_host=nango_server.url,
        nango_secret_key=nango.key,
    )
    runtime = open_runtime(settings)
    database, tenant = runtime.database, Tenant(seed=8, users=30, groups=5, sites=4)
    nango.add_connection("old", tenant)
    tenant.options.unknown_properties = {"users.jobTitle", "groups.visibility", *FREE_PROPERTIES}
    discover(database, runtime.nango, settings)
    sync_by_hand(runtime, 1)
    tenant.options.unknown_properties = {"groups.visibility", *FREE_PROPERTIES}
    sync_by_hand(runtime, 1, full=True)
    columns = (
        "select jsonb_object_agg(resource, jsonb_build_array(walked_columns, asked_columns))"
        " from sync.streams"
    )
    known, told = fetch_scalar(database, columns), read_last_seq(database)
    earlier = ("users", "groups", "sites", "role_definitions", "role_assignments")
    assert known["users"] == [list(RESOURCES["users"].column_names[:37]), None]
    assert "visibility" not in known["groups"][0]
    kinds = (
        "select array_agg(change order by seq) from events.change_events where change ~ '_ch|re'"
    )
    assert "coverage_changed" in fetch_scalar(database, kinds)
    migrate(database, "0039")
    assert "coverage_changed" not in fetch_scalar(database, kinds)
    with database.open_transaction() as db:
        for name in earlier:
            db.execute(
                text(
                    f"update directory.{name} set row_hash = '\\x02' || substr(row_hash, 2),"
                    " source_hash = '\\x02' || substr(row_hash, 2) || '\\x02'"
                    " || substr(source_hash, 18)"
                )
            )
        db.execute(text("update sync.streams set phase = 'sweeping' where resource = 'sites'"))
    migrate(database)
    sites = known["sites"][0]
    learnt = fetch_scalar(database, columns)
    assert {name: learnt[name] for name in earlier} == {
        **{name: known[name] for name in earlier},
        "sites": [sites, sites],
    }
    assert verify_connection(database).problems == []
    assert sync_by_hand(runtime, 1, full=True).state is RunState.SUCCEEDED
    assert read_events(database, after=told) == []
    assert verify_connection(database).problems == []
    version = "select array_agg(distinct substr(row_hash, 1, 1)) from directory.groups"
    assert fetch_scalar(database, version) == [HASH_VERSION]
    close_runtime(runtime)


def test_an_upgrade_brings_new_columns_without_an_event_for_each_object(
    cluster: DatabaseFactory, nango: Nango, nango_server: Server
) -> None:
    """The release before is played with a tenant that does not know them, and without the columns.

    One of them stays unknown; Graph does not say which.
    """
    settings = load_settings(
        database_url=cluster.create_migrated(),
        nango_host=nango_server.url,
        nango_secret_key=nango.key,
    )
    runtime = open_runtime(settings)
    database, tenant = runtime.database, Tenant(seed=9, users=3_000, groups=20)
    nango.add_connection("old", tenant)
    tenant.options.unknown_properties = set(FREE_PROPERTIES)
    discover(database, runtime.nango, settings)
    sync_by_hand(runtime, 1)
    migrate(database, BEFORE_FREE)
    with database.open_transaction() as db:
        db.execute(text("update sync.streams set left_out = null, left_out_at = null"))
        for name, added in FREE.items():
            db.execute(
                text(
                    "update events.change_events set after = after - cast(:added as text[])"
                    " where resource = :name"
                ),
                {"name": name, "added": list(added)},
            )
    migrate(database)
    assert verify_connection(database).problems == []
    told = read_last_seq(database)
    tenant.options.unknown_properties = {"users.employeeOrgData"}
    tenant.options.names_unknown_property = False
    tenant.update_user(tenant.users.id_at(4), jobTitle="Judge", passwordPolicies="None")
    assert sync_by_hand(runtime, 1).state is RunState.SUCCEEDED
    (event,) = read_events(database, after=told)
    assert event["changed"] == ["job_title"], "the old link goes on, with the old properties"
    told = read_last_seq(database)
    assert sync_by_hand(runtime, 1, full=True).state is RunState.SUCCEEDED
    assert read_events(database, after=told) == [], "no object has changed"
    coverage = (
        "select jsonb_object_agg(after ->> 'resource', after -> 'added')"
        " from events.change_events where change = 'coverage_changed'"
    )
    came = [one for one in FREE["users"] if one != "employee_org_data"]
    assert fetch_scalar(database, coverage) == {"users": came, "groups": list(FREE["groups"])}
    left_out = "select left_out from sync.streams where resource = 'users'"
    assert fetch_scalar(database, left_out) == ["employeeOrgData"]
    tenant.options.unknown_properties = set()
    assert sync_by_hand(runtime, 1, full=True).state is RunState.SUCCEEDED
    assert read_events(database, after=told) == []
    assert_exact(database, tenant)
    assert verify_connection(database).problems == []
    migrate(database, BEFORE_FREE)
    migrate(database)
    assert sync_by_hand(runtime, 1, full=True).state is RunState.SUCCEEDED
    assert read_events(database, after=told) == [], "nor after a way back"
    assert_exact(database, tenant)
    close_runtime(runtime)


def test_secrets_of_sinks_survive_the_move_and_the_way_back(empty: Database) -> None:
    kept = {"crm": {"keys": ["whsec_x", "whsec_y"], "query": "a=b"}, "feed": {}}
    there = "select jsonb_object_agg(name, secrets) from events.sinks"
    moved = (
        "select jsonb_object_agg(s.name, x.secrets)"
        " from events.sinks s join sync.sink_secrets x on x.sink_id = s.id"
    )
    migrate(empty, "0015")
    with empty.open_transaction() as connection:
        for name, secrets in kept.items():
            connection.execute(
                text(
                    "insert into events.sinks (name, kind, secrets)"
                    " values (:name, 'webhook', cast(:secrets as jsonb))"
                ),
                {"name": name, "secrets": json.dumps(secrets)},
            )
    for _ in range(2):
        migrate(empty)
        assert fetch_scalar(empty, moved) == kept
        with pytest.raises(
            ConfigurationError
        ):  # the relay of the release before cannot claim: it has no column
            fetch_scalar(empty, there)
        migrate(empty, "0015")
        assert fetch_scalar(empty, there) == kept
    migrate(empty)
    with empty.open_transaction() as db:
        db.execute(text("delete from events.sinks where name = 'crm'"))
    assert fetch_scalar(empty, "select count(*) from sync.sink_secrets") == 1
    empty.close()
