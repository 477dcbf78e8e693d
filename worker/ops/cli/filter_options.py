"""The options that choose connections, for commands that show them and for those that act."""

from collections.abc import Callable
from typing import Any

import click

from models.connection import ConnectionStatus
from worker.conditions.condition import Code

Option = Callable[[Callable[..., Any]], Callable[..., Any]]


def build_filter_options(each: str) -> tuple[Option, ...]:
    """Return --condition, --status and --search; ``each`` begins their help: "Only" or "All"."""
    return (
        click.option(
            "--condition",
            "conditions",
            multiple=True,
            metavar="CODE",
            type=click.Choice([one.value for one in Code]),
            help=f"{each} with this condition, such as late or token_refused; may be repeated.",
        ),
        click.option(
            "--status",
            "statuses",
            multiple=True,
            type=click.Choice([one.value for one in ConnectionStatus]),
            help=f"{each} with this status; may be repeated.",
        ),
        click.option(
            "--search",
            "--text",
            "search",
            default="",
            metavar="TEXT",
            help=f"{each} whose name, address in Nango, tenant or domain has TEXT.",
        ),
    )
