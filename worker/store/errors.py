"""Translation of Postgres errors, which removes rows, parameters and statements from them.

The driver's message quotes those ("Failing row contains ...", "COPY users, line 3: ..."), and so do
the result that it keeps and SQLAlchemy's wrapper. Callers get a new error of the same class.
"""

import re
from collections.abc import Iterable
from typing import Final

import psycopg
from sqlalchemy.exc import DBAPIError

from worker.core.error_text import SAFE_MESSAGE_FLAG, summarize_database_error
from worker.core.errors import (
    ConfigurationError,
    MirrorError,
    RetryLater,
    ServerUnavailable,
    StorageFull,
)
from worker.store.libpq import InvalidConnectionParameters

_PROCEDURAL_SOURCES: Final = "pl"
"""Prefix of Postgres source files (``pl_exec.c`` ...) that raise errors of SQL functions."""


def strip_values(error: psycopg.Error) -> psycopg.Error:
    """Return the error with only its SQL state and names, without a link to the original."""
    if getattr(error, SAFE_MESSAGE_FLAG, False):
        return error
    cleaned = type(error)(summarize_database_error(error))
    cleaned.sqlstate = error.sqlstate
    setattr(cleaned, SAFE_MESSAGE_FLAG, True)
    return cleaned


def strip_text(error: UnicodeError) -> UnicodeError:
    """Return the error without the text that could not be encoded or decoded."""
    return UnicodeError(str(error))


def summarize_error(error: psycopg.Error) -> str:
    """Return the server's message, or only class and names if a SQL function raised the error.

    An operator's trigger can raise any SQL state, and its message can quote rows.
    """
    if (error.diag.source_file or "").startswith(_PROCEDURAL_SOURCES):
        return f"{type(error).__name__}, {summarize_database_error(error)}"
    line = str(error).strip().split("\n", 1)[0]
    said = line.rpartition(":  ")[2] or type(error).__name__
    return f"{said}, SQL state {error.sqlstate}" if error.sqlstate else said


_DRIVER_ERRORS = (
    psycopg.DataError,
    psycopg.IntegrityError,
    psycopg.ProgrammingError,
    psycopg.NotSupportedError,
)
"""Errors that the driver raises by itself, without a SQL state, before anything is sent."""

_POOLER_LOGIN_MESSAGES: Final = (
    "does not exist",
    "authentication failed",
    "no pg_hba.conf entry",
    "no password supplied",
    "no such database",
    "no such user",
    "user not found",
    "endpoint ID is not specified",
)
"""Texts of poolers (always English) that refuse a login with an unspecific SQL state."""

_VAGUE_STATES: Final = ("", "08P01", "XX000")
"""SQL states that poolers use for any reason; Postgres itself is always more specific."""

_PARAMETER_STATES: Final = ("42704", "22", "42601", "42602", "55P02", "0A000")
"""SQL states of a refused connection parameter: unknown, wrong, or not allowed to change."""

READ_ONLY_STATE: Final = "25006"
"""A primary that has become a standby; its pooled connections would keep failing."""

_UNAVAILABLE_STATES = ("08", "53", "57P", READ_ONLY_STATE, "25P03", "25P04", "58000")
"""Server lost or overloaded, a standby, or a session ended for idling."""


_DATA_STATES: Final = ("21", "22", "23", "44", "54")
"""Classes of SQL states that concern the values sent, not the statement."""


def translate_error(error: Exception, place: str) -> Exception:
    """Return a database error as a MirrorError, or the same error with its names only."""
    try:
        if isinstance(error, psycopg.Error):
            return _classify_error(error, place)
        return _translate_wrapped(error, place)
    except psycopg.Error as bug:
        return strip_values(bug)


def _translate_wrapped(error: Exception, place: str) -> MirrorError:
    """Translate an error that SQLAlchemy has wrapped."""
    if isinstance(error, DBAPIError) and isinstance(error.orig, psycopg.Error):
        return _classify_error(error.orig, place)
    return ServerUnavailable(f"Postgres at {place} has no free connection", after=30)


def _classify_error(error: psycopg.Error, place: str) -> MirrorError:
    """Return the MirrorError for a psycopg error; raise bugs (such as bad SQL) unchanged."""
    state = error.sqlstate or ""
    if _is_parameter_refused(error, state):
        return ConfigurationError(
            f"Postgres at {place} rejects a connection parameter ({summarize_error(error)}); "
            "remove it from DATABASE_URL and from the PG... variables of the environment"
        )
    if _is_login_refused(error, state):
        return ConfigurationError(
            f"Postgres at {place} refused the login: {summarize_error(error)}"
        )
    if state in ("42P01", "3F000", "42703"):
        return ConfigurationError(
            f"Postgres at {place} has no tables of Tenant Mirror (SQL state {state}); "
            "run 'tenant-mirror migrate'"
        )
    if state == "42501":
        return ConfigurationError(
            f"Postgres at {place} denies the role a permission: {summarize_error(error)}"
        )
    if (temporary := _classify_temporary(error, state, place)) is not None:
        return temporary
    is_lost = error.pgconn is not None or not (state or isinstance(error, _DRIVER_ERRORS))
    if state.startswith(_UNAVAILABLE_STATES) or is_lost:
        return ServerUnavailable(
            f"Postgres at {place} cannot be reached: {summarize_error(error)}", after=10
        )
    raise error


def _classify_temporary(error: psycopg.Error, state: str, place: str) -> MirrorError | None:
    """Return the MirrorError for a temporary error or a lack of resources, else None."""
    if state in ("40001", "40P01", "55P03", "57014"):
        return RetryLater(f"Postgres cancelled a statement ({summarize_error(error)})", after=5)
    return classify_resource_error(state, place, summarize_error(error))


def get_sql_state(error: BaseException) -> str | None:
    """Return the SQL state of a database error, wrapped by SQLAlchemy or not; else None."""
    origin = error.orig if isinstance(error, DBAPIError) else error
    return origin.sqlstate if isinstance(origin, psycopg.Error) else None


def is_data_error(error: BaseException) -> bool:
    """Whether an error concerns values that Postgres or the driver does not accept."""
    if isinstance(error, UnicodeError | OverflowError | RecursionError):
        return True
    origin = error.orig if isinstance(error, DBAPIError) else error
    if not isinstance(origin, psycopg.Error):
        return False
    state = origin.sqlstate or ""
    return state.startswith(_DATA_STATES) if state else isinstance(origin, psycopg.DataError)


def _is_login_refused(error: psycopg.Error, state: str) -> bool:
    if state not in _VAGUE_STATES:
        return state.startswith("28") or state == "3D000"
    asked = error.pgconn is not None and error.pgconn.needs_password
    return asked or _has_vague_words(error, state, _POOLER_LOGIN_MESSAGES)


def _is_parameter_refused(error: psycopg.Error, state: str) -> bool:
    """Whether a connection was refused for its parameters, not its credentials."""
    if isinstance(error, InvalidConnectionParameters):
        return True
    if error.pgconn is not None and state.startswith(_PARAMETER_STATES):
        return True
    return _has_vague_words(error, state, ("startup parameter",))


def _has_vague_words(error: psycopg.Error, state: str, words: Iterable[str]) -> bool:
    """Whether an error without a specific SQL state contains one of the texts."""
    vague = state == "" or (state in _VAGUE_STATES and error.pgconn is not None)
    return vague and any(word in str(error) for word in words)


STORAGE_FULL_PAUSE: Final = 60.0
"""Seconds before the next attempt: each one fetches a page that may not fit on the disk."""
DISK_FAILURE_PAUSE: Final = 300.0

_NO_ROOM: Final = {
    "53100": (
        "no space left on a disk of Postgres at {place}{detail}; free some space or enlarge it; "
        "the service then continues by itself"
    ),
    "53200": (
        "Postgres at {place} has no memory left{detail}; give it more, or lower its work_mem and "
        "max_connections"
    ),
    "53400": (
        "Postgres at {place} has reached a limit of its configuration, such as "
        "temp_file_limit{detail}; raise it"
    ),
}
_DISK_FAILURES: Final = {
    "58030": (
        "a disk of Postgres at {place} fails to read or write{detail}; see Postgres's own log, and "
        "check that disk"
    ),
    "XX001": (
        "Postgres at {place} has damaged data{detail}; see its log, and restore it from a backup"
    ),
    "XX002": "an index of Postgres at {place} is damaged{detail}; rebuild it with REINDEX",
}
STATES: Final = (*_NO_ROOM, *_DISK_FAILURES)

_FILE: Final = re.compile(
    r"\"((?:base|global|pg_tblspc|pg_wal|pg_xact|pg_multixact|pg_subtrans|pg_logical|pg_replslot)"
    r"/[A-Za-z0-9_./-]{1,200})\""
)
"""A file in the server's data directory. ``pg_tblspc`` is a tablespace, mostly another disk."""


def classify_resource_error(state: str, place: str, text: str) -> MirrorError | None:
    """Return the MirrorError for a full or failing disk, else None; ``text`` is the message."""
    sentence = _NO_ROOM.get(state) or _DISK_FAILURES.get(state)
    if sentence is None:
        return None
    found = _FILE.search(text)
    detail = f" (SQL state {state}{f', file {found[1]}' if found else ''})"
    message = sentence.format(place=place, detail=detail)
    if state in _NO_ROOM:
        return StorageFull(message, after=STORAGE_FULL_PAUSE)
    return RetryLater(message, after=DISK_FAILURE_PAUSE)
