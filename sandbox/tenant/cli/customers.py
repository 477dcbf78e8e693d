"""`tenant-mirror sandbox`, commands for one customer: deletions, consent, permissions."""

from typing import Any

import click

from sandbox.tenant.cli.control_client import call_control_api, key_option, url_option
from sandbox.tenant.control.customers import DELETABLE, REFUSABLE, RESTORABLE

_customer = click.argument("customer")


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


@click.command()
@url_option
@key_option
def customers(url: str, key: str) -> None:
    """The simulated customers, and what was done to them."""
    for one in call_control_api("GET", url, key, "customers")["customers"]:
        state = ", ".join(one["troubles"]) or "fine"
        click.echo(f"{one['connection_id']}  {one['name']:<12} {one['users']:>9,} users  {state}")


@click.command()
@_customer
@click.argument("amount", type=Amount())
@click.option(
    "--resource", type=click.Choice(DELETABLE), default="users", show_default=True, help="Of which."
)
@url_option
@key_option
def delete(customer: str, amount: dict[str, int], resource: str, url: str, key: str) -> None:
    """Delete AMOUNT objects of CUSTOMER, such as 150 or 60%.

    More than 50 and more than 20 % at once are not believed: 'tenant-mirror status' says held, and
    'tenant-mirror approve' applies them.
    """
    asked = {"connection_id": customer, "resource": resource, **amount}
    done = call_control_api("POST", url, key, "delete", asked)
    click.echo(f"{done['name']}: {done['deleted']:,} {resource} deleted, {done['left']:,} left")


@click.command()
@_customer
@click.option(
    "--resource",
    type=click.Choice(RESTORABLE),
    default="users",
    show_default=True,
    help="Of which.",
)
@url_option
@key_option
def restore(customer: str, resource: str, url: str, key: str) -> None:
    """Restore what was deleted of CUSTOMER; what was deleted permanently stays gone."""
    asked = {"connection_id": customer, "resource": resource}
    done = call_control_api("POST", url, key, "restore", asked)
    click.echo(f"{done['name']}: {done['restored']:,} {resource} restored")


@click.command()
@_customer
@url_option
@key_option
def revoke(customer: str, url: str, key: str) -> None:
    """Withdraw CUSTOMER's consent: no token can be had, and 'tenant-mirror status' says broken."""
    done = call_control_api(
        "POST", url, key, "consent", {"connection_id": customer, "given": False}
    )
    click.echo(
        f"{done['name']}: consent withdrawn; 'sandbox consent {done['name']}' gives it again"
    )


@click.command()
@_customer
@url_option
@key_option
def consent(customer: str, url: str, key: str) -> None:
    """Give CUSTOMER's consent again; 'tenant-mirror resync' has it noticed at once."""
    done = call_control_api("POST", url, key, "consent", {"connection_id": customer, "given": True})
    click.echo(f"{done['name']}: consent given")


@click.command()
@_customer
@click.argument("resource", type=click.Choice(REFUSABLE))
@url_option
@key_option
def refuse(customer: str, resource: str, url: str, key: str) -> None:
    """Refuse the permission for RESOURCE: Graph answers 403, and its stream is refused."""
    asked = {"connection_id": customer, "resource": resource, "granted": False}
    done = call_control_api("POST", url, key, "permit", asked)
    click.echo(
        f"{done['name']}: {resource} refused; 'sandbox grant {done['name']} {resource}' ends it"
    )


@click.command()
@_customer
@click.argument("resource", type=click.Choice(REFUSABLE))
@url_option
@key_option
def grant(customer: str, resource: str, url: str, key: str) -> None:
    """Grant it again; 'tenant-mirror resync' has it noticed at once."""
    asked = {"connection_id": customer, "resource": resource, "granted": True}
    click.echo(f"{call_control_api('POST', url, key, 'permit', asked)['name']}: {resource} granted")


@click.command()
@_customer
@url_option
@key_option
def disconnect(customer: str, url: str, key: str) -> None:
    """Delete CUSTOMER's connection in Nango: after the next look at its list it is retired."""
    done = call_control_api(
        "POST", url, key, "connect", {"connection_id": customer, "connected": False}
    )
    click.echo(f"{done['name']}: disconnected; 'sandbox connect {done['name']}' makes it again")


@click.command()
@_customer
@url_option
@key_option
def connect(customer: str, url: str, key: str) -> None:
    """Make CUSTOMER's connection again."""
    done = call_control_api(
        "POST", url, key, "connect", {"connection_id": customer, "connected": True}
    )
    click.echo(f"{done['name']}: connected")


COMMANDS = (
    customers,
    delete,
    restore,
    revoke,
    consent,
    refuse,
    grant,
    disconnect,
    connect,
)
