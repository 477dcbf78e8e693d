"""Postgres knows how large a table is as soon as a first load has filled it."""

from collections.abc import Iterator, Mapping

import pytest
from sqlalchemy import text

from models.mirror import get_table
from models.resources import RESOURCES
from sandbox.tenant import Tenant
from tests.support.databases import DatabaseFactory
from tests.support.mirror import MakeMirror, Mirror
from worker.store.engine import Database, get_driver_connection
from worker.store.statistics import analyze_grown_tables

USERS = [get_table(RESOURCES["users"])]
_KNOWN = """
    select c.relname, c.reltuples::int from pg_class c
     where c.relnamespace = 'directory'::regnamespace and c.relkind = 'r'
       and pg_relation_size(c.oid) > 0
"""
_ADD = """
    insert into directory.users (connection_id, id, first_seen_at, changed_at)
    select 1, gen_random_uuid(), now(), now() from generate_series(1, {})
"""


def read_known_rows(database: Database) -> Mapping[str, int]:
    """The rows of each table of the mirror that has some, as Postgres knows them; -1 is unknown."""
    with database.open_transaction() as db:
        return {row.relname: row.reltuples for row in db.execute(text(_KNOWN))}


def add_users(database: Database, number: int) -> None:
    with database.open_transaction() as db:
        db.execute(text(_ADD.format(number)))


def test_a_first_load_leaves_statistics_of_every_table_that_it_fills(
    make_mirror: MakeMirror,
) -> None:
    mirror = make_mirror(Tenant(seed=3, users=60, groups=8, sites=6))
    mirror.sync()
    known = read_known_rows(mirror.database)
    assert {"users", "groups", "group_members", "group_closure", "sites"} <= set(known)
    for table, rows in known.items():
        with mirror.database.open_transaction() as db:
            found = db.execute(text(f"select count(*) from directory.{table}")).scalar_one()
        assert rows == found, table


def test_only_a_table_that_grew_by_a_tenth_is_analyzed(mirror: Mirror) -> None:
    known = []
    for number in (6000, 300, 600):
        add_users(mirror.database, number)
        analyze_grown_tables(mirror.database, USERS)
        known.append(read_known_rows(mirror.database)["users"])
    assert known == [6060, 6060, 6960]


def test_a_table_that_another_session_vacuums_is_left_out_and_not_waited_for(
    mirror: Mirror,
) -> None:
    analyze_grown_tables(mirror.database, USERS)
    add_users(mirror.database, 6000)
    other = Database(mirror.database.url.render_as_string(hide_password=False))
    with other.open_transaction() as db:
        db.execute(text("lock table directory.users in share update exclusive mode"))
        analyze_grown_tables(mirror.database, USERS)
    other.close()
    assert read_known_rows(mirror.database)["users"] == 60


@pytest.fixture
def foreign(mirror: Mirror, cluster: DatabaseFactory) -> Iterator[Database]:
    """The database of a login that owns none of its tables."""
    login = "owner_of_nothing"
    cluster.create_role(login)
    url = mirror.database.url.render_as_string(hide_password=False)
    with mirror.database.open_transaction() as db:
        db.execute(text(f"grant usage on schema directory to {login}"))
    opened = Database(cluster.build_login_url(url, login))
    yield opened
    opened.close()
    with mirror.database.open_transaction() as db:
        db.execute(text(f"drop owned by {login}"))
        db.execute(text(f"drop role {login}"))


def test_a_table_of_another_owner_is_left_to_autovacuum_without_a_warning(
    mirror: Mirror, foreign: Database
) -> None:
    analyze_grown_tables(mirror.database, USERS)
    add_users(mirror.database, 6000)
    warnings: list[str | None] = []
    with foreign.open_transaction() as db:
        driver = get_driver_connection(db)
        driver.add_notice_handler(lambda notice: warnings.append(notice.message_primary))
    analyze_grown_tables(foreign, USERS)
    assert warnings == []
    assert read_known_rows(mirror.database)["users"] == 60
