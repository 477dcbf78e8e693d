"""A database that quotes a person's row in its errors: no process writes it anywhere."""

import subprocess

import pytest
from sqlalchemy import text

from models.sink import SinkKind
from tests.support.fork_server import run_command
from tests.support.mirror import Mirror
from tests.support.postgres_errors import CANARY
from tests.support.service import Service, wait_until
from worker.delivery.settings import build_stored_settings
from worker.delivery.store.admin import NewSink, add_sink

STATE = "P0001"

BREAK = """
    create function public.quote_row() returns trigger language plpgsql as $$
    begin raise exception 'row: %', new using detail = new.display_name; end $$;
    create trigger refuse before update on directory.users
        for each row execute function public.quote_row();
    create function public.quote_events() returns trigger language plpgsql as $$
    begin raise exception 'events: %', (select string_agg(after::text, ' ')
        from events.change_events); end $$;
    create trigger refuse before insert on events.positions
        for each row execute function public.quote_events();
    create function public.quote_users() returns event_trigger language plpgsql as $$
    begin raise exception 'users: %', (select string_agg(display_name, ' ') from directory.users);
    end $$
"""
ON_DDL = "create event trigger refuse on ddl_command_start execute function public.quote_users()"


def execute(mirror: Mirror, *statements: str) -> None:
    with mirror.database.open_transaction() as db:
        for statement in statements:
            db.execute(text(statement))


def call(service: Service, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_command(arguments, service.environment, seconds=120)


@pytest.fixture
def quoting(mirror: Mirror) -> Mirror:
    """A mirror of a person that cannot be changed, delivered or migrated any more."""
    tenant = mirror.tenant
    person = tenant.users.id_at(3)
    tenant.update_user(person, displayName=CANARY)
    mirror.sync("users")
    feed = NewSink("feed", SinkKind.REDIS_STREAM, build_stored_settings(SinkKind.REDIS_STREAM, {}))
    with mirror.database.open_transaction() as db:
        add_sink(db, feed, None)
        db.execute(text("delete from events.positions"))
    execute(mirror, BREAK, ON_DDL)
    tenant.update_user(person, displayName=f"{CANARY} again")
    return mirror


def test_no_process_writes_a_row_that_postgres_quotes(service: Service, quoting: Mirror) -> None:
    synced = call(service, "sync", "contoso")
    migrated = call(service, "migrate", "--to", "0014")
    for done in (synced, migrated):
        assert done.returncode == 1
        assert f"SQL state {STATE}" in done.stderr
        assert CANARY not in done.stdout + done.stderr
    execute(quoting, "drop event trigger refuse")
    due = "update sync.connections set due_at = now(), status_reason = null"
    execute(quoting, due, "update sync.streams set due_at = now()")
    service.start_all()
    service.start_relay()
    failed = f"SQL state {STATE}"
    wait_until(lambda: failed in service.read_log("worker"), 90, "a fault of the worker")
    wait_until(lambda: failed in service.read_log("relay"), 90, "a fault of the relay")
    for log in service.logs.glob("*.log"):
        assert CANARY not in log.read_text(errors="replace"), log.name
