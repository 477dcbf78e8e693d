"""Errors of Postgres as they may leave a transaction: without rows, parameters and statements.

The driver's message quotes them ("Failing row contains ...", "COPY users, line 3: ..."), and so do
the result that it keeps and SQLAlchemy's wrapper. What leaves is another error of the same class.
"""

from typing import Final

import psycopg

from worker.core.fault_text import SAFE_MESSAGE_FLAG, summarize_database_error

_PROCEDURAL_SOURCES: Final = "pl"
"""How files of Postgres begin that raise what functions ask them to."""


def strip_values(fault: psycopg.Error) -> psycopg.Error:
    """The same error with its SQL state and names only, and no trace of what it came from."""
    if getattr(fault, SAFE_MESSAGE_FLAG, False):
        return fault
    cleaned = type(fault)(summarize_database_error(fault))
    cleaned.sqlstate = fault.sqlstate
    setattr(cleaned, SAFE_MESSAGE_FLAG, True)
    return cleaned


def strip_text(fault: UnicodeError) -> UnicodeError:
    """The same failure without the text that could not be encoded or decoded."""
    return UnicodeError(str(fault))


def summarize_error(fault: psycopg.Error) -> str:
    """What went wrong, in the server's words; in ours where an operator's function may speak.

    A trigger can raise any SQL state, and quote rows with it.
    """
    if (fault.diag.source_file or "").startswith(_PROCEDURAL_SOURCES):
        return f"{type(fault).__name__}, {summarize_database_error(fault)}"
    line = str(fault).strip().split("\n", 1)[0]
    said = line.rpartition(":  ")[2] or type(fault).__name__
    return f"{said}, SQL state {fault.sqlstate}" if fault.sqlstate else said
