"""Signing secrets of webhooks: loaded or generated, shown once, and rotated without a gap."""

from pathlib import Path

import click

from models.audit import AuditAction
from worker.core.errors import InvalidInput
from worker.operations.actor import get_host_actor
from worker.operations.audit import AuditedAction, open_audited_transaction
from worker.ops.cli.output import json_option, open_checked_database, print_json, print_line


def load_signing_secret(path: Path | None) -> str:
    """Load the secret from a file, or generate one.

    Raises InvalidInput, which never shows it, if the file holds no valid secret.
    """
    from worker.delivery.senders.signature import generate_secret, parse_secret

    secret = _read_secret_file(path) if path else generate_secret()
    parse_secret(secret)
    return secret


def show_once(secret: str) -> None:
    """Print the secret to stdout alone, so that a script can read it."""
    print_line("signing secret for the receiver; it is not shown again:", err=True)
    print_line(secret)


def _read_secret_file(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InvalidInput(
            f"{path} contains no secret: expected whsec_ followed by base64"
        ) from None


@click.command()
@click.argument("name")
@click.option(
    "--secret-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File with the new secret, whsec_...; without it, one is generated and shown once.",
)
@click.option("--finish", is_flag=True, help="Sign with the new secret only.")
@json_option
def rotate(name: str, *, secret_file: Path | None, finish: bool, as_json: bool) -> None:
    """Replace the signing secret of a webhook in two steps.

    First, requests are signed with both the new and the old secret, so that the receiver can change
    over at any time. Then, --finish drops the old one.
    """
    from worker.delivery.store import admin

    if finish and secret_file:
        raise click.UsageError("--finish takes no new secret; omit --secret-file")
    secret = None if finish else load_signing_secret(secret_file)
    with open_checked_database() as (settings, database):
        action = AuditedAction(
            get_host_actor(settings),
            AuditAction.SINKS_ROTATE,
            subject=name,
            parameters={"finish": finish},
        )
        with open_audited_transaction(database, action) as db:
            if secret is None:
                dropped = admin.drop_old_signing_keys(db, name)
            else:
                admin.add_signing_key(db, name, secret)
    if secret is None:
        if as_json:
            print_json({"name": name, "dropped": dropped})
        else:
            print_line(f"sink '{name}' now signs with one secret; old ones dropped: {dropped}")
        return
    made = None if secret_file else secret
    if as_json:
        print_json({"name": name} | ({"secret": made} if made else {}))
        return
    print_line(
        f"sink '{name}' signs with the new and the old secret; once the receiver has the new one, "
        f"run 'tenant-mirror sinks rotate {name} --finish'"
    )
    if made:
        show_once(made)
