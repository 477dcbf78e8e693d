"""What counts as privileged: lists that ship, that people edit, and that migrations renew."""

from collections.abc import Iterator

import pytest
from sqlalchemy import text

from models.privileges import PRIVILEGE_LISTS
from tests.support.mirror import fetch_scalar
from tests.support.story import StoryMirror
from worker.ops.schema.migrate import migrate
from worker.store.engine import Database

GLOBAL = "62e90394-69f5-4237-9190-012177145e10"
PRIVILEGED = """
    select display_name, counted_by from analytics.role_definitions
     where is_privileged order by display_name
"""


def execute(database: Database, statement: str) -> None:
    with database.open_transaction() as db:
        db.execute(text(statement))


@pytest.fixture
def edited(alpine: StoryMirror) -> Iterator[Database]:
    """A database whose lists may be edited: they are as shipped afterwards."""
    yield alpine.database
    for shipped in PRIVILEGE_LISTS:
        execute(alpine.database, f"delete from analytics.{shipped.table.name}")
    migrate(alpine.database)


def test_roles_are_privileged_by_name_lists_and_own_roles_by_their_actions(
    alpine: StoryMirror,
) -> None:
    assert [tuple(row.values()) for row in alpine.ask(PRIVILEGED)] == [
        ("Application Administrator", "cisa, microsoft"),
        ("Global Administrator", "cisa, microsoft"),
        ("Global Reader", "microsoft"),
        ("Helpdesk Administrator", "microsoft"),
        ("Key Keeper", "microsoft"),
        ("Privileged Role Administrator", "cisa, microsoft"),
        ("User Administrator", "cisa, microsoft"),
    ]


def test_a_list_has_each_entry_once_and_says_of_which_day_it_is(alpine: StoryMirror) -> None:
    for shipped in PRIVILEGE_LISTS:
        (row,) = alpine.ask(
            f"select count(*) as number, min(as_of) as day from analytics.{shipped.table.name}"
            f" where source = '{shipped.source}'"
        )
        assert (row["number"], row["day"]) == (len(shipped.names), shipped.as_of)
    assert {len(one.names) for one in PRIVILEGE_LISTS} == {29, 8, 21, 20}


def test_what_people_edit_outlives_a_migration(edited: Database) -> None:
    execute(
        edited,
        "insert into analytics.privileged_roles (template_id, source, role_name)"
        " values ('11111111-0000-4000-8000-000000000000', 'ours', 'Ours'),"
        f" ('{GLOBAL}', 'ours', 'Global Administrator')",
    )
    execute(
        edited,
        "update analytics.privileged_roles set is_counted = false, role_name = 'Odd'"
        " where source = 'microsoft' and role_name = 'Global Reader'",
    )
    execute(
        edited,
        "insert into analytics.privileged_roles (template_id, source, role_name)"
        " values ('22222222-0000-4000-8000-000000000000', 'microsoft', 'No longer in it')",
    )
    migrate(edited)
    kept = "select count(*) from analytics.privileged_roles where source = 'ours'"
    assert fetch_scalar(edited, kept) == 2
    reader = (
        "select is_counted::text || role_name from analytics.privileged_roles"
        " where source = 'microsoft' and template_id = 'f2ef992c-3afb-46b9-b7cf-a126ee74c451'"
    )
    assert fetch_scalar(edited, reader) == "falseGlobal Reader"
    gone = "select count(*) from analytics.privileged_roles where role_name = 'No longer in it'"
    assert fetch_scalar(edited, gone) == 0
    with edited.open_transaction() as db:
        found = {row.display_name: row.counted_by for row in db.execute(text(PRIVILEGED))}
    assert found["Global Administrator"] == "cisa, microsoft, ours"
    assert "Global Reader" not in found
