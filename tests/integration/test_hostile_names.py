"""Names that customers choose are stored as they are, and control neither terminal nor log line."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from click.testing import CliRunner
from sqlalchemy import func, select

from models.change_event import change_events
from models.connection import connections
from models.run import RunTrigger
from sandbox.tenant import Nango, serve
from sandbox.tenant.hostile import HOSTILE_NAMES, build_hostile_nango
from tests.support.databases import DatabaseFactory
from tests.support.fork_server import run_command
from tests.support.mirror import assert_exact
from worker.core.settings import load_settings
from worker.ops.cli import cli
from worker.store.engine import Database
from worker.sync.connections.discover import discover
from worker.sync.run import run_slice
from worker.wiring import close_runtime, open_runtime

COMMANDS = (
    "audit",
    "changes {id} --since 1d",
    "connections list",
    "connections show {id}",
    "doctor",
    "metrics",
    "operations list",
    "operations show 1",
    "runs {id}",
    "settings",
    "sinks list",
    "sinks show hooks",
    "status",
    "status --all",
    "status {id}",
    "verify {id}",
    "workers",
)
NO_JSON = {"metrics"}


@dataclass(frozen=True)
class HostileFleet:
    database: Database
    nango: Nango
    environment: dict[str, str]
    numbers: dict[str, int]
    """Our id of each customer, by name."""

    def run(self, words: str, **more: str) -> str:
        done = CliRunner().invoke(cli, words.split(), env=self.environment | more)
        assert done.exit_code == (3 if words.startswith("doctor") else 0), f"{words}: {done.output}"
        return done.output


@pytest.fixture(scope="module")
def fleet(cluster: DatabaseFactory) -> Iterator[HostileFleet]:
    url = cluster.create_migrated()
    with serve(build_hostile_nango()) as server:
        runtime = open_runtime(
            load_settings(
                database_url=url, nango_host=server.url, nango_secret_key=server.nango.key
            )
        )
        discover(runtime.database, runtime.nango, runtime.settings)
        columns = connections.c
        with runtime.database.open_transaction() as db:
            ids = dict(db.execute(select(columns.nango_connection_id, columns.id)).all())
        for number in ids.values():
            run_slice(runtime, number, trigger=RunTrigger.BACKFILL)
        numbers = {
            one.tenant.display_name: ids[one.connection_id] for one in server.nango.connections
        }
        made = HostileFleet(runtime.database, server.nango, {"DATABASE_URL": url}, numbers)
        for number in sorted(ids.values()):
            made.run(f"resume {number}")
        made.run("sinks add hooks --kind webhook --url https://example.com/hooks")
        yield made
        close_runtime(runtime)
    cluster.drop(url)


def list_raw_lines(text: str) -> list[str]:
    return [line for line in text.split("\n") if not line.isprintable()]


@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=ascii)
def test_a_name_is_stored_exactly_and_no_output_has_its_control_characters(
    fleet: HostileFleet, name: str
) -> None:
    number = fleet.numbers[name]
    tenant = next(one.tenant for one in fleet.nango.connections if one.tenant.display_name == name)
    with fleet.database.open_transaction() as db:
        query = select(connections.c.display_name).where(connections.c.id == number)
        assert db.execute(query).scalar_one() == name
    assert_exact(fleet.database, tenant, number)
    for command in COMMANDS:
        if "{id}" not in command:
            continue
        words = command.format(id=number)
        for width in ({}, {"COLUMNS": "80", "LINES": "24"}):
            assert list_raw_lines(fleet.run(words, **width)) == [], words
        assert list_raw_lines(fleet.run(f"{words} --json")) == [], words


@pytest.mark.parametrize("command", [one for one in COMMANDS if "{id}" not in one])
def test_lists_have_no_control_characters(fleet: HostileFleet, command: str) -> None:
    for width in ({}, {"COLUMNS": "80", "LINES": "24"}, {"COLUMNS": "100", "LINES": "200"}):
        assert list_raw_lines(fleet.run(command, **width)) == []
    if command not in NO_JSON:
        assert list_raw_lines(fleet.run(f"{command} --json")) == []


@pytest.mark.parametrize("option", [[], ["--json"]], ids=["text", "json"])
def test_events_of_all_customers_are_one_printable_line_each(
    fleet: HostileFleet, option: list[str]
) -> None:
    words = ["events", "tail", "--last", "1000", *option]
    done = run_command(words, {**fleet.environment, "PYTHONUTF8": "1"})
    assert done.returncode == 0, done.stderr
    lines = done.stdout.rstrip("\n").split("\n")
    with fleet.database.open_transaction() as db:
        number = db.execute(select(func.count()).select_from(change_events)).scalar_one()
    assert len(lines) == number
    assert list_raw_lines(done.stdout) == []


def test_programs_get_the_names_exactly(fleet: HostileFleet) -> None:
    rows = json.loads(fleet.run("status --json"))["connections"]
    assert {one["id"]: one["display_name"] for one in rows} == {
        number: name for name, number in fleet.numbers.items()
    }
    problems = {one["id"]: one["settings_problem"] for one in rows}
    assert all(problems.values())
