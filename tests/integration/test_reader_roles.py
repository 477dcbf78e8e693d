"""Roles for readers: who gets what from a migration, a script or a command; who is warned of."""

import json
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner, Result

from migrations.walls.install import explain_missing
from migrations.walls.roles import GUARDED, LIMITS, ROLES, ReaderKind
from sandbox.tenant import Server
from tests.support.databases import DatabaseFactory
from tests.support.walled import Walled, open_walled
from worker.ops.cli import cli
from worker.overview.doctor.server_checks import check_readers
from worker.store.engine import Database
from worker.store.readers import load_readers

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def walled(cluster: DatabaseFactory, nango_server: Server) -> Iterator[Walled]:
    with open_walled(cluster, nango_server) as opened:
        yield opened


@pytest.fixture
def run(walled: Walled) -> Run:
    def call(*arguments: str) -> Result:
        return CliRunner().invoke(cli, ["roles", *arguments], env={"DATABASE_URL": walled.url})

    return call


@pytest.fixture
def login(walled: Walled) -> Iterator[str]:
    """A role that may log in and nothing else."""
    name = f"login_{uuid.uuid4().hex[:8]}"
    walled.cluster.create_role(name)
    yield name
    walled.execute(f"drop owned by {name}")
    walled.execute(f"drop role {name}")
    walled.execute("delete from sync.reader_connections where role_name = %s", [name])


def warn(walled: Walled, name: str) -> list[str]:
    """What doctor says of a role."""
    database = Database(walled.url)
    with database.open_transaction() as db:
        found = list(check_readers(load_readers(db)))
    database.close()
    return [one.sentence for one in found if one.subject == f"role {name}"]


def execute_script(walled: Walled, script: str) -> None:
    """Run a script for psql, without its own commands."""
    walled.execute("\n".join(line for line in script.splitlines() if not line.startswith("\\")))


def list_customer(walled: Walled) -> None:
    """List the customer's logins again, as a downgrade loses the table of them."""
    for kind in ReaderKind:
        if kind.is_listed:
            listed = "insert into sync.reader_connections values (%s, 1)"
            walled.execute(listed, [walled.logins[kind]])


# ---- who could read goes on reading


def test_who_reads_the_views_of_the_release_before_goes_on_reading(
    walled: Walled, login: str
) -> None:
    """By a right on one view, by one of everybody, by a view of others, and as an old reader."""
    old, other = f"{login}_old", f"{login}_other"
    walled.migrate("0054")
    for name in (old, other):
        walled.cluster.create_role(name)
    walled.execute(f"""
        grant usage on schema analytics to public;
        grant select on analytics.sites to public;
        grant select on analytics.users to {login};
        grant select (connection_id, status) on analytics.connections to {login};
        grant usage on schema directory, analytics to {old};
        grant select on all tables in schema directory, analytics to {old};
        create view public.report as select organization, mail from analytics.users;
        grant select on public.report to {other}
    """)
    questions = {
        login: ("analytics.users", "analytics.sites", "(select status from analytics.connections)"),
        old: ("directory.users", "analytics.sites", "analytics.group_members"),
        other: ("public.report", "analytics.sites"),
    }

    def count(name: str) -> list[list[tuple[Any, ...]]]:
        with walled.open(name) as session:
            return [session.run(f"select count(*) from {place} q") for place in questions[name]]

    try:
        before = {name: count(name) for name in questions}
        assert before[login][0] == [(120,)]
        walled.migrate()
        assert {name: count(name) for name in questions} == before
        with walled.open(other) as session, pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.run("select * from directory.users")
    finally:
        walled.migrate()
        list_customer(walled)
        walled.execute("drop view public.report")
        walled.execute("revoke all on analytics.sites from public")
        for name in (old, other):
            walled.execute(f"drop owned by {name}")
            walled.execute(f"drop role {name}")


def test_a_downgrade_takes_the_walls_down_and_every_right_of_guarded_roles(walled: Walled) -> None:
    rights = "select count(*) from information_schema.column_privileges where grantee = any (%s)"
    walls = "select count(*) from pg_policy"
    for revision in ("0055", "0054"):
        walled.migrate(revision)
        assert walled.execute(rights, [list(GUARDED)]) == [(0,)], revision
        assert walled.execute(walls) == [(0,)]
    walled.migrate()
    list_customer(walled)
    with walled.open(ReaderKind.CUSTOMER) as session:
        assert session.see("analytics.users") == {1}


# ---- what a migration makes


def test_a_table_and_a_view_that_are_added_get_walls_and_rights(walled: Walled) -> None:
    walled.execute("""
        create table directory.devices (connection_id bigint, id int, secret text);
        insert into directory.devices values (1, 1, 'x'), (2, 2, 'y');
        create view analytics.devices with (security_invoker = true) as
            select connection_id, id from directory.devices
    """)
    try:
        assert walled.migrate() == []
        with walled.open(ReaderKind.CUSTOMER) as session:
            assert session.run("select * from analytics.devices") == [(1, 1)]
        with walled.open(ReaderKind.READER) as session:
            assert len(session.run("select * from analytics.devices")) == 2
        kept = "select has_column_privilege(%s, 'directory.devices', 'secret', 'select')"
        assert walled.execute(kept, [walled.logins[ReaderKind.READER]]) == [(False,)]
    finally:
        walled.execute("drop view analytics.devices; drop table directory.devices")


def test_a_policy_that_is_gone_or_another_is_made_again(walled: Walled) -> None:
    walled.execute("""
        drop policy tenant_mirror_customer on directory.users;
        alter table directory.groups disable row level security;
        comment on policy tenant_mirror_application on directory.sites is 'another'
    """)
    walled.migrate()
    for kind in (ReaderKind.CUSTOMER, ReaderKind.APPLICATION):
        with walled.open(kind) as session:
            session.run("set tenant_mirror.connection_id = '1'")
            for view in ("users", "groups", "sites"):
                assert session.see(f"analytics.{view}") == {1}


def test_nothing_is_done_twice(walled: Walled) -> None:
    """A migration of a database that is up to date takes no lock that readers would wait for."""
    version = "select xmin from pg_class where oid = 'directory.users'::regclass"
    policies = "select array_agg(oid order by oid) from pg_policy"
    before = walled.execute(version), walled.execute(policies)
    walled.migrate()
    assert (walled.execute(version), walled.execute(policies)) == before


@contextmanager
def without_roles(walled: Walled) -> Iterator[None]:
    """A server on which nobody has made the roles yet."""
    for role in ROLES:
        walled.execute(f"alter role {role} rename to kept_{role}")
    try:
        yield
    finally:
        for role in ROLES:
            walled.execute(f"drop role if exists {role}")
            walled.execute(f"alter role kept_{role} rename to {role}")


def test_where_the_service_may_create_no_roles_a_superuser_runs_the_script(
    walled: Walled, login: str
) -> None:
    cluster = walled.cluster
    owner, customer = f"{login}_owner", f"{login}_customer"
    cluster.create_role(owner)
    owned_url = cluster.create_owned(owner)
    owned = Walled(cluster, owned_url, {})
    name = owned_url.rsplit("/", 1)[1]
    superuser = Walled(cluster, f"{walled.url.rsplit('/', 1)[0]}/{name}", {})
    with without_roles(walled):
        assert owned.migrate() == [explain_missing(list(ReaderKind))]
        assert owned.execute("select count(*) from pg_policy") == [(0,)]
        owned.execute(
            "insert into sync.connections (nango_connection_id, provider_config_key, provider)"
            " values ('a', 'e', 'm'), ('b', 'e', 'm')"
        )
        environment = {"DATABASE_URL": owned_url}
        shown = CliRunner().invoke(cli, ["roles"], env=environment)
        assert "roles --sql" in str(shown.exception)
        options = ["--sql", "--login", customer, "--as", "customer", "--revoke-temp"]
        done = CliRunner().invoke(cli, ["roles", *options], env=environment)
        assert done.exit_code == 0, done.output
        for _ in range(2):
            execute_script(superuser, done.stdout)
        assert owned.migrate() == []
        superuser.execute(f"alter role {customer} password '{customer}'")
        edit = ["roles", "--customer", customer, "2", "--json"]
        listed = CliRunner().invoke(cli, edit, env=environment)
        left = json.loads(listed.stdout)["left_to_superuser"]
        assert f'grant tenant_mirror_customer to "{customer}"' in left
        assert listed.exit_code == 3
        with superuser.open(customer) as session:
            assert session.see("analytics.connections") == {2}
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.run("create temporary table mine (id int)")
        with owned.open(owner) as session:
            session.run("create temporary table mine (id int)")
        cluster.drop(owned_url)
        superuser = Walled(cluster, walled.url, {})
        superuser.execute(f"drop role {customer}")
        superuser.execute(f"drop role {owner}")


def test_with_compose_the_roles_are_there_from_the_start() -> None:
    script = (Path(__file__).parents[2] / "deploy" / "postgres-role.sql").read_text()
    assert [role for role in ROLES if f"\ncreate role {role} nologin;" not in script] == []


# ---- limits


def test_a_login_has_the_limits_of_its_kind(walled: Walled) -> None:
    for kind in ReaderKind:
        with walled.open(kind) as session:
            for setting, value in LIMITS[kind].settings.items():
                shown = session.run(f"select current_setting('{setting}') = '{value}'")
                assert shown in ([(True,)], [(False,)])
                told = session.run(f"show {setting}")
                assert told[0][0] in (value, "1min"), setting
        limit = "select rolconnlimit from pg_roles where rolname = %s"
        assert walled.execute(limit, [walled.logins[kind]]) == [(LIMITS[kind].connections,)]


# ---- the command


def test_a_customer_is_listed_moved_and_removed(walled: Walled, run: Run, login: str) -> None:
    for connection, seen, said in (
        ("1", {1}, "Contoso (id 1)"),
        ("fabrikam", {2}, "Contoso (id 2), and no longer connection 1"),
        ("fabrikam", {2}, "Contoso (id 2)"),
    ):
        done = run("--customer", login, connection)
        assert done.exit_code == 0, done.output
        assert done.stdout == f"{login} sees {said}\n"
        with walled.open(login) as session:
            assert session.see("analytics.users") == seen
    (shown,) = [one for one in json.loads(run("--json").stdout) if one["role"] == login]
    assert (shown["reads_as"], shown["connection_id"], shown["problems"]) == (["customer"], 2, [])
    table = [re.split(r" {2,}", line.strip()) for line in run().stdout.splitlines()]
    assert [login, "customer", "connection 2"] in table
    assert {"all customers", "the connection that the session names"} <= {row[2] for row in table}
    for verb in ("no longer sees", "did not see"):
        removed = run("--customer", login, "2", "--remove")
        assert (removed.exit_code, removed.stdout) == (0, f"{login} {verb} Contoso (id 2)\n")
    with walled.open(login) as session:
        assert session.see("analytics.users") == set()


def test_a_customers_login_is_let_into_a_database_that_is_closed_to_others(
    walled: Walled, run: Run, login: str
) -> None:
    """As ``deploy/postgres-role.sql`` makes it. A service that may not grant it says so."""
    database = walled.url.rsplit("/", 1)[1].split("?")[0]
    walled.execute(f"revoke connect on database {database} from public")
    other, customer = f"{login}_service", f"{login}_other"
    try:
        assert run("--customer", login, "1").exit_code == 0
        with walled.open(login) as session:
            assert session.see("analytics.users") == {1}
        for name in (other, customer):
            walled.cluster.create_role(name)
        walled.execute(f"grant connect on database {database} to {other}")
        schemas = "sync, analytics, events, directory"
        walled.execute(f"grant usage on schema {schemas} to {other}")
        walled.execute(f"grant all on all tables in schema {schemas} to {other}")
        url = walled.cluster.build_login_url(walled.url, other)
        told = CliRunner().invoke(
            cli, ["roles", "--customer", customer, "1", "--json"], env={"DATABASE_URL": url}
        )
        left = json.loads(told.stdout)["left_to_superuser"]
        assert f'grant connect on database {database} to "{customer}"' in left
    finally:
        walled.execute(f"grant connect on database {database} to public")
        walled.execute("delete from sync.reader_connections where role_name = %s", [customer])
        for name in (other, customer):
            walled.execute(f"drop owned by {name}")
            walled.execute(f"drop role {name}")


def test_a_customers_login_may_see_pseudonyms_only(walled: Walled, run: Run, login: str) -> None:
    done = run("--customer", login, "contoso", "--without-names")
    assert done.exit_code == 0, done.output
    assert "without names" in done.stdout
    with walled.open(login) as session:
        assert session.see("analytics_pseudonymous.users") == {1}
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.run("select * from analytics.users")
    assert "--without-names" in str(run("--customer", login, "fabrikam").exception)
    assert run("--customer", login, "fabrikam", "--without-names").exit_code == 0
    with walled.open(login) as session:
        assert session.see("analytics_pseudonymous.group_members") == {2}
        assert session.see("analytics_pseudonymous.users") == {2}
    (shown,) = [one for one in json.loads(run("--json").stdout) if one["role"] == login]
    assert (shown["reads_as"], shown["problems"]) == (["pseudonymous_customer"], [])
    walled.execute(f"grant tenant_mirror_customer to {login}")
    assert ["reads names" in one for one in warn(walled, login)] == [True]
    again = run("--customer", login, "contoso", "--without-names")
    assert "which reads names" in str(again.exception)


def test_a_role_that_is_missing_holds_up_no_other(walled: Walled) -> None:
    """As after an upgrade to the release that has it, by a service that may create no roles."""
    missing = ReaderKind.PSEUDONYMOUS_CUSTOMER
    owner = f"owner_{uuid.uuid4().hex[:8]}"
    walled.cluster.create_role(owner)
    url = walled.cluster.create_owned(owner)
    owned = Walled(walled.cluster, url, {})
    walled.execute(f"alter role {missing.role} rename to kept")
    try:
        assert owned.migrate() == [explain_missing([missing])]
        policies = "select count(*) from pg_policy where polname = %s"
        assert owned.execute(policies, [missing.role]) == [(0,)]
        may = "select has_table_privilege(%s, 'analytics.users', 'select')"
        assert owned.execute(may, [ReaderKind.CUSTOMER.role]) == [(True,)]
    finally:
        walled.execute(f"alter role kept rename to {missing.role}")
    assert owned.migrate() == []
    assert owned.execute(policies, [missing.role]) > [(15,)]
    walled.cluster.drop(url)
    walled.execute(f"drop role {owner}")


def test_who_could_step_around_the_walls_is_refused(walled: Walled, run: Run, login: str) -> None:
    (superuser,) = walled.execute("select current_user::text")[0]
    assert "superuser" in str(run("--customer", superuser, "1").exception)
    assert "no role" in str(run("--customer", "nobody_here", "1").exception)
    walled.execute(f"grant tenant_mirror_reader to {login}")
    assert "could switch" in str(run("--customer", login, "1").exception)
    listed = "select count(*) from sync.reader_connections where role_name = any (%s)"
    assert walled.execute(listed, [[superuser, "nobody_here", login]]) == [(0,)]


def test_names_are_quoted_in_the_script(walled: Walled, run: Run) -> None:
    name = f'An"a $role$ {uuid.uuid4().hex[:4]}'
    execute_script(walled, run("--sql", "--login", name, "--as", "reader").stdout)
    quoted = name.replace('"', '""')
    try:
        may = "select pg_has_role(%s, 'tenant_mirror_reader', 'usage')"
        assert walled.execute(may, [name]) == [(True,)]
    finally:
        walled.execute(f'drop owned by "{quoted}"')
        walled.execute(f'drop role "{quoted}"')


@pytest.mark.parametrize(
    "options",
    [
        ("--login", "ann"),
        ("--sql", "--login", "ann"),
        ("--revoke-temp",),
        ("--remove",),
        ("--without-names",),
        ("--customer", "ann", "1", "--remove", "--without-names"),
        ("--sql", "--customer", "ann", "1"),
    ],
)
def test_options_that_do_not_fit_are_refused(run: Run, options: tuple[str, ...]) -> None:
    assert run(*options).exit_code == 2


# ---- warnings


def test_doctor_warns_of_readers_whom_walls_do_not_hold(walled: Walled, login: str) -> None:
    walled.execute(f"grant tenant_mirror_customer to {login}")
    assert warn(walled, login) == []
    for made, undone, told in (
        ("alter role {} superuser", "alter role {} nosuperuser", "superuser or has BYPASSRLS"),
        ("alter role {} bypassrls", "alter role {} nobypassrls", "superuser or has BYPASSRLS"),
        ("grant tenant_mirror_reader to {}", "revoke tenant_mirror_reader from {}", "may switch"),
        ("grant pg_read_all_data to {}", "revoke pg_read_all_data from {}", "pg_read_all_data"),
    ):
        walled.execute(made.format(login))
        (sentence,) = warn(walled, login)
        assert told in sentence
        walled.execute(undone.format(login))
    walled.execute(f"revoke tenant_mirror_customer from {login}")
    walled.execute("insert into sync.reader_connections values (%s, 1)", [login])
    assert ["no member" in one for one in warn(walled, login)] == [True]
    walled.execute("insert into sync.reader_connections values ('nobody_here', 1)")
    assert ["no such role" in one for one in warn(walled, "nobody_here")] == [True]
    walled.execute("delete from sync.reader_connections where role_name = 'nobody_here'")


def test_doctor_warns_of_a_reader_that_owns_the_tables(walled: Walled, login: str) -> None:
    (owner,) = walled.execute(
        "select relowner::regrole::text from pg_class where oid = 'directory.users'::regclass"
    )[0]
    walled.execute(f"grant {owner} to {login}; grant tenant_mirror_reader to {login}")
    assert ["owner" in one for one in warn(walled, login)] == [True]
    walled.execute(f"revoke {owner} from {login}")
    assert warn(walled, login) == []
