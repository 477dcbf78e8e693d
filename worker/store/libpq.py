"""Connecting to Postgres with errors that carry a SQL state, in any server language.

While connecting, libpq returns only a text, which includes the SQL state if libpq is set to be
verbose. psycopg has no call for that yet, so libpq's own is called from psycopg's library.
"""

import ctypes
import ctypes.util
import functools
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, Self

import psycopg
from psycopg import pq
from psycopg.abc import PQGenConn
from psycopg.errors import finish_pgconn, lookup
from psycopg.waiting import Wait

_DEFAULT: Final = 1
_VERBOSE: Final = 2
"""libpq's PGVerbosity."""

_STATE: Final = re.compile(r"(?<=:  )([0-9A-Z]{5}): ")
"""Matches the severity in the server's language, a colon, two blanks, and the state."""

_TEMPORARY_STATES: Final = ("08", "53", "57P")
"""SQL states of a server that may accept connections later."""

_FILES: Final = ("sslrootcert", "sslcert", "sslkey", "sslcrl")

_refusals: ContextVar[list[psycopg.Error] | None] = ContextVar("refusals", default=None)


class InvalidConnectionParameters(psycopg.ProgrammingError):
    """The connection parameters are invalid; no server was contacted."""


def connect(*arguments: Any, **parameters: Any) -> psycopg.Connection[Any]:
    """Connect like ``psycopg.connect``, with errors that carry the server's SQL state.

    If several servers refuse, the error of one that may accept later is raised. Raises
    InvalidConnectionParameters if no server could be contacted with these parameters.
    """
    with _collect_refusals() as refusals:
        try:
            return _VerboseConnection.connect(*arguments, **parameters)
        except InvalidConnectionParameters:
            raise
        except psycopg.ProgrammingError as error:
            if error.sqlstate is None:
                raise InvalidConnectionParameters(str(error)) from None
            raise
        except psycopg.Error as error:
            if not refusals:
                raise
            passing = [
                one for one in refusals if (one.sqlstate or "").startswith(_TEMPORARY_STATES)
            ]
            raise (passing or refusals)[-1] from error


@contextmanager
def _collect_refusals() -> Iterator[list[psycopg.Error]]:
    """Collect the errors of servers that refuse the connection meanwhile."""
    refusals: list[psycopg.Error] = []
    token = _refusals.set(refusals)
    try:
        yield refusals
    finally:
        _refusals.reset(token)


class _VerboseConnection(psycopg.Connection[Any]):
    @classmethod
    def _connect_gen(cls, conninfo: str = "") -> PQGenConn[Self]:
        return cls((yield from _connect_verbosely(conninfo)))


def _connect_verbosely(conninfo: str) -> PQGenConn[Any]:
    """Do as psycopg's own generator, with libpq verbose until the connection is open."""
    raw = pq.PGconn.connect_start(conninfo.encode())
    _set_verbosity(raw, _VERBOSE)
    if raw.status == pq.ConnStatus.BAD:
        raise _build_error(raw, conninfo)
    while (status := pq.PollingStatus(raw.connect_poll())) is not pq.PollingStatus.OK:
        if status not in _WAITS:
            raise _build_error(raw)
        while not (yield raw.socket, _WAITS[status]):
            pass
    _set_verbosity(raw, _DEFAULT)
    raw.nonblocking = 1
    return raw


_WAITS: Final = {pq.PollingStatus.READING: Wait.R, pq.PollingStatus.WRITING: Wait.W}


def _build_error(raw: Any, unsent: str | None = None) -> psycopg.Error:
    """Return the error of a failed connection; ``unsent`` is a conninfo that may be invalid."""
    said = raw.get_error_message()
    found = _STATE.findall(said)
    options = {one.keyword.decode(): one.val for one in raw.info if one.val}
    wrong = _find_missing_file(options) if not found else None
    if unsent is not None and pq.PGconn.ping(unsent.encode()) == pq.Ping.NO_ATTEMPT:
        wrong = said
    raw = finish_pgconn(raw)
    if wrong is not None:
        return InvalidConnectionParameters(wrong, pgconn=raw)
    message = _STATE.sub("", said.split("\n", 1)[0])
    if not found:
        return psycopg.OperationalError(message, pgconn=raw)
    refusal = _error_from_state(found[-1], message, raw)
    if (refusals := _refusals.get()) is not None:
        refusals.append(refusal)
    return refusal


def _find_missing_file(options: dict[str, bytes]) -> str | None:
    for name in _FILES:
        path = os.fsdecode(options.get(name, b""))
        if path not in ("", "system") and not os.path.exists(path):  # noqa: PTH110 - may be a fd
            return f"{name} names a file that is not there: {path}"
    return None


def _error_from_state(state: str, message: str, raw: Any) -> psycopg.Error:
    try:
        kind = lookup(state)
    except KeyError:
        kind = type("OperationalError", (psycopg.OperationalError,), {"sqlstate": state})
    return kind(message, pgconn=raw)


def _set_verbosity(raw: Any, level: int) -> None:
    setter = _find_verbosity_setter()
    if setter is not None:
        setter(raw.pgconn_ptr, level)


@functools.cache
def _find_verbosity_setter() -> Callable[[int, int], int] | None:
    """Return ``PQsetErrorVerbosity`` of the libpq that psycopg uses; None if not found."""
    module = sys.modules[pq.PGconn.__module__].__file__ or ""
    for name in (module, ctypes.util.find_library("pq")):
        try:
            found = ctypes.CDLL(name).PQsetErrorVerbosity
        except (OSError, AttributeError, TypeError):
            continue
        found.argtypes = [ctypes.c_void_p, ctypes.c_int]
        found.restype = ctypes.c_int
        return found
    return None
