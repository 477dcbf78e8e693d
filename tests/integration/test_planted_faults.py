"""Each fault among thousands of customers is found, with cause and remedy, by two commands."""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest
from click.testing import CliRunner

from models.api_token import Scope
from sandbox.servers import Servers
from sandbox.tenant import Nango, serve
from tests.support.databases import DatabaseFactory
from tests.support.fleet import revive_service
from tests.support.planted_faults import FAULT_NAMES, PlantedFault, fill_faulty_fleet
from tests.support.web import open_application
from worker.conditions.condition import Code
from worker.core.settings import load_settings
from worker.ops.cli import cli
from worker.store.engine import Database
from worker.wiring import close_runtime, open_runtime

NUMBER = 2000
WIDTH, HEIGHT = 80, 24


@dataclass(frozen=True)
class FaultyFleet:
    """Thousands of customers, and the environment of a command that looks at them."""

    database: Database
    environment: dict[str, str]
    faults: list[PlantedFault]

    def run(self, *words: str, **more: str) -> str:
        """Run a command in this process; return what it prints."""
        revive_service(self.database)
        done = CliRunner().invoke(cli, words, env=self.environment | more)
        assert done.exit_code == 0, done.output
        return done.stdout


@pytest.fixture(scope="module")
def faulty_fleet(cluster: DatabaseFactory, servers: Servers) -> Iterator[FaultyFleet]:
    url = cluster.create_migrated()
    with serve(Nango(rate_limit=None)) as server:
        environment = {
            "DATABASE_URL": url,
            "REDIS_URL": servers.redis_url,
            "NANGO_HOST": server.url,
            "NANGO_SECRET_KEY": server.nango.key,
        }
        runtime = open_runtime(
            load_settings(
                database_url=url,
                redis_url=servers.redis_url,
                nango_host=server.url,
                nango_secret_key=server.nango.key,
                retry_seconds=0.2,
            )
        )
        faults = fill_faulty_fleet(runtime, server.nango, NUMBER)
        yield FaultyFleet(runtime.database, environment, faults)
        close_runtime(runtime)
    cluster.drop(url)


@pytest.fixture(scope="module")
def screen(faulty_fleet: FaultyFleet) -> list[str]:
    """What a terminal of 80 columns and 24 lines shows of ``status``."""
    return faulty_fleet.run("status", COLUMNS=str(WIDTH), LINES=str(HEIGHT)).splitlines()


def test_one_screenful_names_every_fault_and_nothing_else(
    faulty_fleet: FaultyFleet, screen: list[str]
) -> None:
    assert len(screen) < HEIGHT
    assert max(map(len, screen)) <= WIDTH
    assert screen[0].startswith(
        f"{NUMBER:,} connections: {NUMBER - len(faulty_fleet.faults):,} fine"
    )
    row = re.compile(rf" *(\d+)  .{{20}}  ({'|'.join(Code)}) +\S")
    rows = {(int(found[1]), found[2]) for found in map(row.match, screen) if found}
    assert rows == {(one.connection_id, one.code.value) for one in faulty_fleet.faults}


@pytest.mark.parametrize("number", range(len(FAULT_NAMES)), ids=FAULT_NAMES)
def test_the_status_of_one_customer_has_cause_and_remedy_on_one_screen(
    faulty_fleet: FaultyFleet, number: int
) -> None:
    fault = faulty_fleet.faults[number]
    lines = faulty_fleet.run(
        "status", str(fault.connection_id), COLUMNS=str(WIDTH), LINES=str(HEIGHT)
    ).splitlines()
    shown = " ".join(" ".join(lines[:HEIGHT]).split())
    assert fault.code in shown
    assert fault.cause in shown
    assert fault.remedy in shown
    assert re.search(r"'tenant-mirror \w+|to the customer|continues by itself|delete one", shown)
    assert "now: " in shown, "it says what happens next"


def test_a_pipe_has_everything_and_so_have_programs(faulty_fleet: FaultyFleet) -> None:
    piped = faulty_fleet.run("status")
    told = json.loads(faulty_fleet.run("status", "--json"))
    rows = {one["id"]: one for one in told["connections"]}
    for fault in faulty_fleet.faults:
        assert fault.cause in piped
        assert fault.remedy in piped
        conditions = rows[fault.connection_id]["conditions"]
        assert fault.code in {one["code"] for one in conditions}
        assert rows[fault.connection_id]["needs_attention"]
    assert told["totals"]["need_attention"] == len(faulty_fleet.faults)


def test_the_api_alone_names_every_fault_with_cause_and_remedy(faulty_fleet: FaultyFleet) -> None:
    known = faulty_fleet.environment
    revive_service(faulty_fleet.database)
    web = open_application(
        load_settings(
            database_url=known["DATABASE_URL"],
            redis_url=known["REDIS_URL"],
            nango_host=known["NANGO_HOST"],
            nango_secret_key=known["NANGO_SECRET_KEY"],
        )
    )
    try:
        token = web.make_token(Scope.READ)
        fleet = web.client.get("/api/fleet", token=token).json
        listed = web.client.get("/api/connections", query={"attention": "true"}, token=token).json
    finally:
        web.close()
    assert (fleet["connections"], fleet["attention"]) == (NUMBER, len(faulty_fleet.faults))
    shown = {one["id"]: json.dumps(one["conditions"]) for one in listed["connections"]}
    assert shown.keys() == {one.connection_id for one in faulty_fleet.faults}
    for fault in faulty_fleet.faults:
        for words in (f'"{fault.code}"', fault.cause, fault.remedy):
            assert words in shown[fault.connection_id]


def test_a_customer_who_must_wait_says_until_when(faulty_fleet: FaultyFleet) -> None:
    (fault,) = (one for one in faulty_fleet.faults if one.code is Code.THROTTLED_BY_GRAPH)
    (row,) = json.loads(faulty_fleet.run("status", str(fault.connection_id), "--json"))[
        "connections"
    ]
    assert row["activity"]["state"] == "throttled"
    assert "as Graph asked" in row["activity"]["sentence"]
    # The pause in Redis is told to the second, if it ends after the due time.
    next_at, due_at = (
        datetime.fromisoformat(one) for one in (row["activity"]["next_at"], row["due_at"])
    )
    is_pause_end = next_at.microsecond == 0 and due_at < next_at < due_at + timedelta(seconds=1)
    assert next_at == due_at or is_pause_end


def test_a_look_at_thousands_takes_little_processor_time(faulty_fleet: FaultyFleet) -> None:
    before = time.process_time()
    faulty_fleet.run("status")
    assert time.process_time() - before < 3, "0.3 s on a machine that is not busy"
