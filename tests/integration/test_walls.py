"""Walls between customers, as hostile readers meet them.

What is walked is the catalogue, so that a table, view or function that is added cannot be
forgotten.
"""

from collections.abc import Iterator

import psycopg
import pytest

from migrations.walls.needs import load_needs
from migrations.walls.policies import WalledTable, list_policies
from migrations.walls.roles import ReaderKind
from models.base import ANALYTICS_PSEUDONYMOUS, SCHEMAS
from tests.support.walled import CONTOSO, FABRIKAM, Session, Walled

READER, APPLICATION, CUSTOMER, PSEUDONYMOUS, PSEUDONYMOUS_CUSTOMER = ReaderKind
SECRETS = {
    *("sync.sink_secrets", "sync.api_tokens", "sync.service_state", "sync.page_sessions"),
    *(
        "sync.sign_in_links",
        "sync.pseudonym_key",
        "sync.audit",
        "events.sinks",
        "events.positions",
    ),
}
SHARED = {
    *("sync.resources", "analytics.product_names", "analytics.privileged_roles"),
    *("analytics.privileged_actions", "analytics.privileged_permissions"),
}
"""What readers reach without a customer in it: the same for all."""

WALLED_COLUMNS = """
    select n.nspname || '.' || c.relname
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
      join pg_attribute a on a.attrelid = c.oid and a.attname = 'connection_id'
     where n.nspname = 'analytics' and c.relkind in ('r', 'v', 'm', 'p') order by 1
"""
FUNCTIONS = """
    select n.nspname || '.' || p.proname
      from pg_proc p join pg_namespace n on n.oid = p.pronamespace
     where n.nspname = any (%s) and (p.prosecdef or p.proleakproof)
"""
FORBIDDEN = (
    "set role tenant_mirror_reader",
    "set role tenant_mirror",
    "set session authorization tenant_mirror_reader",
    "alter table directory.users disable row level security",
    "drop policy tenant_mirror_customer on directory.users",
    "create view analytics.mine as select 1",
    "create table analytics.mine (id int)",
    "insert into sync.reader_connections (role_name, connection_id) values (current_user, 2)",
    "update sync.reader_connections set connection_id = 2",
    "select * from directory.users",
    "select id from sync.connections",
    "select * from sync.reader_connections",
    "table sync.sink_secrets",
    "copy directory.users to stdout",
    "copy (select 1) to program 'true'",
    "copy (select 1) to '/tmp/mine'",
    "select pg_read_file('/etc/passwd')",
    "select * from pg_statistic",
    "select * from pg_authid",
    "select table_to_xml('directory.users', true, false, '')",
    "create extension dblink",
)
REFUSED = (psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedTable)
FAILING = (
    "select user_principal_name::int from analytics.users",
    "select * from analytics.users where user_principal_name::int > 0",
    "select * from analytics.users where connection_id = 2 or mail::int = 1",
    "select * from analytics.users order by mail::int",
    "select 1 / (connection_id - 2) from analytics.users",
    "select 1 / (connection_id - 2) from analytics.freshness",
    (
        "select m.* from analytics.group_members m join analytics.users u on u.id = m.member_id"
        " and u.user_principal_name::int = 1"
    ),
)
SET = "set tenant_mirror.connection_id = '{}'"


@pytest.fixture
def customer(walled: Walled) -> Iterator[Session]:
    """Contoso's login."""
    with walled.open(CUSTOMER) as session:
        yield session


@pytest.fixture
def application(walled: Walled) -> Iterator[Session]:
    with walled.open(APPLICATION) as session:
        yield session


def list_shown(walled: Walled) -> list[str]:
    """Views and tables for people that have rows of customers."""
    shown = [name for (name,) in walled.execute(WALLED_COLUMNS)]
    assert len(shown) > 10
    return shown


# ---- who sees what


def test_the_operators_analysts_see_every_customer_in_every_view(walled: Walled) -> None:
    everything = {place: {n for (n,) in walled.execute(f"select connection_id from {place}")}
                  for place in list_shown(walled)}  # fmt: skip
    assert {1, 2} in everything.values()
    with walled.open(READER) as session:
        for place, seen in everything.items():
            assert session.see(place) == seen, place
        assert FABRIKAM in session.copy("copy (select mail from analytics.users) to stdout")


def test_a_customer_sees_its_own_rows_whatever_it_sets(walled: Walled, customer: Session) -> None:
    for setting in (None, "", "2", "1,2", "0 or true"):
        if setting is not None:
            customer.run(SET.format(setting))
        for place in list_shown(walled):
            assert customer.see(place) <= {1}, (place, setting)
        assert customer.run("select count(*) from analytics.users") == [(60,)]
    customer.run("reset tenant_mirror.connection_id")
    assert customer.run("select tenant_id is not null from analytics.connections") == [(True,)]


def test_a_customer_without_names_sees_its_own_pseudonyms_whatever_it_sets(walled: Walled) -> None:
    views = walled.list_relations(ANALYTICS_PSEUDONYMOUS)
    with walled.open(PSEUDONYMOUS_CUSTOMER) as session, walled.open(PSEUDONYMOUS) as analyst:
        for setting in ("1", "2", ""):
            session.run(SET.format(setting))
            for view in views:
                assert session.see(view) <= {1}, (view, setting)
        for view in views:
            wanted = f"select count(*) from {view}"
            assert session.run(wanted) == analyst.run(f"{wanted} where connection_id = 1"), view
        ids = f"select id from {ANALYTICS_PSEUDONYMOUS}.users"
        others = {one for (one,) in analyst.run(f"{ids} where connection_id = 2")}
        assert len(others) == 60
        assert not others & {one for (one,) in session.run(ids)}
        told = "\n".join(session.copy(f"copy (select * from {one}) to stdout") for one in views)
        assert FABRIKAM not in told
        session.run("set role tenant_mirror_pseudonymous_customer")
        assert session.see(f"{ANALYTICS_PSEUDONYMOUS}.users") == set()


def test_an_application_sees_the_customer_that_it_names_and_nobody_before(
    walled: Walled, application: Session
) -> None:
    for setting, seen in ((None, set()), ("", set()), ("2", {2}), ("1", {1}), ("99", set())):
        if setting is not None:
            application.run(SET.format(setting))
        for place in list_shown(walled):
            assert application.see(place) <= seen, (place, setting)
        assert application.see("analytics.users") == seen
    application.run(SET.format("1,2"))
    with pytest.raises(psycopg.errors.InvalidTextRepresentation):
        application.see("analytics.users")


def test_a_setting_of_a_transaction_leaves_nothing_behind(application: Session) -> None:
    """After it the setting is there, and empty."""
    with application.connection.transaction():
        application.run("set local tenant_mirror.connection_id = '2'")
        assert application.see("analytics.users") == {2}
    assert application.run("select current_setting('tenant_mirror.connection_id')") == [("",)]
    assert application.see("analytics.users") == set()


def test_a_prepared_statement_follows_the_setting(application: Session) -> None:
    application.run("prepare mine as select distinct connection_id from analytics.group_members")
    for setting, seen in (("1", [(1,)]), ("2", [(2,)]), ("", []), ("1", [(1,)])):
        application.run(SET.format(setting))
        for _ in range(7):  # the sixth and later ones use a generic plan
            assert application.run("execute mine") == seen


@pytest.mark.parametrize("view", ["users", "effective_group_members"])
def test_a_prepared_statement_follows_the_role(walled: Walled, view: str) -> None:
    """A pooler's session may be one role after the other; functions of views are part of it."""
    with psycopg.connect(walled.url, autocommit=True) as connection:
        session = Session(connection)
        session.run(
            f"prepare mine as select distinct connection_id from analytics.{view} order by 1"
        )
        assert session.run("execute mine") == [(1,), (2,)]
        session.run(f"set role {walled.logins[CUSTOMER]}")
        for _ in range(7):
            assert session.run("execute mine") == [(1,)]
        session.run(f"set role {walled.logins[APPLICATION]}")
        assert session.run("execute mine") == []


def test_a_login_that_is_listed_nowhere_sees_nobody(walled: Walled) -> None:
    listed = "sync.reader_connections where role_name = %s"
    walled.execute(f"delete from {listed}", [walled.logins[CUSTOMER]])
    try:
        with walled.open(CUSTOMER) as session:
            session.run(SET.format("1"))
            for place in list_shown(walled):
                assert session.see(place) == set(), place
    finally:
        add = "insert into sync.reader_connections (role_name, connection_id) values (%s, 1)"
        walled.execute(add, [walled.logins[CUSTOMER]])


def test_walls_add_up_for_a_member_of_several_roles(walled: Walled) -> None:
    name = walled.logins[CUSTOMER]
    walled.execute(f"grant tenant_mirror_application, tenant_mirror_reader to {name}")
    try:
        with walled.open(CUSTOMER) as session:
            assert session.see("analytics.users") == set()
            session.run(SET.format("2"))
            assert session.see("analytics.users") == set()
            session.run(SET.format("1"))
            assert session.see("analytics.users") == {1}
    finally:
        walled.execute(f"revoke tenant_mirror_application, tenant_mirror_reader from {name}")


# ---- ways around the walls


@pytest.mark.parametrize("kind", [APPLICATION, CUSTOMER, PSEUDONYMOUS, PSEUDONYMOUS_CUSTOMER])
def test_a_guarded_role_may_do_nothing_but_read_the_views(walled: Walled, kind: ReaderKind) -> None:
    with walled.open(kind) as session:
        session.run(SET.format("1"))
        for statement in FORBIDDEN:
            with pytest.raises(REFUSED):
                session.run(statement)


def test_switching_row_security_off_ends_in_an_error(customer: Session) -> None:
    customer.run("set row_security = off")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        customer.run("select * from analytics.users")


def test_becoming_the_shared_role_shows_nobody(customer: Session) -> None:
    customer.run("set role tenant_mirror_customer")
    assert customer.see("analytics.users") == set()


def test_a_cheap_function_of_ones_own_meets_no_foreign_row(
    walled: Walled, customer: Session
) -> None:
    customer.run(
        "create function pg_temp.peek(t text) returns boolean language plpgsql cost 0.0000001 as"
        " $$ begin raise notice '%', t; return true; end $$"
    )
    for column, place in (
        ("user_principal_name", "users"),
        ("connection_id::text", "users"),
        ("organization", "connections"),
        ("connection_id::text", "freshness"),
    ):
        customer.run(f"select * from analytics.{place} where pg_temp.peek({column})")
    assert len(customer.notices) > 60
    told = "\n".join(customer.notices)
    assert CONTOSO in told
    assert FABRIKAM not in told
    assert "2" not in customer.notices


def test_an_error_tells_nothing_of_a_foreign_row(customer: Session) -> None:
    failed = 0
    for statement in FAILING:
        try:
            customer.run(statement)
        except psycopg.errors.InvalidTextRepresentation as error:
            failed += 1
            told = str(error)
            assert (CONTOSO in told, FABRIKAM in told) == (True, False), statement
    assert failed >= 3


def test_statistics_tell_no_values(walled: Walled) -> None:
    for kind in ReaderKind:
        with walled.open(kind) as session:
            for view in ("pg_stats", "pg_stats_ext", "pg_stats_ext_exprs"):
                found = session.run(
                    f"select schemaname || '.' || tablename from {view} where schemaname = any"
                    f" (array{list(SCHEMAS)})"
                )
                assert {name for (name,) in found} <= SHARED, (kind, view)


def test_copy_sends_own_rows_only(customer: Session) -> None:
    sent = customer.copy("copy (select * from analytics.users) to stdout")
    assert sent.count("\n") == 60
    assert FABRIKAM not in sent


def test_what_explain_counts_are_own_rows(customer: Session) -> None:
    plan = customer.run(
        "explain (analyze, timing off, summary off) select * from analytics.users"
        " where mail like '%fabrikam%'"
    )
    assert "Rows Removed by Filter: 60" in str(plan)


# ---- all that the catalogue has


@pytest.mark.parametrize("kind", list(ReaderKind))
def test_no_relation_but_those_of_the_views_can_be_read(walled: Walled, kind: ReaderKind) -> None:
    places = walled.list_relations(*SCHEMAS, ANALYTICS_PSEUDONYMOUS, "public")
    assert len(places) > 50
    with walled.open(kind) as session:
        for place in places:
            if place.startswith(f"{kind.schema}."):
                session.run(f"select * from {place}")
                continue
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.run(f"select * from {place}")


def test_no_reader_may_write_anywhere(walled: Walled) -> None:
    rights = "insert, update, delete, truncate, references, trigger"
    for kind in ReaderKind:
        found = walled.execute(
            "select c.oid::regclass::text from pg_class c where c.relkind in ('r', 'p', 'v', 'm')"
            " and c.relnamespace <> 'pg_toast'::regnamespace"
            f" and has_table_privilege(%s, c.oid, '{rights}')"
            " and c.oid <> 'pg_settings'::regclass",
            [walled.logins[kind]],
        )
        assert found == [], kind
        for schema in (*SCHEMAS, ANALYTICS_PSEUDONYMOUS, "public"):
            may = "select has_schema_privilege(%s, %s, 'create')"
            assert walled.execute(may, [walled.logins[kind], schema]) == [(False,)]


def test_only_columns_that_the_views_use_are_granted_and_no_secret(walled: Walled) -> None:
    with psycopg.connect(walled.url) as connection:
        needs = load_needs(connection)
    granted = """
        select n.nspname || '.' || c.relname, a.attname::text
          from pg_class c join pg_namespace n on n.oid = c.relnamespace
          join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
         where n.nspname in ('directory', 'sync', 'events', 'history')
           and c.relkind in ('r', 'p', 'v', 'm')
           and has_column_privilege(%s, c.oid, a.attnum, 'select')
    """
    mapping = {("sync.reader_connections", one) for one in ("role_name", "connection_id")}
    wanted = {
        (place, column)
        for place, columns in needs.items()
        for column in columns
        if not place.startswith("analytics.")
    }
    for kind in ReaderKind:
        found = set(walled.execute(granted, [walled.logins[kind]]))
        assert found == wanted | (mapping if kind.is_listed else set()), kind
    assert not {place for place, _ in wanted} & SECRETS
    assert ("sync.erasures", "digest") not in wanted, "it would tell whether a person was erased"


def test_whatever_a_view_reads_is_walled_or_has_no_customers(walled: Walled) -> None:
    with psycopg.connect(walled.url) as connection:
        needs = load_needs(connection)
    open_places = """
        select n.nspname || '.' || c.relname from pg_class c
          join pg_namespace n on n.oid = c.relnamespace
         where n.nspname in ('directory', 'history', 'events', 'analytics', 'sync')
           and c.relkind in ('r', 'p') and not c.relispartition
           and not (c.relrowsecurity and not c.relforcerowsecurity and %s =
                    (select count(*) from pg_policy p where p.polrelid = c.oid
                        and starts_with(p.polname::text, 'tenant_mirror_')))
    """
    policies = len(list_policies(WalledTable("directory.users")))
    unwalled = {place for (place,) in walled.execute(open_places, [policies])}
    assert unwalled & set(needs) <= SHARED
    others = {one for one in unwalled if one.split(".")[0] in ("directory", "history", "events")}
    assert others == {"events.epochs", "events.sinks"}, "they have no rows of customers"


def test_no_view_or_function_lends_its_owners_rights(walled: Walled) -> None:
    lending = """
        select c.oid::regclass::text from pg_class c
         where c.relnamespace::regnamespace::text = any (%s) and (c.relkind = 'm' or c.relkind = 'v'
               and not coalesce('security_invoker=true' = any (c.reloptions), false))
    """
    assert walled.execute(lending, [list(SCHEMAS)]) == []
    assert walled.execute(FUNCTIONS, [[*SCHEMAS, ANALYTICS_PSEUDONYMOUS, "public"]]) == []


def test_functions_look_no_name_up_when_they_are_called(walled: Walled) -> None:
    """Readers have no USAGE on the schemas of what these read, and a search path of their own."""
    late = (
        "select oid::regprocedure::text from pg_proc"
        " where pronamespace = 'analytics'::regnamespace and prosqlbody is null"
    )
    assert walled.execute(late) == []


def test_the_service_is_subject_to_no_policy(walled: Walled) -> None:
    """The owner's plans are those of a table without walls."""
    active = "select count(*) from pg_class where row_security_active(oid)"
    assert walled.execute(active) == [(0,)]
    plan = str(walled.execute("explain select * from directory.users where connection_id = 1"))
    assert "InitPlan" not in plan
    assert "current_setting" not in plan
