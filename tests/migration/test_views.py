"""The views for people follow from their declarations, whatever a database had before."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from migrations.views import VIEWS
from migrations.views.changes import ACCESS_CHANGES
from migrations.views.install import (
    FIRST_REVISION,
    are_views_current,
    install_views,
    list_missing_views,
)
from migrations.views.view import Column
from tests.support.databases import DatabaseFactory
from tests.support.mirror import fetch_scalar
from worker.core.errors import ConfigurationError
from worker.ops.schema.migrate import migrate
from worker.store.engine import Database

VERSIONS = Path(__file__).parents[2] / "migrations" / "versions"
SITES = next(one for one in VIEWS if one.name == "sites")
EXISTING = """
    select array_agg(relname::text order by relname) from pg_class
     where relnamespace = 'analytics'::regnamespace and relkind = 'v'
"""
COLUMNS = """
    select array_agg(attname::text order by attnum) from pg_attribute
     where attrelid = to_regclass(:view) and attnum > 0
"""
MAY_READ = "select has_table_privilege('analyst_of_views', 'analytics.sites', 'select')"


@pytest.fixture
def database(cluster: DatabaseFactory) -> Iterator[Database]:
    opened = Database(cluster.create_migrated())
    yield opened
    url = opened.url.render_as_string(hide_password=False)
    opened.close()
    cluster.drop(url)


@pytest.fixture
def reader(database: Database) -> Iterator[None]:
    """A role that may read one view."""
    execute(database, "create role analyst_of_views")
    execute(database, "grant select on analytics.sites to analyst_of_views with grant option")
    yield
    execute(database, "drop owned by analyst_of_views")
    execute(database, "drop role analyst_of_views")


def execute(database: Database, statement: str) -> None:
    with database.open_transaction() as db:
        db.execute(text(statement))


def test_every_view_is_as_declared_on_the_oldest_postgres_too(
    cluster: DatabaseFactory, cluster_15: DatabaseFactory
) -> None:
    for one in (cluster, cluster_15):
        database = Database(one.create_migrated())
        assert fetch_scalar(database, EXISTING) == sorted(view.name for view in VIEWS)
        for view in VIEWS:
            shown = fetch_scalar(database, COLUMNS, view=f"analytics.{view.name}")
            assert shown == [column.name for column in view.columns]
        database.close()


def test_views_are_made_once(database: Database) -> None:
    with database.open_transaction() as db:
        assert not install_views(db)
        db.execute(text("comment on schema analytics is null"))
        assert install_views(db)
        assert not install_views(db)


def test_views_and_functions_that_somebody_dropped_are_made_again(database: Database) -> None:
    with database.open_transaction() as db:
        assert list_missing_views(db) == []
        db.execute(text("drop view analytics.license_plans cascade"))
        db.execute(text("drop function analytics.members_of(bigint, uuid)"))
        assert list_missing_views(db) == [
            "analytics.license_plans",
            "analytics_pseudonymous.license_plans",
            "analytics.members_of",
        ]
        assert are_views_current(db)
    for notes in (["the views for analysts were made again, as this release has them"], []):
        told: list[str] = []
        migrate(database, on_note=told.append)
        assert told == notes
    with database.open_transaction() as db:
        assert list_missing_views(db) == []
        for kind, place in (("reader", "analytics"), ("pseudonymous", "analytics_pseudonymous")):
            asked = f"'tenant_mirror_{kind}', '{place}.license_plans', 'select'"
            assert db.execute(text(f"select has_table_privilege({asked})")).scalar_one()


@pytest.mark.usefixtures("reader")
def test_a_view_that_loses_a_column_keeps_its_readers(database: Database) -> None:
    execute(database, "create or replace view analytics.sites as select * from analytics.sites")
    execute(database, "drop view analytics.sites cascade")
    execute(database, "create view analytics.sites as select 1 as another")
    execute(database, "grant select on analytics.sites to analyst_of_views with grant option")
    execute(database, "comment on schema analytics is null")
    migrate(database)
    shown = fetch_scalar(database, COLUMNS, view="analytics.sites")
    assert shown == [column.name for column in SITES.columns]
    assert fetch_scalar(database, MAY_READ)


def test_a_view_that_others_use_is_left_as_it_is_with_a_reason(database: Database) -> None:
    execute(database, "drop view analytics.sites cascade")
    execute(database, "create view analytics.sites as select 1 as another")
    execute(database, "create view public.report as select another from analytics.sites")
    execute(database, "comment on schema analytics is null")
    used = r"view public\.report depends on view analytics\.sites"
    with pytest.raises(ConfigurationError, match=used):
        migrate(database)
    assert fetch_scalar(database, "select another from public.report") == 1
    execute(database, "drop view public.report")
    migrate(database)
    assert "web_url" in fetch_scalar(database, COLUMNS, view="analytics.sites")


def test_a_view_that_others_use_gains_a_column(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(database, "create view public.report as select web_url from analytics.sites")
    more = (*SITES.columns, Column("more", "1", "one more"))
    object.__setattr__(SITES, "columns", more)
    try:
        migrate(database)
        assert fetch_scalar(database, COLUMNS, view="analytics.sites")[-1] == "more"
    finally:
        object.__setattr__(SITES, "columns", more[:-1])


CALLED = "create view public.report as select seq from analytics.access_changes(1, now(), now())"


def test_a_function_that_others_use_gets_another_body(database: Database) -> None:
    execute(database, CALLED)
    body = ACCESS_CHANGES.body
    object.__setattr__(ACCESS_CHANGES, "body", f"{body} limit 77")
    try:
        migrate(database)
        shown = "select pg_get_functiondef(oid) from pg_proc where proname = 'access_changes'"
        assert "LIMIT 77" in fetch_scalar(database, shown)
    finally:
        object.__setattr__(ACCESS_CHANGES, "body", body)


def test_a_function_whose_columns_change_is_left_where_others_use_it(database: Database) -> None:
    signature = "analytics.access_changes(bigint, timestamptz, timestamptz)"
    execute(database, f"drop function {signature}")
    execute(
        database,
        "create function analytics.access_changes(connection bigint, start_at timestamptz,"
        " end_at timestamptz) returns table (seq bigint) language sql as 'select 1::bigint'",
    )
    execute(database, CALLED)
    execute(database, "comment on schema analytics is null")
    with pytest.raises(ConfigurationError, match=r"view public\.report depends on function"):
        migrate(database)
    execute(database, "drop view public.report")
    migrate(database)
    execute(database, "select sentence from analytics.access_changes(1, now(), now())")
    assert fetch_scalar(database, f"select obj_description('{signature}'::regprocedure)")


@pytest.mark.usefixtures("reader")
def test_a_downgrade_brings_the_views_of_the_release_before(database: Database) -> None:
    migrate(database, "0054")
    assert fetch_scalar(database, "select to_regproc('analytics.access_changes')") is None
    before = fetch_scalar(database, COLUMNS, view="analytics.users")
    assert before is not None
    assert "given_name" not in before
    assert fetch_scalar(database, MAY_READ)
    about = "select obj_description('analytics.users'::regclass)"
    assert fetch_scalar(database, about) == "Users that are not deleted"
    migrate(database)
    assert "given_name" in fetch_scalar(database, COLUMNS, view="analytics.users")
    assert fetch_scalar(database, MAY_READ)


def test_no_later_migration_makes_views_of_its_own() -> None:
    for path in VERSIONS.glob("*.py"):
        if path.name[:4] > FIRST_REVISION:
            found = re.findall(r"\bview\b", path.read_text(encoding="utf-8"))
            assert found == [], f"{path.name}: views are declared in migrations/views"
