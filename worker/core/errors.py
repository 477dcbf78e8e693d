"""Every failure says what to do next.

    Trouble
    ├── Retry        try the same call again soon, in place
    ├── Later        the stream waits until then, the others go on
    │   ├── Spent    a budget of calls is used up; the work goes on when there is more
    │   ├── Outage   Nango itself does not work; nothing is sent for anybody until it does
    │   ├── Full     a disk or the memory of a server that we stand on is used up
    │   ├── Torn     the reply makes no sense; nothing of it was used
    │   ├── EventRefused    a receiver refuses one event; its connection's events wait
    │   └── EventFailed     a receiver failed at one event; whose fault it is, is not known yet
    ├── Restart      the cursor is gone: full walk, sweep, no invented events
    ├── Refused      this resource is not permitted or not offered here
    ├── Broken       the connection needs a person
    ├── Halt         our own configuration is wrong; everything stops asking
    ├── Reject       one object is malformed
    ├── Unknown      what a person named does not exist
    ├── Busy         another process holds the connection
    ├── Fenced       our lease was taken over; nothing more may be written
    ├── Gone         a receiver wants no more change events
    └── Away         Postgres or Redis cannot be reached now

Foreign errors become one of these at the edge, in one table: ``nango/verdict.py`` and
``graph/verdict.py`` for HTTP, ``store/engine.py`` for Postgres, ``nango/ledger.py`` for Redis.
"""


class MirrorError(Exception):
    """Something went wrong, to whom, and what to do about it.

    ``connection`` and ``resource`` are filled in where they are known, never guessed.
    """

    def __init__(
        self,
        message: str,
        *,
        connection: str | None = None,
        resource: str | None = None,
        after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.connection = connection
        self.resource = resource
        self.after = after
        self.needs_smaller_request = False
        """Whether the service ran out of time or room: a smaller request may succeed."""

    def __str__(self) -> str:
        about = "/".join(part for part in (self.connection, self.resource) if part)
        return f"{about}: {self.message}" if about else self.message


class RetryNow(MirrorError):
    """Try the same call again; ``after`` seconds if the service named a pause."""

    status: int = 0
    """Graph's, where it answered."""


class RetryLater(MirrorError):
    """Not now: ask again in ``after`` seconds; ``status`` is Graph's where it answered."""

    status: int = 0
    has_retry_after: bool = False
    """Whether the service named the pause."""
    has_exhausted_retries: bool = False
    """Whether it was tried again in place, as often as that is worth."""


class BudgetExhausted(RetryLater):
    """A budget of calls is used up for ``after`` seconds; nothing is wrong."""


class Outage(RetryLater):
    """Nango itself does not work now: this is nothing about the connection that met it."""


class StorageFull(RetryLater):
    """A disk or the memory of a server that we stand on is used up: all goes on once it is not."""


class MalformedResponse(RetryLater):
    """A reply that cannot be understood or trusted; nothing of it was used."""


class EventRefused(RetryLater):
    """The receiver of a sink refuses one event: the events of its connection wait behind it."""


class EventFailed(RetryLater):
    """The receiver of a sink failed at one event: the receiver's fault, or that of the event."""


class CursorExpired(MirrorError):
    """The cursor is no longer known to Graph."""


class ResourceRefused(MirrorError):
    """The tenant does not permit or offer this; ``status`` and ``code`` are Graph's."""

    status: int = 0
    code: str = ""
    graph_message: str = ""
    """Graph's own message, to be searched for names of properties; never shown or logged."""


class ConnectionBroken(MirrorError):
    """The connection cannot be used until a person mends it."""


class ConfigurationError(MirrorError):
    """Our own configuration is wrong."""


class MalformedObject(MirrorError):
    """One object cannot be understood."""


class NotFound(MirrorError):
    """What a person named does not exist."""


class LeaseHeld(MirrorError):
    """Another process holds the connection's lease."""


class LeaseLost(MirrorError):
    """The lease went to somebody else."""


class SinkGone(MirrorError):
    """The receiver of a sink wants no more events."""


class ServerUnavailable(MirrorError):
    """A server that we stand on cannot be reached."""
