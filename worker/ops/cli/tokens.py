"""The commands of the group ``tokens``."""

import re
from datetime import timedelta

import click

from models.api_token import Scope
from models.audit import AuditAction
from worker.core.errors import InvalidInput
from worker.ops.cli.output import (
    json_option,
    open_checked_database,
    print_json,
    print_line,
    print_table,
    render_time,
)

_EXAMPLES = """\b
Examples:
  tenant-mirror tokens create grafana --scope metrics
  tenant-mirror tokens create portal --scope read --scope operate --expires 90d
  tenant-mirror tokens create ci --scope read --json | jq -r .token > token
"""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,62}", re.ASCII)
_LIFETIME = re.compile(r"([1-9][0-9]{0,4})([hdw])", re.ASCII)
_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
_MAX_DAYS = 3650
_FIELDS = (
    "id",
    "name",
    "state",
    "scopes",
    "created_at",
    "created_by",
    "expires_at",
    "last_used_at",
    "revoked_at",
)


@click.group()
def tokens() -> None:
    """Manage the tokens of clients of the HTTP API.

    A token is shown once, when it is created; only its digest is stored. Changes are in force
    within five seconds, in every running 'tenant-mirror web'.
    """


@tokens.command(epilog=_EXAMPLES)
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice([one.value for one in Scope]),
    help="What it may do; may be repeated: read the state, operate (resync, pause, approve), read "
    "metrics.  [default: read]",
)
@click.option("--expires", metavar="AGE", help="When it stops working: 12h, 90d, 52w.")
@json_option
def create(name: str, *, scopes: tuple[str, ...], expires: str | None, as_json: bool) -> None:
    """Create the token NAME, and show it once.

    NAME says who or what presents it; the audit shows it with each action. The name of a revoked or
    expired token may be used again.
    """
    from worker.operations.actor import get_host_actor
    from worker.operations.audit import AuditedAction, open_audited_transaction
    from worker.store.service.tokens import TokenDigest, create_token, parse_scopes
    from worker.web.token import generate_token

    wanted = parse_scopes(scopes) or frozenset((Scope.READ,))
    lifetime = _parse_lifetime(expires) if expires else None
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            "a token's name has 1 to 63 letters, digits, dots, dashes, underscores or @, and "
            "begins with a letter or digit"
        )
    made = generate_token()
    digest = TokenDigest(made.id, name, made.digest, wanted)
    with open_checked_database() as (settings, database):
        actor = get_host_actor(settings)
        asked = {"scopes": sorted(wanted), "expires": expires, "id": made.id}
        action = AuditedAction(actor, AuditAction.TOKENS_CREATE, subject=name, parameters=asked)
        with open_audited_transaction(database, action) as db:
            until = create_token(db, digest, created_by=actor.name, lifetime=lifetime)
    if as_json:
        print_json(
            {
                "id": made.id,
                "name": name,
                "scopes": sorted(wanted),
                "expires_at": until,
                "token": made.text,
            }
        )
        return
    end = f"expires {render_time(until)} UTC" if until else "does not expire"
    print_line(f"token '{name}' ({', '.join(sorted(wanted))}) {end}", err=True)
    print_line("send it as 'Authorization: Bearer ...'; it is not shown again:", err=True)
    print_line(made.text)


@tokens.command("list")
@json_option
def list_(*, as_json: bool) -> None:
    """List all tokens, including expired and revoked ones."""
    from worker.store.service.tokens import list_tokens

    with open_checked_database() as (_, database), database.open_transaction() as db:
        found = list_tokens(db)
    if as_json:
        print_json([{name: getattr(one, name) for name in _FIELDS} for one in found])
        return
    if not found:
        print_line("there are no tokens; create one with 'tenant-mirror tokens create NAME'")
        return
    rows = [
        (
            one.name,
            one.id,
            one.state,
            ", ".join(one.scopes),
            render_time(one.expires_at) or "never",
            render_time(one.last_used_at) or "never",
            one.created_by,
        )
        for one in found
    ]
    columns = ["name", "id", "state", "scopes", "expires", "last used", "created by"]
    print_table("", columns, rows)


@tokens.command()
@click.argument("named", metavar="NAME")
@json_option
def revoke(named: str, *, as_json: bool) -> None:
    """Revoke a token, given by its name or id, at once and permanently."""
    from worker.operations.actor import get_host_actor
    from worker.operations.audit import AuditedAction, open_audited_transaction
    from worker.store.service.tokens import revoke_token

    with open_checked_database() as (settings, database):
        actor = get_host_actor(settings)
        action = AuditedAction(actor, AuditAction.TOKENS_REVOKE, subject=named)
        with open_audited_transaction(database, action) as db:
            token = revoke_token(db, named)
            action.subject, action.parameters = token.name, {"id": token.id}
    was_usable = token.state == "usable"
    if as_json:
        print_json({"id": token.id, "name": token.name, "was": token.state})
    elif was_usable:
        print_line(f"token '{token.name}' is revoked; it stops working within five seconds")
    else:
        print_line(f"token '{token.name}' was {token.state} already")


def _parse_lifetime(text: str) -> timedelta:
    found = _LIFETIME.fullmatch(text)
    lifetime = int(found[1]) * _UNITS[found[2]] if found else None
    if lifetime is None or lifetime > timedelta(days=_MAX_DAYS):
        raise InvalidInput("--expires needs hours, days or weeks: 12h, 90d, 52w; at most ten years")
    return lifetime
