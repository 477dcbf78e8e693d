"""The home directory with the data, passwords and ports of the embedded servers."""

import contextlib
import fcntl
import json
import os
import random
import secrets
import socket
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sandbox.servers.errors import DirectoryInUse, HomeUnusable
from sandbox.servers.server_user import ServerUser, choose_server_user

HOME_VARIABLE = "TENANT_MIRROR_HOME"
ROOT_HOME = Path("/var/lib/tenant-mirror")

# Below the kernel's range for outgoing connections (32768 and up on Linux), so that a port that
# was chosen once is rarely taken at the next start.
_PORTS = (15000, 32000)


class Home:
    """The directory that holds the embedded servers' data, passwords, ports and logs.

    It is created when it is locked. One process at a time may hold the lock.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()
        self._lock_fd: int | None = None
        self._identity: ServerUser | None = None

    @classmethod
    def find(cls, checkout: Path) -> "Home":
        """Return TENANT_MIRROR_HOME, else for root a system directory, else one in the checkout."""
        if given := os.environ.get(HOME_VARIABLE):
            return cls(Path(given))
        return cls(ROOT_HOME if os.geteuid() == 0 else checkout / ".tenant-mirror")

    @property
    def server_user(self) -> ServerUser:
        """The user that the servers run as. Raises PasswdEntryMissing or HomeUnusable."""
        if self._identity is None:
            self._identity = choose_server_user(self.path / "postgres")
        return self._identity

    @contextmanager
    def hold_lock(self, *, patience: float = 15) -> Iterator["Home"]:
        """Hold the lock during the block; see `lock`."""
        self.lock(timeout=patience)
        try:
            yield self
        finally:
            self.unlock()

    def lock(self, *, timeout: float = 15) -> None:
        """Create the directory and take its lock, until `unlock` or the end of the process.

        A living holder is reported at once. Servers whose supervisor was killed keep the lock
        until they have stopped, for which this waits `timeout` seconds.

        Raises DirectoryInUse, HomeUnusable or PasswdEntryMissing.
        """
        if self._lock_fd is not None:
            raise DirectoryInUse(f"{self.path} is already in use by this very process.")
        fd = self._open_lock_file(self.server_user)
        try:
            self._wait_for_lock(fd, time.monotonic() + timeout)
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        except BaseException:
            os.close(fd)
            raise
        self._lock_fd = fd

    def unlock(self) -> None:
        """Release the lock. A server that still runs keeps it until it has stopped."""
        fd, self._lock_fd = self._lock_fd, None
        if fd is not None:
            os.close(fd)

    @property
    def lock_fd(self) -> int:
        """The lock's descriptor, which servers inherit. Raises HomeUnusable unless locked."""
        if self._lock_fd is None:
            raise HomeUnusable(f"{self.path} is not locked: call lock() before starting servers.")
        return self._lock_fd

    def make_directory(self, name: str, owner: ServerUser | None = None) -> Path:
        """Return a private directory (0700) in the home, created if needed, of `owner` or us."""
        path = self.path / name
        if not path.is_dir():
            path.mkdir(mode=0o700)
            if owner is not None and owner.is_other_user:
                os.chown(path, owner.uid, owner.gid)
        return path

    def write_private(self, name: str, text: str, owner: ServerUser | None = None) -> Path:
        """Write a file atomically that only `owner` (or we) can read."""
        path, temporary = self.path / name, self.path / f".{name}.{secrets.token_hex(4)}"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(fd, "w", encoding="utf-8") as file:
                if owner is not None and owner.is_other_user:
                    os.fchown(fd, owner.uid, owner.gid)
                file.write(text)
                file.flush()
                os.fsync(fd)
            temporary.rename(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return path

    def get_secret(
        self, name: str, make: Callable[[], str] = lambda: secrets.token_urlsafe(24)
    ) -> str:
        """Return the secret of this name, created on first use; safe inside a URL."""
        path = self.path / f"{name}.password"
        with contextlib.suppress(FileNotFoundError):
            return path.read_text(encoding="utf-8").strip()
        secret = make()
        self.write_private(path.name, secret + "\n")
        return secret

    def has_secret(self, name: str) -> bool:
        return (self.path / f"{name}.password").is_file()

    def reserve_port(self, name: str) -> int:
        """Return the stored port of this name if it is free, else store a new free one."""
        ports = self._read_ports()
        kept = ports.get(name)
        if kept is not None and _is_free(kept):
            return kept
        ports[name] = _find_free_port(avoid=set(ports.values()))
        self.write_private("ports.json", json.dumps(ports, sort_keys=True) + "\n")
        return ports[name]

    def get_log_path(self, name: str) -> Path:
        return self.make_directory("logs") / f"{name}.log"

    def _read_ports(self) -> dict[str, int]:
        try:
            kept = json.loads((self.path / "ports.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
        return {name: port for name, port in kept.items() if isinstance(port, int)}

    def _open_lock_file(self, identity: ServerUser) -> int:
        """Create the directory if needed, and open its lock file."""
        try:
            self._check_reachable(identity)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if not self.path.exists():
                self.path.mkdir(mode=0o700)
                if identity.is_other_user:
                    self.path.chmod(0o711)  # the servers' user may enter, but not list it
            self._check_owner(self.path.stat())
            self._check_reachable(identity)
            return os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise HomeUnusable(
                f"{self.path} cannot be made or read ({error.strerror}). "
                f"Set {HOME_VARIABLE} to a directory that you may write to.",
            ) from error

    def _check_reachable(self, identity: ServerUser) -> None:
        """Raise HomeUnusable unless the servers' user can enter the existing part of the path."""
        made = next(path for path in (self.path, *self.path.parents) if path.is_dir())
        blocked = (
            identity.find_blocked(made.resolve(strict=True)) if identity.is_other_user else None
        )
        if blocked is not None:
            raise HomeUnusable(
                f"As root, the servers run as '{identity.name}', and that user may not pass "
                f"through {blocked}. Set {HOME_VARIABLE} to a directory that it can reach (the "
                f"default is {ROOT_HOME}), or start this as an ordinary user.",
            )

    def _check_owner(self, status: os.stat_result) -> None:
        if not stat.S_ISDIR(status.st_mode):
            raise HomeUnusable(f"{self.path} is not a directory. Set {HOME_VARIABLE} to one.")
        if status.st_uid != os.geteuid():
            raise HomeUnusable(
                f"{self.path} belongs to user id {status.st_uid}, and this runs as user id "
                f"{os.geteuid()}. Start this as its owner, or set {HOME_VARIABLE} to another "
                f"directory.",
            )
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise HomeUnusable(
                f"Other users may write to {self.path}, so passwords are not safe in it. "
                f"Run 'chmod go-w' on it, or set {HOME_VARIABLE} to a directory of its own.",
            )

    def _wait_for_lock(self, fd: int, deadline: float) -> None:
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(fd, 20, 0).decode().strip()
                alive = holder.isdigit() and _is_alive(int(holder))
                if alive or time.monotonic() > deadline:
                    raise DirectoryInUse(self._describe_holder(holder, alive=alive)) from None
                time.sleep(0.05)
            except OSError as error:
                raise HomeUnusable(
                    f"Files in {self.path} cannot be locked ({error.strerror}). "
                    f"Set {HOME_VARIABLE} to a directory on a local disk.",
                ) from error
            else:
                return

    def _describe_holder(self, holder: str, *, alive: bool) -> str:
        if alive:
            return (
                f"{self.path} is in use by process {holder}. Stop that one first, "
                f"or set {HOME_VARIABLE} to another directory."
            )
        return (
            f"{self.path} is in use by servers that process {holder or 'unknown'} started before "
            f"it died, and that have not stopped yet. Wait a little, or stop them: their logs are "
            f"in {self.path / 'logs'}."
        )


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # Like the servers themselves: a port in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _find_free_port(avoid: set[int]) -> int:
    choices = (random.randrange(*_PORTS) for _ in range(1000))
    for port in choices:
        if port not in avoid and _is_free(port):
            return port
    raise HomeUnusable(f"No free port was found between {_PORTS[0]} and {_PORTS[1]}.")
