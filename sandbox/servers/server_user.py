"""The system user that the embedded servers run as."""

import os
import pwd
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from sandbox.servers.errors import HomeUnusable, PasswdEntryMissing

_PREFERRED_USERS = ("postgres", "nobody")
_PASSED_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR")


class SubprocessUser(TypedDict, total=False):
    """The arguments of `subprocess` that change the user; empty if it stays the same."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True)
class ServerUser:
    """The user that the servers run as: ourselves, or for root one without privileges."""

    name: str
    uid: int
    gid: int

    @property
    def is_other_user(self) -> bool:
        return self.uid != os.geteuid()

    def subprocess_arguments(self) -> SubprocessUser:
        if not self.is_other_user:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def build_environment(self, home: Path) -> Mapping[str, str]:
        """Return a short environment, without our variables and PG* ones."""
        kept = {key: os.environ[key] for key in _PASSED_VARIABLES if key in os.environ}
        return {"PATH": os.defpath, **kept, "HOME": str(home), "LC_ALL": "C", "TZ": "UTC"}

    def can_enter(self, directory: Path) -> bool:
        """Whether this user may pass through the directory, by its mode bits."""
        found = directory.stat()
        if self.uid == found.st_uid:
            return bool(found.st_mode & stat.S_IXUSR)
        if self.gid == found.st_gid:
            return bool(found.st_mode & stat.S_IXGRP)
        return bool(found.st_mode & stat.S_IXOTH)

    def find_blocked(self, directory: Path) -> Path | None:
        """Return the first directory of the path that this user cannot enter."""
        way = [*reversed(directory.parents), directory]
        return next((step for step in way if not self.can_enter(step)), None)


def choose_server_user(data: Path | None = None) -> ServerUser:
    """Return the user of the servers; for root the owner of existing `data`, for upgrades.

    Raises PasswdEntryMissing if the user has no entry in the user database, and HomeUnusable if
    the data belong to another user. Creates no users.
    """
    if os.geteuid() != 0:
        return _get_current_user(data)
    if owner := _read_owner(data):
        return _look_up_user(owner)
    for name in _PREFERRED_USERS:
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        if found.pw_uid != 0:
            return ServerUser(name, found.pw_uid, found.pw_gid)
    raise PasswdEntryMissing(
        "PostgreSQL refuses to run as root, and there is neither a user 'postgres' nor 'nobody' "
        "to run it as. Start this as an ordinary user, or name a server of your own.",
    )


def _get_current_user(data: Path | None) -> ServerUser:
    identity = _look_up_user(os.geteuid())
    owner = _read_owner(data)
    if owner is not None and owner != identity.uid:
        raise HomeUnusable(
            f"{data} belongs to user id {owner}, but this is {identity.name} "
            f"({identity.uid}). Start this as its owner, or set TENANT_MIRROR_HOME to another "
            "directory.",
        )
    return identity


def _read_owner(data: Path | None) -> int | None:
    try:
        return data.stat().st_uid if data is not None else None
    except OSError:  # missing or unreadable: creating the home reports more
        return None


def _look_up_user(uid: int) -> ServerUser:
    try:
        found = pwd.getpwuid(uid)
    except KeyError:
        raise PasswdEntryMissing(
            f"User id {uid} has no entry in the user database (/etc/passwd), and PostgreSQL does "
            "not start without one. Start this as a user that has an entry, or name a server of "
            "your own.",
        ) from None
    return ServerUser(found.pw_name, found.pw_uid, found.pw_gid)
