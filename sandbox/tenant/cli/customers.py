"""`tenant-mirror sandbox`, commands for one customer: deletions, consent, permissions."""

from collections.abc import Callable
from typing import Any

import click

from sandbox.tenant.cli.control_client import (
    call_control_api,
    json_option,
    key_option,
    print_json,
    url_option,
)
from sandbox.tenant.control.customers import DELETABLE, REFUSABLE, RESTORABLE


class Amount(click.ParamType[dict[str, int]]):
    """A number, or a percentage such as 60%."""

    name = "N|N%"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> dict[str, int]:
        digits = str(value).removesuffix("%")
        if not digits.isascii() or not digits.isdigit() or int(digits) < 1:
            self.fail(
                f"{value} is neither a number such as 150 nor a share such as 60%", param, ctx
            )
        if digits == str(value):
            return {"n": int(digits)}
        if int(digits) > 100:
            self.fail(f"{value} is more than there is", param, ctx)
        return {"percent": int(digits)}


def _customer_command(function: Callable[..., None]) -> click.Command:
    """Make a command about one CUSTOMER of a running sandbox."""
    for add_parameter in (json_option, key_option, url_option, click.argument("customer")):
        function = add_parameter(function)
    return click.command()(function)


def _change_customer(
    server: tuple[str, str],
    customer: str,
    path: str,
    message: str,
    *,
    as_json: bool,
    **change: object,
) -> None:
    """Change a customer, and print the answer: the message with its fields, or JSON.

    ``server`` is the URL and the key of the sandbox.
    """
    asked = {"connection_id": customer, **change}
    done = call_control_api("POST", *server, path, asked)
    if as_json:
        print_json(done)
        return
    click.echo(f"{done['name']}: {message.format(**done)}")


@click.command()
@url_option
@key_option
@json_option
def customers(url: str, key: str, *, as_json: bool) -> None:
    """List the simulated customers, and what was done to them."""
    found = call_control_api("GET", url, key, "customers")["customers"]
    if as_json:
        print_json(found)
        return
    for one in found:
        state = ", ".join(one["troubles"]) or "fine"
        click.echo(f"{one['connection_id']}  {one['name']:<12} {one['users']:>9,} users  {state}")


@_customer_command
@click.argument("amount", type=Amount())
@click.option(
    "--resource",
    type=click.Choice(DELETABLE),
    default="users",
    show_default=True,
    help="What to delete.",
)
def delete(
    customer: str, amount: dict[str, int], resource: str, url: str, key: str, *, as_json: bool
) -> None:
    """Delete AMOUNT objects of CUSTOMER, such as 150 or 60%.

    More than 50 and more than 20 % at once are held: 'tenant-mirror status' shows it, and
    'tenant-mirror approve' applies them.
    """
    message = f"{{deleted:,}} {resource} deleted, {{left:,}} left"
    _change_customer(
        (url, key), customer, "delete", message, as_json=as_json, resource=resource, **amount
    )


@_customer_command
@click.option(
    "--resource",
    type=click.Choice(RESTORABLE),
    default="users",
    show_default=True,
    help="What to restore.",
)
def restore(customer: str, resource: str, url: str, key: str, *, as_json: bool) -> None:
    """Restore the deleted objects of CUSTOMER.

    Objects that were deleted permanently stay deleted.
    """
    message = f"{{restored:,}} {resource} restored"
    _change_customer((url, key), customer, "restore", message, as_json=as_json, resource=resource)


@_customer_command
def revoke(customer: str, url: str, key: str, *, as_json: bool) -> None:
    """Withdraw the consent of CUSTOMER.

    No token is issued then, and the status of the connection becomes broken.
    """
    message = "consent withdrawn; 'sandbox consent {name}' gives it again"
    _change_customer((url, key), customer, "consent", message, as_json=as_json, given=False)


@_customer_command
def consent(customer: str, url: str, key: str, *, as_json: bool) -> None:
    """Give the consent of CUSTOMER again.

    'tenant-mirror resync' detects it at once.
    """
    _change_customer((url, key), customer, "consent", "consent given", as_json=as_json, given=True)


@_customer_command
@click.argument("resource", type=click.Choice(REFUSABLE))
def refuse(customer: str, resource: str, url: str, key: str, *, as_json: bool) -> None:
    """Refuse the permission for a resource.

    Graph answers 403 then, and the stream of the resource becomes refused.
    """
    message = f"{resource} refused; 'sandbox grant {{name}} {resource}' grants it again"
    _change_customer(
        (url, key), customer, "permit", message, as_json=as_json, resource=resource, granted=False
    )


@_customer_command
@click.argument("resource", type=click.Choice(REFUSABLE))
def grant(customer: str, resource: str, url: str, key: str, *, as_json: bool) -> None:
    """Grant the permission for a resource again.

    'tenant-mirror resync' detects it at once.
    """
    message = f"{resource} granted"
    _change_customer(
        (url, key), customer, "permit", message, as_json=as_json, resource=resource, granted=True
    )


@_customer_command
def unlicense(customer: str, url: str, key: str, *, as_json: bool) -> None:
    """Let the licences of CUSTOMER end.

    Graph refuses what needs one: schedules of roles, and the last sign-in.
    """
    message = "no licence is left; 'sandbox license {name}' brings them back"
    _change_customer((url, key), customer, "license", message, as_json=as_json, licensed=False)


@_customer_command
def license(customer: str, url: str, key: str, *, as_json: bool) -> None:  # noqa: A001  # the command's name
    """Give CUSTOMER the licences that some resources need."""
    _change_customer((url, key), customer, "license", "licensed", as_json=as_json, licensed=True)


@_customer_command
def disconnect(customer: str, url: str, key: str, *, as_json: bool) -> None:
    """Delete the connection of CUSTOMER in Nango.

    The next discovery retires it.
    """
    message = "disconnected; 'sandbox connect {name}' connects it again"
    _change_customer((url, key), customer, "connect", message, as_json=as_json, connected=False)


@_customer_command
def connect(customer: str, url: str, key: str, *, as_json: bool) -> None:
    """Create the connection of CUSTOMER in Nango again."""
    _change_customer((url, key), customer, "connect", "connected", as_json=as_json, connected=True)


COMMANDS = (
    customers,
    delete,
    restore,
    revoke,
    consent,
    refuse,
    grant,
    unlicense,
    license,
    disconnect,
    connect,
)
