"""What can go wrong with the embedded servers.

ServerError
├── DirectoryInUse      another process holds this home
├── HomeRefused         the directory cannot be used as it is
├── NoPasswdEntry       PostgreSQL would not start under this user id
├── BinariesMissing     the [sandbox] extra is not installed, or does not run here
├── WrongMajorVersion   the data belong to another major version
└── NotReady            a child died or stayed silent before it was ready

Every message says what to do next and carries no password.
"""


class ServerError(Exception):
    """An embedded server cannot be had; the message says what to do next."""


class DirectoryInUse(ServerError):
    """Another process holds the lock on this home."""


class HomeUnusable(ServerError):
    """The directory, its owner or its permissions stand in the way."""


class PasswdEntryMissing(ServerError):
    """The user id has no entry in the user database, which PostgreSQL demands."""


class BinariesMissing(ServerError):
    """The server programs are not installed, or do not run on this machine."""


class MajorVersionMismatch(ServerError):
    """The data directory was written by another major version."""


class StartupFailed(ServerError):
    """A child ended, or did not answer in time, before it was ready."""
