"""The errors of the embedded servers.

    ServerError
    ├── DirectoryInUse         another process holds this home directory
    ├── HomeUnusable           the home directory cannot be used as it is
    ├── PasswdEntryMissing     PostgreSQL would not start under this user id
    ├── BinariesMissing        the [sandbox] extra is not installed, or does not run here
    ├── MajorVersionMismatch   the data belong to another major version
    └── StartupFailed          a child died, or did not answer in time, before it was ready

Every message says what to do next and holds no password.
"""


class ServerError(Exception):
    """An embedded server cannot be started. The message says what to do next."""


class DirectoryInUse(ServerError):
    """Another process holds the lock of this home directory."""


class HomeUnusable(ServerError):
    """The home directory cannot be used because of its type, owner or permissions."""


class PasswdEntryMissing(ServerError):
    """The user id has no entry in the user database, which PostgreSQL requires."""


class BinariesMissing(ServerError):
    """The server programs are not installed, or do not run on this machine."""


class MajorVersionMismatch(ServerError):
    """The data directory was written by another major version."""


class StartupFailed(ServerError):
    """A child ended, or did not answer in time, before it was ready."""
