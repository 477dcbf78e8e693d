"""Which revision is asked for, and what is said of those who hold a migration up."""

import pytest

from worker.core.errors import NotFound
from worker.ops.schema.revisions import explain_lock_wait, is_upgrade, resolve_revision
from worker.store.migration_lock import LockHolder

KNOWN = ["0001", "0002", "0003"]


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [("head", "0003"), ("base", None), ("0002", "0002"), ("2", "0002"), ("002", "0002")],
)
def test_a_revision_may_be_written_in_several_ways(asked: str, wanted: str | None) -> None:
    assert resolve_revision(asked, "0001", KNOWN) == wanted


@pytest.mark.parametrize("asked", ["4", "0000", "+1", "HEAD", "", "\N{SUPERSCRIPT TWO}"])
def test_what_is_no_revision_is_unknown(asked: str) -> None:
    with pytest.raises(NotFound, match="knows 0001 to 0003"):
        resolve_revision(asked, None, KNOWN)


@pytest.mark.parametrize(
    ("present", "wanted", "up"),
    [
        (None, "0001", True),
        (None, None, True),
        ("0001", "0003", True),
        ("0002", "0002", True),
        ("0003", "0001", False),
        ("0001", None, False),
    ],
)
def test_the_way_follows_from_where_the_database_is(
    present: str | None, wanted: str | None, up: bool
) -> None:
    assert is_upgrade(present, wanted) is up


def test_a_holder_is_described_so_that_a_person_can_end_it() -> None:
    said = explain_lock_wait([LockHolder(71, "psql", "ana", "idle in transaction", 754.2)], "0002")
    assert said.splitlines() == [
        "the migration gave up at schema 0002: it waited for another session",
        (
            "  process 71, application psql, role ana, idle in transaction, in a transaction for"
            " 12 min (to end it: select pg_terminate_backend(71))"
        ),
        (
            "wait until they have ended, or end them, then run 'tenant-mirror migrate' again:"
            " it continues from here, and nothing is lost"
        ),
    ]


def test_what_our_role_may_not_see_is_said_to_be_hidden() -> None:
    said = explain_lock_wait([LockHolder(71, None, None, None, None)], None)
    assert "at schema none" in said
    assert "application unnamed, role unknown, state not visible to our role" in said


def test_a_prepared_transaction_has_no_process_to_end() -> None:
    said = explain_lock_wait([LockHolder(0, None, None, None, None)], "0005")
    assert "pg_prepared_xacts" in said
    assert "pg_terminate_backend" not in said


def test_of_many_holders_the_first_are_described() -> None:
    holders = [LockHolder(pid, "app", "r", "active", 9.0) for pid in range(1, 7)]
    said = explain_lock_wait(holders, "0005")
    assert "it waited for 6 other sessions" in said
    assert "process 3" in said
    assert "process 4" not in said
    assert "and 3 more" in said


def test_names_that_other_programs_give_themselves_do_not_steer_the_terminal() -> None:
    said = explain_lock_wait([LockHolder(71, "a\x1b[2J\nb", "r", "active", 1.0)], "0005")
    assert "\x1b" not in said
    assert len(said.splitlines()) == 3
