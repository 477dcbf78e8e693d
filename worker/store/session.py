"""What a session on Postgres is set to, whatever the server, a role or the environment says.

Settings that change what is read or written are fixed here. Startup options win over those of the
server, the database and the role; given to the driver they also win over ``PGOPTIONS`` and the
query of ``DATABASE_URL``. ``default_transaction_read_only`` is left alone: an administrator sets it
to keep writers out, and a write then fails instead of storing something else.
"""

from typing import Any, Final

import psycopg

from worker.core.errors import Halt

_REPORTED: Final = {"TimeZone": "UTC", "DateStyle": "ISO, MDY"}
"""libpq sends PGTZ and PGDATESTYLE after the options, so they win: as Postgres reports them."""

_SETTINGS: Final = {
    "statement_timeout": "60s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "120s",
    "idle_session_timeout": "0",
    # So that the server notices a client whose host is gone, and frees its locks.
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "60000",
    # How values are written and read as text.
    **_REPORTED,
    "intervalstyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "standard_conforming_strings": "on",
    "array_nulls": "on",
    "transform_null_equals": "off",
    # Every name in our SQL has its schema.
    "search_path": "pg_catalog",
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    "plan_cache_mode": "force_custom_plan",
}


def _option(name: str, value: str) -> str:
    """A startup option; Postgres splits them at blanks that no backslash precedes."""
    return f"-c {name}=" + value.replace(" ", "\\ ")


CONNECT_ARGS: Final[dict[str, Any]] = {
    "options": " ".join(_option(name, value) for name, value in _SETTINGS.items()),
    # As a connection parameter it wins over PGCLIENTENCODING and the settings of roles.
    "client_encoding": "utf8",
    # A plan that was kept from when a table was empty is ruinous once it is full;
    # planning each time costs a fraction of a millisecond and suits poolers, too.
    "prepare_threshold": None,
    "connect_timeout": 5,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
    "application_name": "tenant-mirror",
}


def settle_session(raw: psycopg.Connection[Any]) -> None:
    """Refuse a database that is not UTF8, and undo what libpq took from the environment.

    Costs no round trip where nothing differs: Postgres reports these as a session begins.
    Raises Halt, with the connection closed.
    """
    encoding = raw.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        name = raw.info.dbname
        raw.close()
        raise Halt(
            f"the database {name} is encoded as {encoding}; Tenant Mirror needs UTF8: create it "
            "with \"create database ... encoding 'UTF8' template template0\""
        )
    wrong = {n: v for n, v in _REPORTED.items() if raw.info.parameter_status(n) != v}
    for name, value in wrong.items():
        raw.execute("select pg_catalog.set_config(%s, %s, false)", (name, value))
    if wrong:
        raw.commit()
