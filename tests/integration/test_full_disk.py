"""A disk of Postgres that is full: named, survived, and gone on from by itself."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner

from models.run import RunTrigger
from sandbox.servers.server_user import choose_server_user
from sandbox.tenant import Tenant
from tests.integration.test_faults import due_in, execute, newest_run, run_by_the_clock
from tests.support.mirror import MakeMirror, Mirror, assert_exact
from tests.support.small_disk import fill_disk, mount_small_disk
from worker.core.errors import StorageFull
from worker.ops.cli.status import status
from worker.sync.run import run_slice

WORDS = "no space left on a disk of Postgres"


@contextmanager
def refusing(mirror: Mirror, table: str, state: str = "53100") -> Iterator[None]:
    """As long as this lasts, whatever is written to a table meets a full disk."""
    execute(
        mirror,
        f"""
        create function public.full() returns trigger language plpgsql as $$
        begin raise exception 'row: %', new using errcode = '{state}'; end $$;
        create trigger full_disk before insert or update or delete on {table} for each row
          execute function public.full()
        """,
    )
    yield
    execute(mirror, "drop function public.full() cascade")


def told_by_status(database_url: str) -> str:
    environment = {"DATABASE_URL": database_url}
    return CliRunner().invoke(status, [], env=environment, catch_exceptions=False).output


def change(mirror: Mirror) -> None:
    tenant = mirror.tenant
    tenant.create_user(displayName="Ada Quill")
    tenant.update_user(tenant.users.id_at(3), jobTitle="Clerk")
    tenant.delete_user(tenant.users.id_at(5))


@pytest.mark.parametrize("state", ["53100", "53200", "53400"])
def test_a_slice_that_meets_a_full_disk_says_so_and_is_tried_again(
    mirror: Mirror, database_url: str, state: str
) -> None:
    change(mirror)
    with refusing(mirror, "directory.users", state):
        with pytest.raises(StorageFull, match="Postgres"):
            run_by_the_clock(mirror)
        ended, error = newest_run(mirror)
        assert ended == "failed"
        assert "Ada" not in str(error)
        assert 30 < due_in(mirror) <= 60
        assert str(error) in told_by_status(database_url)
    run_by_the_clock(mirror)
    assert_exact(mirror.database, mirror.tenant)
    assert "last run failed" not in told_by_status(database_url)


@pytest.mark.parametrize(
    "table",
    ["directory.groups", "directory.group_members", "events.change_events", "sync.streams"],
)
def test_whatever_table_has_no_room_the_mirror_is_exact_afterwards(
    mirror: Mirror, table: str
) -> None:
    mirror.tenant.mutate(60)
    with refusing(mirror, table), pytest.raises(StorageFull, match=WORDS):
        mirror.sync()
    mirror.sync()
    assert_exact(mirror.database, mirror.tenant)


@pytest.mark.parametrize("table", ["sync.runs", "sync.leases", "sync.connections"])
def test_books_that_cannot_be_kept_break_nothing(mirror: Mirror, table: str) -> None:
    change(mirror)
    with refusing(mirror, table), pytest.raises(StorageFull, match=WORDS):
        run_slice(mirror.runtime, 1, trigger=RunTrigger.SCHEDULED)
    mirror.sync()
    assert_exact(mirror.database, mirror.tenant)


@pytest.mark.parametrize(("state", "words"), [("58030", "fails to read"), ("XX002", "REINDEX")])
def test_a_disk_that_fails_is_named(mirror: Mirror, state: str, words: str) -> None:
    change(mirror)
    with refusing(mirror, "directory.users", state):
        assert words in str(mirror.sync().message)
    mirror.sync()
    assert_exact(mirror.database, mirror.tenant)


def test_each_attempt_asks_graph_for_little(mirror: Mirror) -> None:
    change(mirror)
    mirror.take_call_count()
    with refusing(mirror, "directory.users"), pytest.raises(StorageFull):
        run_by_the_clock(mirror)
    assert mirror.take_call_count() <= 2


def test_a_tablespace_on_a_full_disk(
    make_mirror: MakeMirror, database_url: str, home: Path
) -> None:
    """A real full disk, so that the states and paths are those that Postgres gives."""
    mirror = make_mirror(Tenant(seed=5, users=1500, groups=6))
    with mount_small_disk(home / f"small-{os.getpid()}", 3) as disk:
        owner = choose_server_user(home / "18" / "postgres")
        os.chown(disk, owner.uid, owner.gid)
        with tablespace(mirror, disk):
            filler = fill_disk(disk)
            with pytest.raises(StorageFull) as met:
                mirror.sync()
            assert "(SQL state 53100, file pg_tblspc/" in str(met.value)
            assert WORDS in told_by_status(database_url)
            filler.unlink()
            mirror.sync()
            assert_exact(mirror.database, mirror.tenant)


@contextmanager
def tablespace(mirror: Mirror, disk: Path) -> Iterator[None]:
    """The users' table lies on that disk."""
    url = mirror.runtime.settings.database_url
    assert url is not None
    name = f"small_{os.getpid()}"
    run_outside(url.get_secret_value(), f"create tablespace {name} location '{disk}'")
    execute(mirror, f"alter table directory.users set tablespace {name}")
    try:
        yield
    finally:
        execute(mirror, "alter table directory.users set tablespace pg_default")
        run_outside(url.get_secret_value(), f"drop tablespace {name}")


def run_outside(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement.encode())


def test_status_for_programs_has_the_reason(mirror: Mirror, database_url: str) -> None:
    change(mirror)
    with refusing(mirror, "directory.users"), pytest.raises(StorageFull):
        run_by_the_clock(mirror)
    done = CliRunner().invoke(status, ["--json"], env={"DATABASE_URL": database_url})
    told = json.loads(done.output)
    assert any(WORDS in one for one in told["connections"][0]["attention"])
    assert told["no_room"] is None, "nothing is shared without a Redis"
