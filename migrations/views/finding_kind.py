"""What a kind of finding is declared as, and SQL that several of them use."""

from dataclasses import dataclass
from typing import Final

ONE_ROW: Final = "unnest(array[true])"
"""Postgres plans a query without a table as it stands, also one whose condition never holds."""


@dataclass(frozen=True, kw_only=True)
class FindingKind:
    """A kind of finding, about those rows ``t`` of its source for which ``where`` holds."""

    code: str
    meaning: str
    severity: str
    needs: tuple[str, ...]
    """The resources that it is told from: all must have been read completely."""
    source: str
    """SQL from ``from`` on, without the condition."""
    where: str = "true"
    beside: str = ""
    """SQL of rows that belong to a row ``t``. With it, the source is read once for all kinds that
    have the same one, and only rows for which ``where`` holds come that far."""
    about: str
    """SQL of the type, the id and the name of the object."""
    sentence: str
    """SQL of the sentence without its first word, the name."""
    since: str = "null::timestamptz"


def count_noun(number: str, noun: str) -> str:
    """Return SQL of a number with its noun."""
    return f"{number} || case when {number} = 1 then ' {noun}' else ' {noun}s' end"


def format_day(moment: str) -> str:
    """Return SQL of a day in UTC."""
    return f"to_char({moment} at time zone 'UTC', 'YYYY-MM-DD')"
