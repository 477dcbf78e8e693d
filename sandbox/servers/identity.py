import os
import pwd
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from sandbox.servers.errors import HomeRefused, NoPasswdEntry

_PREFERRED = ("postgres", "nobody")
_KEPT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR")


class RunAs(TypedDict, total=False):
    """The arguments of `subprocess` that change the user; none when it stays the same."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True)
class Identity:
    """The user that the servers run as: ourselves, or as root one without privileges."""

    name: str
    uid: int
    gid: int

    @property
    def is_other(self) -> bool:
        return self.uid != os.geteuid()

    def run_as(self) -> RunAs:
        if not self.is_other:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def environment(self, home: Path) -> Mapping[str, str]:
        """A short environment: nothing of ours, and no PG* variable, reaches a server."""
        kept = {key: os.environ[key] for key in _KEPT if key in os.environ}
        return {"PATH": os.defpath, **kept, "HOME": str(home), "LC_ALL": "C", "TZ": "UTC"}

    def may_enter(self, directory: Path) -> bool:
        """Whether this user may pass through the directory, by its mode bits."""
        found = directory.stat()
        if self.uid == found.st_uid:
            return bool(found.st_mode & stat.S_IXUSR)
        if self.gid == found.st_gid:
            return bool(found.st_mode & stat.S_IXGRP)
        return bool(found.st_mode & stat.S_IXOTH)

    def blocked_at(self, directory: Path) -> Path | None:
        """The first directory on the way down that this user may not pass through."""
        way = [*reversed(directory.parents), directory]
        return next((step for step in way if not self.may_enter(step)), None)


def server_identity(data: Path | None = None) -> Identity:
    """Who runs the servers; as root the owner of existing `data`, so that an upgrade keeps it.

    Raises NoPasswdEntry when the user has no entry in the user database, and HomeRefused when
    the data belong to somebody else. Creates no users.
    """
    if os.geteuid() != 0:
        return _ourselves(data)
    if owner := _owner(data):
        return _entry(owner)
    for name in _PREFERRED:
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        if found.pw_uid != 0:
            return Identity(name, found.pw_uid, found.pw_gid)
    raise NoPasswdEntry(
        "PostgreSQL refuses to run as root, and there is neither a user 'postgres' nor 'nobody' "
        "to run it as. Start this as an ordinary user, or name a server of your own.",
    )


def _ourselves(data: Path | None) -> Identity:
    identity = _entry(os.geteuid())
    owner = _owner(data)
    if owner is not None and owner != identity.uid:
        raise HomeRefused(
            f"{data} belongs to user id {owner}, but this is {identity.name} "
            f"({identity.uid}). Start this as its owner, or set TENANT_MIRROR_HOME to another "
            "directory.",
        )
    return identity


def _owner(data: Path | None) -> int | None:
    try:
        return data.stat().st_uid if data is not None else None
    except OSError:  # not there yet, or not ours to look at: making the home tells more
        return None


def _entry(uid: int) -> Identity:
    try:
        found = pwd.getpwuid(uid)
    except KeyError:
        raise NoPasswdEntry(
            f"User id {uid} has no entry in the user database (/etc/passwd), and PostgreSQL does "
            "not start without one. Start this as a user that has an entry, or name a server of "
            "your own.",
        ) from None
    return Identity(found.pw_name, found.pw_uid, found.pw_gid)
