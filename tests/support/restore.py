"""Dumps, restores and standbys, with the programs of the embedded server."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from sqlalchemy.engine import make_url

from models.base import ANALYTICS_PSEUDONYMOUS, SCHEMAS
from sandbox.servers import Home, Supervisor, start_postgres
from sandbox.servers.binaries import find_postgres_programs

Archive = Path

_NEWER_SETTING = 'unrecognized configuration parameter "transaction_timeout"'
"""What a server before 17 says to a restore by newer programs, which go on without it."""


class Restorer:
    """Dumps databases of one embedded server and brings them back."""

    def __init__(self, home: Path, folder: Path) -> None:
        self._home = Home(home)
        self._programs = find_postgres_programs(self._home)
        self._folder = folder

    def dump(self, url: str) -> Archive:
        """A dump of a database, as an operator makes it."""
        archive = self._folder / f"{len(list(self._folder.iterdir()))}.dump"
        self._run("pg_dump", "--format=custom", f"--file={archive}", url)
        return archive

    def restore_new(self, url: str, archive: Archive) -> None:
        """Drop the database, create it again and restore into it."""
        base, _, name = url.rpartition("/")
        with psycopg.connect(f"{base}/postgres", autocommit=True) as session:
            session.execute(f"drop database {name} with (force)".encode())
            session.execute(f"create database {name}".encode())
        self._run("pg_restore", f"--dbname={url}", str(archive))

    def restore_over(self, url: str, archive: Archive) -> None:
        """Replace the tables of a database that stays."""
        with psycopg.connect(url, autocommit=True) as session:
            schemas = ", ".join((*SCHEMAS, ANALYTICS_PSEUDONYMOUS))
            session.execute(f"drop schema {schemas} cascade".encode())
        self._run("pg_restore", f"--dbname={url}", str(archive))

    def restore_rows(self, url: str, archive: Archive) -> None:
        """Put the rows back and leave everything else: no sign of it is left on the server."""
        tables = self._run("pg_restore", "--list", str(archive)).splitlines()
        names = [line.split()[5:7] for line in tables if " TABLE DATA " in line]
        with psycopg.connect(url, autocommit=True) as session:
            # Like --disable-triggers below: the audit refuses to lose rows.
            session.execute("set session_replication_role = replica")
            every = ", ".join(f"{schema}.{name}" for schema, name in names)
            session.execute(f"truncate {every}".encode())
        self._run(
            "pg_restore", "--data-only", "--disable-triggers", f"--dbname={url}", str(archive)
        )

    @contextmanager
    def run_standby(self, primary: str, home: Path) -> Iterator[str]:
        """A streaming standby of the primary; the address of the same database on it."""
        url = make_url(primary)
        made = Home(home)
        with made.hold_lock(), Supervisor() as supervisor:
            (made.path / "postgres.password").write_text(f"{url.password}\n", encoding="utf-8")
            parent = made.make_directory("postgres", made.server_user)
            self._run(
                "pg_basebackup",
                "--checkpoint=fast",
                "--wal-method=stream",
                "--write-recovery-conf",
                f"--pgdata={parent / 'data'}",
                f"--dbname={url.set(database='postgres').render_as_string(hide_password=False)}",
            )
            server = start_postgres(made, supervisor, settings={"fsync": "off"})
            there = make_url(server.url).set(database=url.database)
            yield there.render_as_string(hide_password=False)

    def disconnect_standby(self, standby: str) -> None:
        """Let a standby hear nothing of its primary any more."""
        with psycopg.connect(standby, autocommit=True) as session:
            session.execute(b"alter system set primary_conninfo = ''")
            session.execute(b"select pg_reload_conf()")
            while session.execute(b"select from pg_stat_wal_receiver").fetchone() is not None:
                time.sleep(0.05)

    def _run(self, program: str, *arguments: str) -> str:
        identity = self._home.server_user
        done = subprocess.run(
            [str(self._programs / program), *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            env={"PATH": os.defpath, "LC_ALL": "C"},
            **identity.subprocess_arguments(),
        )
        problems = [line for line in done.stderr.splitlines() if "error:" in line]
        is_older = problems and all(_NEWER_SETTING in line for line in problems)
        assert done.returncode == 0 or is_older, done.stderr
        return done.stdout
