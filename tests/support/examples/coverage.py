"""Answers about what is mirrored."""

from collections.abc import Mapping, Sequence
from typing import Final

from models.resources import RESOURCES
from tests.support.analysts import Analysts, Row
from tests.support.examples import Check
from tests.support.mirror import OFF


def what_is_missing(world: Analysts, rows: Sequence[Row]) -> None:
    """Of Fabrikam: what is off by default, and products, which it refuses."""
    found = {row["resource"]: (row["phase"], row["grant_this"]) for row in rows}
    assert {row["organization"] for row in rows} == {"Fabrikam"}
    assert found == {
        **dict.fromkeys(OFF, ("off", None)),
        "subscribed_skus": ("refused", "LicenseAssignment.Read.All"),
    }
    assert all(row["why"] for row in rows)


def history_begins(world: Analysts, rows: Sequence[Row]) -> None:
    told = {name for name, one in RESOURCES.items() if one.has_events}
    assert {row["resource"] for row in rows} == told
    assert all(row["without_gap_since"] for row in rows)


ANSWERS: Final[Mapping[str, Check]] = {
    "what-is-missing": what_is_missing,
    "history-begins": history_begins,
}
