"""Start an embedded Valkey."""

import signal
from dataclasses import dataclass
from pathlib import Path

import redis

from sandbox.servers.binaries import find_valkey_program, read_major_version
from sandbox.servers.child import Child
from sandbox.servers.errors import MajorVersionMismatch
from sandbox.servers.home_directory import Home
from sandbox.servers.supervisor import Supervisor


@dataclass(frozen=True)
class Valkey:
    """An embedded Valkey server, which speaks the Redis protocol, under a supervisor."""

    port: int
    password: str

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def __repr__(self) -> str:
        return f"Valkey(port={self.port})"


def start_valkey(home: Home, supervisor: Supervisor) -> Valkey:
    """Start Valkey on the home's data and wait until it answers. The home must be locked.

    Raises BinariesMissing, MajorVersionMismatch, PasswdEntryMissing, HomeUnusable, StartupFailed.
    """
    _ = home.lock_fd
    program = find_valkey_program(home)
    data = home.make_directory("valkey", home.server_user)
    _check_version(home, data, read_major_version(program, home))
    server = Valkey(home.reserve_port("valkey"), home.get_secret("valkey"))
    supervisor.start(
        Child(
            name="valkey",
            argv=[str(program), str(_configure(home, data, server))],
            env=home.server_user.build_environment(home.path),
            cwd=data,
            user=home.server_user,
            is_ready=lambda: _is_answering(server),
            ready_timeout=300,  # reading a long append-only file
            log=home.get_log_path("valkey"),
            stop_signals=((signal.SIGTERM, 30),),
            keep_fds=(home.lock_fd,),
        ),
    )
    return server


def _configure(home: Home, data: Path, server: Valkey) -> Path:
    """Write the configuration file. It holds the password, as all users can see arguments."""
    lines = [
        "bind 127.0.0.1",
        f"port {server.port}",
        "protected-mode yes",
        "daemonize no",
        f"requirepass {server.password}",
        f"dir {_quote(data)}",
        "appendonly yes",
        "appendfsync everysec",
        'save ""',
        # A full queue is better than one that drops messages under memory pressure.
        "maxmemory-policy noeviction",
    ]
    return home.write_private("valkey.conf", "\n".join(lines) + "\n", home.server_user)


def _quote(path: Path) -> str:
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _check_version(home: Home, data: Path, major: int) -> None:
    """Check that the data are not of a newer server, which an older one cannot read."""
    stamp = home.path / "valkey.version"
    written = int(stamp.read_text(encoding="ascii")) if stamp.exists() else major
    if written > major:
        raise MajorVersionMismatch(
            f"{data} was written by Valkey {written}, and this is Valkey {major}, which cannot "
            f"read it. Install Valkey {written} again, or delete that directory and {stamp}: "
            "Redis holds only hints, and nothing of the mirror is lost.",
        )
    if not stamp.exists() or written != major:
        home.write_private(stamp.name, f"{major}\n")


def _is_answering(server: Valkey) -> bool:
    try:
        with redis.Redis.from_url(
            server.url,
            socket_connect_timeout=2,
            socket_timeout=2,
            retry=None,
        ) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False
