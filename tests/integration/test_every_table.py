"""Every table of every command at every width: no word is broken, nothing is lost, in a pipe too.

The longest values that occur are in it: names of 256 characters, ids without a blank, reasons of
several sentences.
"""

import re
from collections.abc import Callable, Iterator
from typing import Final

import pytest
from click.testing import CliRunner
from rich.cells import cell_len
from sqlalchemy import text

from sandbox.tenant import Tenant
from tests.support.mirror import MakeMirror, Mirror
from worker.core.settings import Settings
from worker.ops.cli import cli

WIDTHS: Final = (80, 100, 160)
ROOM_BELOW: Final = 6
"""Blanks before a line that stands below its row."""

GROWING: Final = re.compile(r"[0-9]+|[0-9]{2}:[0-9]{2}:[0-9]{2}")
"""An age or a moment, which is another one at the next call."""

LONG_ID: Final = "62e8e08e-bb85-4dcc-8d49-bb50177be443-" + "x" * 80
LONG_NAME: Final = "Møller \u202e& Söhne <script> " + "Gesellschaft für Verwaltung " * 8
REASON: Final = (
    "150 of 400 users would be deleted, which is more than 20 % and 50 rows; check whether the "
    "tenant deleted them, then run 'tenant-mirror approve' or 'tenant-mirror approve --reject'"
)

PLAIN: Final = {
    "connections list": [],
    "runs": ["1", "--limit", "5"],
    "sinks list": [],
    "settings": [],
    "audit": [],
    "tokens list": [],
    "operations list": [],
}
"""Commands that print a table and nothing else: no line of theirs is wider than the terminal."""

MIXED: Final = {
    "status": [],
    "status 1": [],
    "connections show": ["1"],
    "sinks show": ["s" * 63],
    "changes": ["1"],
    "runs --id": ["1"],
    "workers": [],
    "approve": ["1", "--list"],
    "erase": ["1", "--list"],
    "probe": ["1"],
    "operations show": ["1"],
}
"""Commands that print sentences beside their tables."""

STATEMENTS: Final = (
    """
    update sync.connections
       set display_name = :name, status_reason = :reason, settings_problem = :reason,
           nango_connection_id = :id
    """,
    "update sync.streams set reason = :reason",
    """
    insert into sync.runs (connection_id, trigger, state, error, finished_at, created, updated,
                           deleted, restored, objects, calls)
    select 1, 'scheduled', 'partial', :reason, now(), 1234567, 1234567, 1234567, 1234567,
           123456789, 1234567
      from generate_series(1, 5)
    """,
    """
    insert into events.sinks (name, kind, settings, status, status_reason, failures)
    values (repeat('s', 63), 'webhook', jsonb_build_object('url', 'https://hooks.example.com/a'),
            'active', :reason, 3)
    """,
    """
    insert into sync.audit (actor, via, action, connection_id, subject, outcome, detail)
    values (:name, 'cli', 'connections.approve-missing', 1, :id, 'failed', :reason)
    """,
    """
    insert into sync.workers (name, queues, processes, seen_at)
    values ('worker@' || repeat('w', 60), array['manual', 'scheduled', 'backfill', 'maintenance'],
            array[repeat('h', 60) || ':1:2:3'], now() + interval '1 hour')
    """,
    """
    insert into sync.removals (connection_id, resource, key, reason, held)
    select 1, 'users', id::text, 'removed', true from directory.users limit 20
    """,
    """
    update sync.leases set holder = repeat('h', 60) || ':1:2:3', expires_at = now() + interval '1 h'
    """,
    """
    insert into sync.api_tokens (id, name, digest, scopes, created_by, expires_at, last_used_at)
    values ('abcdefghijkl', repeat('n', 60), 'x', array['read', 'operate', 'metrics'], :actor,
            now(), now())
    """,
    """
    insert into sync.operations (action, state, parameters, actor, via, targets, error)
    values ('pause', 'failed', jsonb_build_object('reason', cast(:reason as text)), :actor, 'cli',
            1, :reason)
    """,
    """
    insert into sync.operation_targets (operation_id, connection_id, state, detail)
    select max(id), 1, 'failed', :reason from sync.operations
    """,
)

Show = Callable[[str, int | None], str]


@pytest.fixture
def show(make_mirror: MakeMirror, settings: Settings) -> Show:
    """Prints a table as on a terminal of this width; None: into a pipe."""
    mirror = make_mirror(Tenant(seed=9, users=30, groups=3, sites=2))
    mirror.sync()
    mirror.tenant.update_user(mirror.tenant.users.id_at(1), displayName="A" + "a" * 255)
    mirror.sync()
    fill(mirror)
    assert settings.database_url is not None
    assert settings.nango_secret_key is not None
    environment = {
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "NANGO_HOST": settings.nango_host,
        "NANGO_SECRET_KEY": settings.nango_secret_key.get_secret_value(),
    }

    def print_it(command: str, width: int | None) -> str:
        arguments = [*command.split(), *(PLAIN | MIXED)[command]]
        size = {} if width is None else {"COLUMNS": str(width)}
        done = CliRunner().invoke(cli, arguments, env={**environment, **size})
        assert done.stdout, f"{command}: {done.output}{done.exception!r}"
        return done.stdout

    return print_it


def fill(mirror: Mirror) -> None:
    values = {"name": LONG_NAME, "reason": REASON, "id": LONG_ID, "actor": "operator-" * 8}
    with mirror.database.open_transaction() as db:
        for statement in STATEMENTS:
            db.execute(text(statement), values)


def list_words(printed: str) -> Iterator[str]:
    yield from re.split(r"[\s]+", printed)


def find_broken_words(printed: str, piped: str, width: int) -> list[str]:
    """Return the words that are printed, and that the same output in a pipe does not have."""
    whole = {word.rstrip(":") for word in list_words(piped)}
    return sorted(
        word
        for word in set(list_words(printed))
        if not GROWING.fullmatch(word)
        and word.rstrip(":") not in whole
        and not any(len(one) > width - ROOM_BELOW and word.rstrip(":") in one for one in whole)
    )


def test_no_word_of_any_table_is_broken_at_any_width(show: Show) -> None:
    for command in (*PLAIN, *MIXED):
        piped = show(command, None)
        lines = piped.splitlines()
        assert not [one for one in lines if one != one.rstrip()], f"{command}: blanks at the end"
        for width in WIDTHS:
            printed = show(command, width)
            broken = find_broken_words(printed, piped, width)
            assert not broken, f"{command} at {width}: {broken[:5]}"
            if command in PLAIN:
                wide = [one for one in printed.splitlines() if cell_len(one) > width]
                assert not wide, f"{command} at {width}: {wide[0]}"


def test_every_row_is_a_line_in_a_pipe(show: Show) -> None:
    assert len(show("runs", None).splitlines()) == 1 + 5
    assert len(show("connections list", None).splitlines()) == 1 + 1
    assert LONG_ID in show("connections list", None)
    assert REASON.strip() in show("runs", None)
