"""What Postgres is set to while we work, regardless of the server, roles, poolers and environment.

No startup options are sent: poolers refuse or drop them. Settings that change what is read or
written go out together with each ``begin_transaction`` and hold until the transaction ends. So
they also hold behind a transaction pooler, where each transaction may get a server session that
another client has set otherwise, and nothing of ours stays in that session. Postgres answers with
the time zone that is set then, as a sign that it took them: that costs no round trip.

``default_transaction_read_only`` is left alone: an administrator sets it to keep writers out, and a
write then fails instead of storing something else.
"""

from collections.abc import Mapping
from typing import Any, Final

import psycopg

from worker.core.errors import ConfigurationError

_TRANSACTION_SETTINGS: Final = {
    "statement_timeout": "60s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "120s",
    # How values are written and read as text.
    "client_encoding": "UTF8",
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "standard_conforming_strings": "on",
    "array_nulls": "on",
    "transform_null_equals": "off",
    # Every name in our SQL has its schema.
    "search_path": "pg_catalog",
}

_SESSION_SETTINGS: Final = {
    "idle_session_timeout": "0",
    # So that the server notices a client whose host is gone, and frees its locks.
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "60000",
}
"""What matters between transactions; behind a pooler that is the pooler's own affair."""


def _render_set_local(settings: Mapping[str, str]) -> str:
    """Takes no snapshot, so the isolation level of the transaction can still be raised."""
    return "; ".join(f"set local {name} = '{value}'" for name, value in settings.items())


def _render_set_config(settings: Mapping[str, str]) -> str:
    return ", ".join(f"pg_catalog.set_config('{n}', '{v}', false)" for n, v in settings.items())


# "statement_timeout" is the first to be set: a short one that somebody else left ends with it.
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
    # As a connection parameter it wins over PGCLIENTENCODING; poolers accept it.
    "client_encoding": "utf8",
    # A plan that was kept from when a table was empty is ruinous once it is full; planning each
    # time costs a fraction of a millisecond, and behind a pooler there is no session to keep it.
    "prepare_threshold": None,
    "connect_timeout": 5,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
    "application_name": "tenant-mirror",
}


def configure_session(raw: psycopg.Connection[Any]) -> bool:
    """Refuse a database that is not UTF8, and set a session that is ours; whether it is.

    The process that answers to us is the one that Postgres names only where no pooler stands
    between: the session of a pooler is shared, and is left as it is.
    Raises ConfigurationError, with the connection closed.
    """
    encoding = raw.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        name = raw.info.dbname
        raw.close()
        raise ConfigurationError(
            f"the database {name} is encoded as {encoding}; Tenant Mirror needs UTF8: create it "
            "with \"create database ... encoding 'UTF8' template template0\""
        )
    # We send "begin" ourselves, together with the settings.
    raw.autocommit = True
    found = _execute_batch(raw, (_CONFIGURE % raw.info.backend_pid).encode())
    return bool(found)


def begin_transaction(raw: psycopg.Connection[Any]) -> None:
    """Begin a transaction with our settings, in one round trip.

    Raises ConfigurationError where none holds.
    """
    if not raw.autocommit:
        raw.autocommit = True
    if _execute_batch(raw, _BEGIN) != _ANSWER:
        raise ConfigurationError(
            "Postgres does not keep the settings of a transaction; connect to it directly, or "
            "through a pooler that passes 'set local' on"
        )


def _execute_batch(raw: psycopg.Connection[Any], statements: bytes) -> list[tuple[Any, ...]]:
    """Run statements in one round trip; the rows of the one that has some."""
    rows: list[tuple[Any, ...]] = []
    with raw.cursor() as cursor:
        cursor.execute(statements)
        while True:
            if cursor.description is not None:
                rows = cursor.fetchall()
            if not cursor.nextset():
                return rows
