"""The command line. Commands are imported when they are called, so that help is instant.

Exit codes: 0 complete, 1 failed, 2 usage or settings, 3 partial or held, 75 busy.
"""

import gc
import sys
from importlib import import_module
from typing import Final

import click

COMMANDS: Final = {
    "up": ("up:up", "Run the whole service on this machine, as 'make run' does."),
    "migrate": ("migrate:migrate", "Migrate the database to the schema of this release."),
    "export": ("export:export", "Write the views of one customer into files."),
    "grants": ("grants:grants", "Print the SQL that lets a Postgres role read the mirror."),
    "roles": ("roles:roles", "Show who reads the views; let logins of customers read theirs."),
    "connections": ("connections:connections", "List, show and discover connections."),
    "sync": ("sync:sync", "Sync a connection now, in this process."),
    "resync": ("resync:resync", "Ask the workers to sync connections now."),
    "pause": ("pause:pause", "Pause the syncs of connections, with a reason and an end."),
    "resume": ("pause:resume", "End the pauses of connections."),
    "runs": ("runs:runs", "Show the latest runs of a connection, or one run."),
    "changes": ("changes:changes", "Show what changed in a connection since a time."),
    "approve": ("approve:approve", "Apply or reject deletions that are held back."),
    "operations": ("operations:operations", "Show actions that were asked for; cancel them."),
    "audit": ("audit:audit", "Show what operators did, when, and with which outcome."),
    "forget": ("forget:forget", "Delete all data of a retired connection permanently."),
    "erase": ("erase:erase", "Erase a person's data permanently; lift or list erasures."),
    "probe": ("probe:probe", "Check, with 16 calls, whether a tenant answers as assumed."),
    "doctor": ("doctor:doctor", "Check servers, key, clocks and tenants; say what to do."),
    "status": ("status:status", "Show what needs attention, why, and what to do."),
    "workers": ("workers:workers", "Show who is alive, and what each worker holds."),
    "health": ("health:health", "Check whether a process on this host works."),
    "web": ("web:web", "Serve the HTTP API, health checks and metrics."),
    "tokens": ("tokens:tokens", "Manage the tokens of clients of the HTTP API."),
    "metrics": ("metrics:metrics", "Print metrics for Prometheus, or serve them."),
    "verify": ("verify:verify", "Check that the change events reproduce the tables."),
    "relay": ("relay:relay", "Deliver change events to their sinks until stopped."),
    "sinks": ("sinks:sinks", "Manage the sinks that receive change events."),
    "events": ("events:events", "Show change events, or deliver them again."),
    "recovered": ("recovered:recovered", "Record that the database was restored or replaced."),
    "asyncapi": ("asyncapi:asyncapi", "Print an AsyncAPI document of the change events."),
    "settings": ("settings:settings", "Show every setting with its meaning and current value."),
    "sandbox": (
        "sandbox.tenant.cli.commands:sandbox",
        "Run a simulated Nango with tenants, for tests.",
    ),
}


COMMAND_GC_THRESHOLD: Final = 50_000
"""Allocations between two garbage collections. Imports make no garbage: with the default of 700,
a tenth of a command's time went into collecting."""


class LazyGroup(click.Group):
    """A group that imports each command when it is called."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].rpartition(":")
        path = module if "." in module else f"{__name__}.{module}"
        try:
            command = getattr(import_module(path), attribute)
        except ModuleNotFoundError as error:
            if cmd_name != "sandbox" or error.name is None or error.name.startswith("worker"):
                raise
            raise click.ClickException(
                f"the sandbox is not installed ({error.name} is missing); "
                "install it with: pip install 'tenant-mirror[sandbox]'"
            ) from None
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, about) in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=(
        "CONNECTION is the id in 'tenant-mirror connections list', the organization's name, the "
        "tenant id, a domain, Nango's connection id, integration/connection id, or the first four "
        "or more characters of one of these ids. "
        "Exit codes: 0 complete, 1 failed, 2 usage or settings, 3 partial or held, 75 busy."
    ),
)
@click.version_option(package_name="tenant-mirror", prog_name="tenant-mirror")
def cli() -> None:
    """Tenant Mirror keeps an exact, live copy of many Microsoft 365 directories in Postgres.

    Settings come from the environment; 'tenant-mirror settings' lists them.
    """


def main() -> None:
    """Run the command line; every error becomes a plain sentence and an exit code."""
    from worker.core.errors import MirrorError
    from worker.core.log import install_exception_hooks

    install_exception_hooks()
    gc.set_threshold(COMMAND_GC_THRESHOLD)
    try:
        cli.main(prog_name="tenant-mirror", standalone_mode=True)
    except MirrorError as error:
        from worker.ops.cli.output import print_error

        sys.exit(print_error(error))
    except OSError as error:
        from worker.core.process.disk import storage_full_from_oserror
        from worker.ops.cli.output import discard_stdout, print_error

        full = storage_full_from_oserror(error, "standard output")
        if full is None:
            raise
        discard_stdout()
        sys.exit(print_error(full))
    except KeyboardInterrupt:
        click.echo("stopped", err=True)
        sys.exit(130)
    finally:
        # The process ends, so collecting a hundred thousand objects would gain nothing.
        gc.freeze()
