"""Answers about what changed."""

from collections.abc import Mapping, Sequence
from typing import Final

from tests.support.analysts import Analysts, Row
from tests.support.examples import Check


def deleted_accounts(world: Analysts, rows: Sequence[Row]) -> None:
    (row,) = rows
    assert (row["organization"], row["display_name"]) == ("Contoso", "Gone Away")
    assert row["deleted_reason"] == "soft_deleted"
    assert (row["can_be_restored_until"] - row["deleted_at"]).days == 30


def access_changes(world: Analysts, rows: Sequence[Row]) -> None:
    found = {(row["change"], row["principal_name"], row["target_name"]) for row in rows}
    assert found >= {
        ("gained", "Anna Berg", "Finance"),
        ("lost", "Cleo Lind", "Finance"),
        ("gained", "Anna Berg", "Keeper of keys"),
        ("gained", "Cleo Lind", "Keeper of keys"),
    }
    assert len(rows) == 7


def changes_of_a_person(world: Analysts, rows: Sequence[Row]) -> None:
    """Their own properties, and what they gained, in the order in which it was seen."""
    sentences = [row["sentence"] for row in rows]
    assert "Anna Berg: job title was changed from Clerk to Judge" in sentences
    assert "Anna Berg was added to the group Finance" in sentences
    assert all(one.startswith("Anna Berg") for one in sentences)
    assert len(sentences) == 6
    times = [row["occurred_at"] for row in rows]
    assert times == sorted(times)


def joiners_and_leavers(world: Analysts, rows: Sequence[Row]) -> None:
    names = ("joined", "deleted", "restored", "enabled", "disabled")
    assert [sum(row[name] for row in rows) for name in names] == [1, 1, 0, 0, 1]


def movers(world: Analysts, rows: Sequence[Row]) -> None:
    columns = ("object_name", "property", "old_value", "new_value")
    found = sorted(tuple(row[name] for name in columns) for row in rows)
    assert found == [
        ("Anna Berg", "job_title", "Clerk", "Judge"),
        ("Bert Holm", "department", "Law", "Sales"),
    ]


def growing_groups(world: Analysts, rows: Sequence[Row]) -> None:
    finance = next(row for row in rows if row["group_id"] == world.ids["finance"])
    assert (finance["group_name"], finance["joined"], finance["left_it"]) == ("Finance", 1, 1)


ANSWERS: Final[Mapping[str, Check]] = {
    "deleted-accounts": deleted_accounts,
    "access-changes": access_changes,
    "changes-of-a-person": changes_of_a_person,
    "joiners-and-leavers": joiners_and_leavers,
    "movers": movers,
    "growing-groups": growing_groups,
}
