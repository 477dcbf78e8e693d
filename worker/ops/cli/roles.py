"""The command ``roles``: who reads the views, and which customers each of them sees."""

from typing import TYPE_CHECKING

import click

from migrations.walls.roles import ReaderKind
from models.audit import AuditAction
from worker.ops.cli.exit_codes import EXIT_PARTIAL
from worker.ops.cli.output import (
    confirm,
    json_option,
    open_checked_database,
    print_json,
    print_line,
    print_table,
    yes_option,
)

if TYPE_CHECKING:
    from worker.store.readers import Reader

_EPILOG = """\b
Kinds of readers:
  tenant_mirror_reader        sees all customers: the operator's own analysts
  tenant_mirror_application   sees the customer that its session names in the
                              setting tenant_mirror.connection_id, and nobody
                              without: it protects a program from a filter
                              that it forgot
  tenant_mirror_customer      sees the connection that --customer lists for the
                              login, whatever it sets: it protects customers
                              from each other
  tenant_mirror_pseudonymous  sees all customers without names, in the schema
                              analytics_pseudonymous: it protects people
  tenant_mirror_pseudonymous_customer
                              sees the connection that --customer lists for the
                              login, without names

\b
Examples:
  tenant-mirror roles
  tenant-mirror roles --sql | psql "$SUPERUSER_URL"
  tenant-mirror roles --sql --login ann --as reader | psql "$SUPERUSER_URL"
  tenant-mirror roles --customer reports_17 contoso
  tenant-mirror roles --customer reports_17 contoso --remove
  tenant-mirror roles --customer research_17 contoso --without-names
  tenant-mirror roles --rotate-pseudonyms
"""


@click.command(epilog=_EPILOG)
@click.option(
    "--sql",
    is_flag=True,
    help="Print SQL that makes the roles, walls and rights, for a superuser; it can be run again.",
)
@click.option("--login", metavar="NAME", help="With --sql: also make the login NAME a reader.")
@click.option(
    "--as",
    "kind",
    type=click.Choice([one.value for one in ReaderKind]),
    help="With --login: what kind of reader it is.",
)
@click.option(
    "--revoke-temp",
    is_flag=True,
    help="With --sql: take the right to make temporary tables from every role but the service's.",
)
@click.option(
    "--customer",
    nargs=2,
    metavar="NAME CONNECTION",
    help="Let the customer's login NAME see CONNECTION, and no other.",
)
@click.option(
    "--without-names", is_flag=True, help="With --customer: let it see pseudonyms and no names."
)
@click.option(
    "--rotate-pseudonyms",
    is_flag=True,
    help="Exchange the key of pseudonyms: everybody gets another one.",
)
@yes_option
@click.option("--remove", is_flag=True, help="With --customer: hide it again.")
@json_option
def roles(
    *,
    sql: bool,
    login: str | None,
    kind: str | None,
    revoke_temp: bool,
    customer: tuple[str, str] | None,
    remove: bool,
    without_names: bool,
    rotate_pseudonyms: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Show who reads the views, and let logins read them.

    There are five kinds of readers, each a role of Postgres to be granted to logins. None of them
    reaches the tables below the views, or any secret. 'tenant-mirror migrate' makes the roles if
    the role of DATABASE_URL may create roles; otherwise run what --sql prints as a superuser.
    Without an option nothing is changed.
    """
    if (login is None) != (kind is None) or ((login or revoke_temp) and not sql):
        raise click.UsageError("give --login NAME and --as KIND together, with --sql")
    if (customer and sql) or ((remove or without_names) and not customer):
        raise click.UsageError(
            "give --customer NAME CONNECTION without --sql; --remove and --without-names need it"
        )
    if remove and without_names:
        raise click.UsageError("give --remove without --without-names")
    if rotate_pseudonyms and (customer or sql):
        raise click.UsageError("give --rotate-pseudonyms alone")
    if rotate_pseudonyms:
        _rotate_pseudonyms(yes=yes)
    elif customer:
        listed_as = ReaderKind.PSEUDONYMOUS_CUSTOMER if without_names else ReaderKind.CUSTOMER
        _edit_customer(*customer, None if remove else listed_as, as_json=as_json)
    elif sql:
        _print_sql(login, kind, revoke_temp=revoke_temp)
    else:
        _show(as_json=as_json)


def _print_sql(login: str | None, kind: str | None, *, revoke_temp: bool) -> None:
    from worker.store.reader_roles import render_roles

    named = (login, ReaderKind(kind)) if login and kind else None
    with open_checked_database() as (_, database), database.open_transaction() as db:
        for line in render_roles(db, login=named, revoke_temporary=revoke_temp):
            click.echo(line)


def _edit_customer(name: str, selector: str, kind: ReaderKind | None, *, as_json: bool) -> None:
    """List a login with a connection as a kind of reader, or hide the connection without one."""
    from worker.operations.actor import get_host_actor
    from worker.operations.audit import AuditedAction, open_audited_transaction
    from worker.store.readers import (
        allow_connection,
        check_roles_exist,
        check_wallable,
        disallow_connection,
        get_reader,
        grant_membership,
    )
    from worker.store.state.connections import find_connection

    left: list[str] = []
    previous, was_listed = None, False
    with open_checked_database() as (settings, database):
        action = AuditedAction(get_host_actor(settings), AuditAction.ROLES, subject=name)
        action.parameters = {"remove": kind is None}
        with open_audited_transaction(database, action) as db:
            action.connection = connection = find_connection(db, selector)
            if kind is None:
                was_listed = disallow_connection(db, name, connection.id)
                action.detail = "removed" if was_listed else "it was not listed"
            else:
                check_roles_exist(db)
                reader = get_reader(db, name)
                check_wallable(reader, kind)
                previous = reader.connection_id
                allow_connection(db, name, connection.id)
                left = grant_membership(db, name, kind)
                action.detail = "listed" if kind.sees_names else "listed without names"
    if as_json:
        told = {"role": name, "connection_id": connection.id, "listed": kind is not None}
        print_json(told | {"left_to_superuser": left})
    else:
        verb = "sees" if kind else "no longer sees" if was_listed else "did not see"
        added = ", without names" if kind is not None and not kind.sees_names else ""
        if previous not in (None, connection.id):
            added += f", and no longer connection {previous}"
        print_line(f"{name} {verb} {connection.title}{added}", err=bool(left))
        if kind is not None and connection.is_retired:
            print_line("it is retired: the views show nothing of it", err=True)
        if left:
            print_line("run this as a superuser, the role of DATABASE_URL may not:", err=True)
            click.echo("\n".join(f"{one};" for one in left))
    if left:
        raise SystemExit(EXIT_PARTIAL)


def _rotate_pseudonyms(*, yes: bool) -> None:
    from worker.operations.actor import get_host_actor
    from worker.operations.audit import AuditedAction, open_audited_transaction
    from worker.store.state.pseudonym_key import rotate_pseudonym_key

    if not yes:
        confirm(
            "Pseudonyms in what was read before will match nothing any more. Continue?",
            "this exchanges all pseudonyms",
        )
    with open_checked_database() as (settings, database):
        action = AuditedAction(get_host_actor(settings), AuditAction.ROLES, subject="pseudonyms")
        action.detail = "key exchanged"
        with open_audited_transaction(database, action) as db:
            rotate_pseudonym_key(db)
    print_line("the key of pseudonyms was exchanged")


def _show(*, as_json: bool) -> None:
    from worker.store.readers import check_roles_exist, load_readers

    with open_checked_database() as (_, database), database.open_transaction() as db:
        check_roles_exist(db)
        found = load_readers(db)
    if as_json:
        print_json([_build_document(one) for one in found])
        return
    if not found:
        print_line("nobody is a reader yet; see 'tenant-mirror roles --help'")
        return
    rows = [
        (
            one.name,
            ", ".join(role.removeprefix("tenant_mirror_") for role in one.roles),
            _describe_sight(one),
            "; ".join(one.list_problems()),
        )
        for one in found
    ]
    print_table("", ["role", "reads as", "sees", "problem"], rows)


def _describe_sight(reader: "Reader") -> str:
    """Return which customers the walls let a role see."""
    if reader.passes_walls or reader.is_owner:
        return "all customers"
    kinds = [kind for kind in ReaderKind if kind.role in reader.roles]
    if any(kind.is_listed for kind in kinds) or not kinds:
        listed = reader.connection_id
        return "nothing: not listed" if listed is None else f"connection {listed}"
    if ReaderKind.APPLICATION in kinds:
        return "the connection that the session names"
    return "all customers"


def _build_document(one: "Reader") -> dict[str, object]:
    return {
        "role": one.name,
        "can_login": one.can_login,
        "reads_as": [role.removeprefix("tenant_mirror_") for role in one.roles],
        "connection_id": one.connection_id,
        "problems": list(one.list_problems()),
    }
