"""Postgres settings of every session, independent of server, role, pooler and environment.

No startup options are sent: poolers refuse or drop them. Settings that change what is read or
written are sent with each ``begin_transaction`` and hold until the transaction ends. So they also
hold behind a transaction pooler, where each transaction may get a session that another client has
configured differently, and they leave nothing in that session. Postgres returns the time zone as
proof that it applied them, which costs no extra round trip.

``default_transaction_read_only`` is not changed: an administrator sets it to keep writers out, and
a write then fails instead of storing something else.
"""

from collections.abc import Mapping
from typing import Any, Final

import psycopg

from worker.core.errors import ConfigurationError

_TRANSACTION_SETTINGS: Final = {
    "statement_timeout": "60s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "120s",
    # The text format of values.
    "client_encoding": "UTF8",
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "standard_conforming_strings": "on",
    "array_nulls": "on",
    "transform_null_equals": "off",
    # All SQL here uses schema-qualified names.
    "search_path": "pg_catalog",
    # Statements here touch some thousand rows by index. Where the planner has no statistics yet it
    # expects more, and compiling such a statement takes a hundred times as long as running it.
    "jit": "off",
}

_SESSION_SETTINGS: Final = {
    "idle_session_timeout": "0",
    # The server notices a client whose host is gone, and frees its locks.
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "60000",
}
"""Settings that matter between transactions; a pooler manages its own."""


def _render_set_local(settings: Mapping[str, str]) -> str:
    """Return ``set local`` statements, which take no snapshot: isolation can still be raised."""
    return "; ".join(f"set local {name} = '{value}'" for name, value in settings.items())


def _render_set_config(settings: Mapping[str, str]) -> str:
    return ", ".join(f"pg_catalog.set_config('{n}', '{v}', false)" for n, v in settings.items())


# "statement_timeout" comes first: it replaces a short one that another client left.
_BEGIN: Final = (
    "begin isolation level read committed; "
    f"{_render_set_local(_TRANSACTION_SETTINGS)}; set local role to default; show timezone"
).encode()
_ANSWER: Final = [("UTC",)]
_CONFIGURE: Final = (
    f"begin; {_render_set_local(_TRANSACTION_SETTINGS)}; select "
    f"{_render_set_config(_TRANSACTION_SETTINGS | _SESSION_SETTINGS)}"
    " where pg_catalog.pg_backend_pid() = %d; commit"
)

CONNECT_ARGS: Final[dict[str, Any]] = {
    # A connection parameter overrides PGCLIENTENCODING; poolers accept this one.
    "client_encoding": "utf8",
    # A plan cached while a table was empty is very slow once it is full. Planning each time costs
    # a fraction of a millisecond, and behind a pooler no session would keep the plan.
    "prepare_threshold": None,
    "connect_timeout": 5,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
    "application_name": "tenant-mirror",
}


def configure_session(raw: psycopg.Connection[Any]) -> bool:
    """Configure the session, and return whether it is our own rather than a pooler's.

    Without a pooler, the backend pid equals the one that Postgres reports. A pooler's session is
    shared and is not changed. Closes the connection and raises ConfigurationError if the database
    is not UTF8.
    """
    encoding = raw.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        name = raw.info.dbname
        raw.close()
        raise ConfigurationError(
            f"the database {name} is encoded as {encoding}; Tenant Mirror needs UTF8: create it "
            "with \"create database ... encoding 'UTF8' template template0\""
        )
    # begin_transaction sends "begin" itself, together with the settings.
    raw.autocommit = True
    found = _execute_batch(raw, (_CONFIGURE % raw.info.backend_pid).encode())
    return bool(found)


def begin_transaction(raw: psycopg.Connection[Any]) -> None:
    """Begin a transaction with the settings above, in one round trip.

    Raises ConfigurationError if Postgres did not apply them.
    """
    if not raw.autocommit:
        raw.autocommit = True
    with raw.cursor() as cursor:
        # Of a dozen results only the last one is looked at.
        answer = cursor.execute(_BEGIN).set_result(-1).fetchall()
    if answer != _ANSWER:
        raise ConfigurationError(
            "Postgres does not keep the settings of a transaction; connect to it directly, or "
            "through a pooler that passes 'set local' on"
        )


def _execute_batch(raw: psycopg.Connection[Any], statements: bytes) -> list[tuple[Any, ...]]:
    """Run statements in one round trip, and return the rows of the last one that has rows."""
    rows: list[tuple[Any, ...]] = []
    with raw.cursor() as cursor:
        cursor.execute(statements)
        while True:
            if cursor.description is not None:
                rows = cursor.fetchall()
            if not cursor.nextset():
                return rows
