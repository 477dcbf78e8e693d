"""Views without names: who people are cannot be read from them, and they can still be joined."""

import hmac
from collections.abc import Iterator, Mapping
from typing import Final

import psycopg
import pytest
from click.testing import CliRunner

from migrations.views import FUNCTIONS, VIEWS
from migrations.views.pseudonyms import ABOUT_NOBODY
from migrations.walls.roles import ReaderKind
from models.base import ANALYTICS_PSEUDONYMOUS
from tests.support.walled import FABRIKAM, Session, Walled
from worker.ops.cli import cli

PSEUDONYMOUS: Final = ReaderKind.PSEUDONYMOUS
NAMELESS: Final = (PSEUDONYMOUS, ReaderKind.PSEUDONYMOUS_CUSTOMER)
NO_VARIANT: Final[Mapping[str, str]] = {
    "product_names": "Microsoft's names of products, which licenses shows",
    "privileged_roles": "lists of roles, the same for all customers",
    "privileged_actions": "lists of actions of roles, the same for all customers",
    "privileged_permissions": "lists of permissions, the same for all customers",
}
"""What schema analytics has and no reader of pseudonyms: nothing of a customer is in it."""
THROUGH_GROUPS: Final = (
    ("effective_group_members", "member_id"),
    ("effective_role_holders", "holder_id"),
    ("privileged_users", "user_id"),
    ("findings", "object_id"),
)
"""Views that follow groups in groups, each with its column of a person."""
FURTHER_REFERENCES: Final = (
    ("effective_group_members", "member_id", "users"),
    ("effective_group_members", "member_id", "groups"),
    ("effective_role_holders", "holder_id", "users"),
    ("effective_role_holders", "assignment_id", "role_assignments"),
    ("findings", "object_id", "users"),
    ("findings", "object_id", "groups"),
    ("findings", "object_id", "licenses"),
    ("findings", "object_id", "service_principals"),
)
"""Columns that may refer to several views."""
MIN_LENGTH: Final = 6
"""Characters of a value that a text has only if it was copied."""

PERSONAL: Final = """
    select id::text, user_principal_name, display_name, mail, given_name, surname, mail_nickname,
           employee_id, mobile_phone, street_address, on_premises_sam_account_name,
           on_premises_distinguished_name, on_premises_immutable_id,
           on_premises_security_identifier, on_premises_user_principal_name, security_identifier,
           array_to_string(proxy_addresses, ' '), array_to_string(other_mails, ' '),
           array_to_string(business_phones, ' '), job_title, department, office_location
      from directory.users
     union all
    select id::text, display_name, description, mail, mail_nickname, membership_rule,
           {nulls} from directory.groups
     union all
    select id::text, display_name, web_url, description, name, composite_id, {nulls}
      from directory.sites
"""

ROLES_OF_CANARY: Final = """
    insert into directory.role_definitions (connection_id, id, display_name, template_id,
           is_built_in, first_seen_at, changed_at, row_hash)
    select n, r.id::uuid, r.name, r.id, r.is_built_in, now(), now(), 'canary'
      from generate_series(1, 2) n
     cross join (values ('62e90394-69f5-4237-9190-012177145e10', 'Global Administrator', true),
                        ('ca9a7ca9-0000-4000-8000-000000000001', 'Canary feeder', false))
                as r (id, name, is_built_in);
    insert into directory.administrative_units (connection_id, id, display_name, first_seen_at,
           changed_at, row_hash)
    select n, 'ca9a7ca9-0000-4000-8000-000000000002', 'Canary cage', now(), now(), 'canary'
      from generate_series(1, 2) n;
    insert into directory.role_assignments (connection_id, id, principal_id, role_definition_id,
           directory_scope_id, first_seen_at, changed_at, row_hash)
    select g.connection_id, d.display_name, g.id, d.id,
           '/administrativeUnits/ca9a7ca9-0000-4000-8000-000000000002', now(), now(), 'canary'
      from directory.groups g
      join directory.role_definitions d
        on d.connection_id = g.connection_id and d.row_hash = 'canary'
     where g.display_name = 'Canary fans';
"""
"""A built-in role and one of the customer's own, which the group has over a unit."""


@pytest.fixture
def reader(walled: Walled) -> Iterator[Session]:
    with walled.open(PSEUDONYMOUS) as session:
        yield session


@pytest.fixture
def canary(walled: Walled) -> Iterator[str]:
    """A person of both customers, with the same id and a name that is nowhere else."""
    identity = "ca9a7ca9-0000-4000-8000-00000000ca9a"
    values = """
        first_seen_at, changed_at, row_hash) select
        n, '{0}', 'Canary Bird', 'Canary', 'Bird', 'canary.bird@nest.example',
        'canary.bird@nest.example', 'canarybird', array['smtp:canary@nest.example'],
        'CN=Canary Bird,OU=Cage', 'ca-1', 'Canary keeper', false, now(), now(), ''
        from generate_series(1, 2) n
    """
    walled.execute(
        "insert into directory.users (connection_id, id, display_name, given_name, surname,"
        " user_principal_name, mail, mail_nickname, proxy_addresses,"
        " on_premises_distinguished_name, employee_id, job_title, account_enabled, "
        + values.format(identity)
    )
    walled.execute(
        "insert into directory.groups (connection_id, id, display_name, description, mail_nickname,"
        " membership_rule, first_seen_at, changed_at, row_hash) select n, gen_random_uuid(),"
        " 'Canary fans', 'of Canary Bird', 'canaryfans', 'user.mail -eq \"canary.bird\"', now(),"
        " now(), '' from generate_series(1, 2) n"
    )
    walled.execute(
        "insert into directory.group_members (connection_id, group_id, member_id, member_type,"
        f" first_seen_at, changed_at, row_hash) select connection_id, id, '{identity}', 'user',"
        " now(), now(), '' from directory.groups where display_name = 'Canary fans'"
    )
    walled.execute(ROLES_OF_CANARY)
    yield identity
    for table in ("role_assignments", "role_definitions", "administrative_units"):
        walled.execute(f"delete from directory.{table} where row_hash = 'canary'")
    walled.execute(f"delete from directory.group_members where member_id = '{identity}'")
    walled.execute(f"delete from directory.users where id = '{identity}'")
    walled.execute("delete from directory.groups where display_name = 'Canary fans'")


def read_all(walled: Walled, session: Session) -> str:
    """Everything that the views tell."""
    places = walled.list_relations(ANALYTICS_PSEUDONYMOUS)
    assert len(places) > 10
    return "\n".join(session.copy(f"copy (select * from {place}) to stdout") for place in places)


def compute_pseudonym(walled: Walled, connection_id: int, value: str) -> str:
    ((pad,),) = walled.execute("select inner_pad from sync.pseudonym_key")
    key = bytes(byte ^ 0x36 for byte in pad)
    return hmac.digest(key, f"{connection_id}:{value}".encode(), "sha256")[:16].hex()


def list_personal(walled: Walled) -> set[str]:
    """Names, addresses, ids and texts of all users, groups and sites."""
    with psycopg.connect(walled.url) as connection:
        query = PERSONAL.format(nulls=", ".join(["null"] * 16))
        return {
            value.lower()
            for row in connection.execute(query.encode())
            for value in row
            if value is not None and len(value) >= MIN_LENGTH
        }


def test_no_name_address_id_or_text_of_anybody_is_shown(
    walled: Walled, reader: Session, canary: str
) -> None:
    told = read_all(walled, reader).lower()
    assert "canary" not in told
    assert canary not in told
    values = list_personal(walled)
    assert len(values) > 500
    words = {word for line in told.splitlines() for word in line.split("\t")}
    assert words & values == set()
    names = {one for one in values if "@" in one or "-" in one}
    assert [one for one in names if one in told] == []


def test_a_person_has_one_pseudonym_in_all_views_and_another_at_each_customer(
    walled: Walled, reader: Session, canary: str
) -> None:
    for number in (1, 2):
        pseudonym = compute_pseudonym(walled, number, canary)
        shown = "select connection_id, mail_domain from analytics_pseudonymous.users where id = "
        assert reader.run(f"{shown}'{pseudonym}'") == [(number, "nest.example")]
        joined = reader.run(
            "select count(*) from analytics_pseudonymous.users u"
            " join analytics_pseudonymous.group_members m"
            " on m.connection_id = u.connection_id and m.member_id = u.id"
            " join analytics_pseudonymous.groups g"
            " on g.connection_id = m.connection_id and g.id = m.group_id"
            f" where u.id = '{pseudonym}'"
        )
        assert joined == [(1,)]
    counts = "select count(*), count(distinct id) from analytics_pseudonymous.users"
    ((rows, pseudonyms),) = reader.run(counts)
    assert rows == pseudonyms > 100


@pytest.mark.parametrize(("view", "column"), THROUGH_GROUPS)
def test_a_person_is_found_by_pseudonym_in_views_that_follow_groups(
    walled: Walled, reader: Session, canary: str, view: str, column: str
) -> None:
    told = str(walled.execute(f"select * from analytics.{view} where {column}::text = '{canary}'"))
    assert "canary" in told.lower()
    for number in (1, 2):
        pseudonym = compute_pseudonym(walled, number, canary)
        place = f"(select * from analytics_pseudonymous.{view} where {column} = '{pseudonym}') v"
        assert reader.see(place) == {number}


def test_a_scope_has_the_pseudonym_of_its_unit(reader: Session, canary: str) -> None:
    for view, holder in (
        ("role_assignments", "principal_id"),
        ("effective_role_holders", "group_id"),
    ):
        found = reader.run(
            f"select distinct a.connection_id from analytics_pseudonymous.{view} a"
            " join analytics_pseudonymous.administrative_units u"
            " on u.connection_id = a.connection_id"
            " and a.directory_scope_id = '/administrativeUnits/' || u.id"
            f" join analytics_pseudonymous.groups g on g.id = a.{holder} order by 1"
        )
        assert found == [(1,), (2,)], view


def test_every_view_has_one_without_names_or_has_no_customers(walled: Walled) -> None:
    names = {place.split(".")[1] for place in walled.list_relations("analytics")}
    without = {place.split(".")[1] for place in walled.list_relations(ANALYTICS_PSEUDONYMOUS)}
    assert without == {one.name for one in VIEWS}
    assert names - without == set(NO_VARIANT)
    customers = "select count(*) from pg_attribute where attrelid = %s::regclass and attname = %s"
    for name in NO_VARIANT:
        assert walled.execute(customers, [f"analytics.{name}", "connection_id"]) == [(0,)], name


def test_what_is_shown_as_it_is_has_no_column_about_a_person() -> None:
    shown = [view for view in VIEWS if view.name in ABOUT_NOBODY]
    assert {one.name for one in shown} == set(ABOUT_NOBODY)
    assert [c.name for view in shown for c in view.columns if c.personal] == []


def test_what_can_be_joined_with_names_can_be_joined_without(
    walled: Walled, reader: Session, canary: str
) -> None:
    keys = {view.name for view in VIEWS if "id" in {column.name for column in view.columns}}
    declared = [
        (view.name, column.name, column.references)
        for view in VIEWS
        for column in view.columns
        if column.references in keys
    ]
    joined = 0
    for view, column, target in (*declared, *FURTHER_REFERENCES):
        question = (
            f"select count(*) from {{0}}.{view} v join {{0}}.{target} t"
            f" on t.connection_id = v.connection_id and t.id::text = v.{column}::text"
        )
        ((wanted,),) = walled.execute(question.format("analytics"))
        assert reader.run(question.format(ANALYTICS_PSEUDONYMOUS)) == [(wanted,)], (view, column)
        joined += wanted > 0
    assert joined > 15


@pytest.mark.parametrize("kind", NAMELESS)
def test_no_function_of_the_views_can_be_called(walled: Walled, kind: ReaderKind) -> None:
    """They are called in views, by which their names were looked up when these were made."""
    with walled.open(kind) as session:
        for function in FUNCTIONS:
            nulls = ", ".join("null" for _ in function.arguments)
            call = f"(select count(*) from analytics.{function.name}({nulls}))"
            for statement in (
                f"select {call}",
                f"create view pg_temp.mine as select {call}",
                f"create function pg_temp.mine() returns bigint return {call}",
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    session.run(statement)


def test_neither_the_views_with_names_nor_the_key_can_be_read(
    walled: Walled, reader: Session
) -> None:
    for place in ("analytics.users", "directory.users", "sync.pseudonym_key"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.run(f"select * from {place}")
    may = "select has_any_column_privilege(%s, 'sync.pseudonym_key', 'select')"
    for login in walled.logins.values():
        assert walled.execute(may, [login]) == [(False,)]
    plan = reader.run("explain verbose select * from analytics_pseudonymous.users")
    ((pad,),) = walled.execute("select encode(inner_pad, 'hex') from sync.pseudonym_key")
    assert pad not in str(plan)


@pytest.mark.parametrize("kind", NAMELESS)
def test_a_function_of_ones_own_meets_pseudonyms_only(
    walled: Walled, kind: ReaderKind, canary: str
) -> None:
    number = 1 if kind.is_listed else 2
    with walled.open(kind) as session:
        session.run(
            "create function pg_temp.peek(t text) returns boolean language plpgsql cost 0.0000001"
            " as $$ begin raise notice '%', t; return true; end $$"
        )
        for view in ("users", *(one for one, _ in THROUGH_GROUPS)):
            place = f"analytics_pseudonymous.{view}"
            session.run(f"select * from {place} v where pg_temp.peek(v::text)")
            told = "\n".join(session.notices).lower()
            assert compute_pseudonym(walled, number, canary) in told, view
            assert "canary" not in told
            assert canary not in told
            assert not kind.is_listed or FABRIKAM not in told
            session.notices.clear()


def test_times_are_days(walled: Walled) -> None:
    exact = """
        select attrelid::regclass::text || '.' || attname from pg_attribute a
          join pg_class c on c.oid = a.attrelid
         where c.relnamespace = 'analytics_pseudonymous'::regnamespace and c.relkind = 'v'
           and atttypid in ('timestamptz'::regtype, 'timestamp'::regtype, 'jsonb'::regtype,
                            'text[]'::regtype)
           and c.relname not in ('connections', 'freshness', 'licenses', 'license_summary')
    """
    assert walled.execute(exact) == []


def test_walls_hold_for_views_without_names(walled: Walled) -> None:
    name = walled.logins[PSEUDONYMOUS]
    walled.execute(f"grant tenant_mirror_application to {name}")
    try:
        with walled.open(PSEUDONYMOUS) as session:
            for setting, seen in (("", set()), ("2", {2}), ("1", {1})):
                session.run(f"set tenant_mirror.connection_id = '{setting}'")
                for view in ("users", "group_members", "role_assignments", "connections"):
                    assert session.see(f"analytics_pseudonymous.{view}") == seen
    finally:
        walled.execute(f"revoke tenant_mirror_application from {name}")


def test_they_read_nothing_but_views_and_the_key(walled: Walled) -> None:
    """So that whose rows they show is decided by the rights and walls of the views below."""
    used = """
        select distinct d.refobjid::regclass::text
          from pg_rewrite r join pg_class c on c.oid = r.ev_class
          join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid
         where c.relnamespace = 'analytics_pseudonymous'::regnamespace
           and d.refclassid = 'pg_class'::regclass and d.refobjid <> c.oid
    """
    found = {place for (place,) in walled.execute(used)}
    assert {one for one in found if not one.startswith("analytics.")} == {"sync.pseudonym_key"}


def test_another_key_gives_everybody_another_pseudonym(walled: Walled, reader: Session) -> None:
    ids = "select id from analytics_pseudonymous.users"
    before = set(reader.run(ids))
    done = CliRunner().invoke(
        cli, ["roles", "--rotate-pseudonyms", "--yes"], env={"DATABASE_URL": walled.url}
    )
    assert done.exit_code == 0, done.output
    after = set(reader.run(ids))
    assert len(after) == len(before)
    assert not after & before
