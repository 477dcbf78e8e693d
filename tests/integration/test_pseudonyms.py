"""Views without names: who people are cannot be read from them, and they can still be joined."""

import hmac
from collections.abc import Iterator
from typing import Final

import psycopg
import pytest
from click.testing import CliRunner

from migrations.walls.roles import ReaderKind
from models.base import ANALYTICS_PSEUDONYMOUS
from tests.support.walled import Session, Walled
from worker.ops.cli import cli

PSEUDONYMOUS: Final = ReaderKind.PSEUDONYMOUS
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
        'CN=Canary Bird,OU=Cage', 'ca-1', 'Canary keeper', now(), now(), ''
        from generate_series(1, 2) n
    """
    walled.execute(
        "insert into directory.users (connection_id, id, display_name, given_name, surname,"
        " user_principal_name, mail, mail_nickname, proxy_addresses,"
        " on_premises_distinguished_name, employee_id, job_title, " + values.format(identity)
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
    yield identity
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


def test_a_function_of_ones_own_meets_pseudonyms_only(reader: Session, canary: str) -> None:
    reader.run(
        "create function pg_temp.peek(t text) returns boolean language plpgsql cost 0.0000001 as"
        " $$ begin raise notice '%', t; return true; end $$"
    )
    reader.run("select * from analytics_pseudonymous.users v where pg_temp.peek(v::text)")
    assert len(reader.notices) > 100
    assert "canary" not in "\n".join(reader.notices).lower()


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
