"""Errors of Postgres as they may leave a transaction: without rows, parameters and statements.

The driver's message quotes them ("Failing row contains ...", "COPY users, line 3: ..."), and so do
the result that it keeps and SQLAlchemy's wrapper. What leaves is another error of the same class.
"""

from typing import Final

import psycopg

from worker.core.fault_text import NAMES_ONLY, facts

_LANGUAGES: Final = "pl"
"""How files of Postgres begin that raise what functions ask them to."""


def names_only(fault: psycopg.Error) -> psycopg.Error:
    """The same error with its SQL state and names only, and no trace of what it came from."""
    if getattr(fault, NAMES_ONLY, False):
        return fault
    cleaned = type(fault)(facts(fault))
    cleaned.sqlstate = fault.sqlstate
    setattr(cleaned, NAMES_ONLY, True)
    return cleaned


def without_object(fault: UnicodeError) -> UnicodeError:
    """The same failure without the text that could not be encoded or decoded."""
    return UnicodeError(str(fault))


def first_line(fault: psycopg.Error) -> str:
    """What went wrong, in the server's words; in ours where an operator's function may speak.

    A trigger can raise any SQL state, and quote rows with it.
    """
    if (fault.diag.source_file or "").startswith(_LANGUAGES):
        return f"{type(fault).__name__}, {facts(fault)}"
    line = str(fault).strip().split("\n", 1)[0]
    said = line.rpartition(":  ")[2] or type(fault).__name__
    return f"{said}, SQL state {fault.sqlstate}" if fault.sqlstate else said
