"""Parsing of ``DATABASE_URL``: one host or several, always with the psycopg driver.

libpq fills gaps in a URL from environment variables. Credentials and TLS settings may come from
them (``PGUSER``, ``PGPASSWORD``, ``PGPASSFILE``, ``PGSSLMODE``, ``PGSSLROOTCERT`` ...), the server
may not.
"""

import re
from collections.abc import Mapping
from typing import Final

from psycopg.pq import Conninfo
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from worker.core.errors import ConfigurationError
from worker.core.net.url import ENCODING_HINT

DRIVERS: Final = ("postgres", "postgresql", "postgresql+psycopg")

_AUTHORITY: Final = re.compile(r"([^:/]+://)([^/?]*)(.*)", re.DOTALL)
_HOST: Final = re.compile(r"(?P<host>\[[^\]]+\]|[^:\[\]]*)(?::(?P<port>\d*))?")

_SERVER_VARIABLES: Final = {
    "PGHOST": ("host", "hostaddr"),
    "PGHOSTADDR": ("hostaddr",),
    "PGPORT": ("port",),
    "PGDATABASE": ("dbname",),
    "PGSERVICE": ("service",),
    "PGTARGETSESSIONATTRS": ("target_session_attrs",),
    "PGLOADBALANCEHOSTS": ("load_balance_hosts",),
}
"""Variables of libpq that name or choose a server, and the URL parts that override them."""


def parse_database_url(url_text: str) -> URL:
    """Return the URL with the psycopg driver. Raises ConfigurationError if it is not for Postgres.

    Of several hosts, the one that accepts writes is used, unless the URL asks for another.
    """
    try:
        url_text.encode()
    except UnicodeEncodeError:
        raise ConfigurationError(
            "DATABASE_URL contains bytes that are not UTF-8; percent-encode them"
        ) from None
    single, hosts = _split_hosts(url_text)
    try:
        url = make_url(single)
    except (ArgumentError, ValueError):
        raise ConfigurationError("DATABASE_URL is not a Postgres address") from None
    if url.drivername not in DRIVERS:
        raise ConfigurationError("DATABASE_URL must start with postgresql://")
    _refuse_unencoded_password(url)
    url = url.set(drivername="postgresql+psycopg")
    if hosts:
        url = url.update_query_dict(_build_host_options(hosts, url))
    listed = url.query.get("host", "")
    several = not isinstance(listed, str) or "," in listed
    if several and "target_session_attrs" not in url.query:
        url = url.update_query_dict({"target_session_attrs": "read-write"})
    try:
        url.get_dialect()().create_connect_args(url)
    except (ArgumentError, ValueError):
        raise ConfigurationError("the hosts and the ports in DATABASE_URL do not match") from None
    return url


def _refuse_unencoded_password(url: URL) -> None:
    """Raise ConfigurationError if the password holds a character that should be encoded.

    The password's end would be parsed as a host, a database or an option, which messages name.
    """
    after = f"{url.host or ''}{url.database or ''}{''.join(url.query)}"
    keywords = {one.keyword.decode() for one in Conninfo.get_defaults()}
    if "@" in after or not keywords.issuperset(url.query):
        raise ConfigurationError(
            f"DATABASE_URL has a host, database or option that is invalid; {ENCODING_HINT}"
        )


def describe_server(url: URL) -> str:
    """Return hosts, ports and the database name, without the password."""
    listed = url.query.get("host")
    if not listed:
        return f"{url.host or 'local socket'}:{url.port or 5432}/{url.database}"
    hosts = listed.split(",") if isinstance(listed, str) else list(listed)
    ports = str(url.query.get("port") or url.port or 5432).split(",")
    if len(ports) != len(hosts):
        ports = ports[:1] * len(hosts)
    named = [one if ":" in one else f"{one}:{port}" for one, port in zip(hosts, ports, strict=True)]
    return f"{','.join(named)}/{url.database}"


def refuse_environment_overrides(url: URL, environ: Mapping[str, str]) -> None:
    """Raise ConfigurationError, naming the variable, if one would change the server."""
    given = set(url.query)
    given |= {"host"} if url.host else set()
    given |= {"port"} if url.port else set()
    given |= {"dbname"} if url.database else set()
    for name, parts in _SERVER_VARIABLES.items():
        if environ.get(name) and not given.intersection(parts):
            raise ConfigurationError(
                f"{name} is set in the environment and would change which Postgres is used; "
                "unset it, and write that into DATABASE_URL"
            )


def _split_hosts(address: str) -> tuple[str, list[tuple[str, str]]]:
    """Return the address and its hosts with ports; several hosts are cut out of the address."""
    found = _AUTHORITY.fullmatch(address)
    login, at, listed = found[2].rpartition("@") if found else ("", "", "")
    if found is None or "," not in listed:
        return address, []
    hosts = []
    for one in listed.split(","):
        part = _HOST.fullmatch(one)
        if part is None or not part["host"]:
            raise ConfigurationError(
                "DATABASE_URL names several hosts, and one of them is not host:port"
            )
        hosts.append((part["host"].strip("[]"), part["port"] or ""))
    return f"{found[1]}{login}{at}{found[3]}", hosts


def _build_host_options(hosts: list[tuple[str, str]], url: URL) -> dict[str, str]:
    if {"host", "port"} & set(url.query):
        raise ConfigurationError("DATABASE_URL names hosts in two places; keep one of them")
    return {
        "host": ",".join(host for host, _ in hosts),
        "port": ",".join(port or "5432" for _, port in hosts),
    }
