"""The errors of the project. The class of an error decides what happens next.

    MirrorError
    ├── RetryNow                send the same call again soon, in place
    ├── RetryLater              this stream waits, the other streams go on
    │   ├── BudgetExhausted     a budget of calls is used up; the work goes on with the next one
    │   ├── Outage              Nango itself is down; no calls are sent until it is back
    │   ├── StorageFull         a disk, or the memory of a server that we use, is full
    │   ├── MalformedResponse   a response cannot be understood; nothing of it was used
    │   ├── EventRefused        a receiver refuses one event; its connection's events wait
    │   └── EventFailed         a receiver failed at one event; the cause is not known yet
    ├── CursorExpired           Graph no longer knows the cursor: full walk, sweep
    ├── ResourceRefused         the tenant does not permit or offer this resource
    │   └── NotLicensed         the tenant lacks the licence; nothing is wrong
    ├── ConnectionBroken        a person has to repair the connection
    ├── ConfigurationError      our own configuration is wrong; all calls stop
    ├── InvalidInput            what a person typed or sent is refused; nothing else happens
    ├── StateConflict           a person asked for what the present state does not allow
    │   └── ExpectationChanged  what a person saw and confirmed is no longer so; nothing was done
    ├── MalformedObject         one object is malformed
    ├── NotFound                something that a person named does not exist
    ├── LeaseHeld               another process holds the connection's lease
    ├── LeaseLost               another process took over our lease; nothing more may be written
    ├── SinkMisconfigured       the settings of one sink cannot be used; its events wait
    ├── SinkGone                a receiver wants no more change events
    └── ServerUnavailable       Postgres or Redis cannot be reached now

Foreign errors are translated once, at the edge: in ``nango/errors.py`` and ``graph/errors.py`` for
HTTP, ``store/errors.py`` for Postgres, ``core/redis/errors.py`` for Redis.
"""


class MirrorError(Exception):
    """The base of all errors, with the connection and resource that failed.

    ``connection`` and ``resource`` are filled in where they are known, never guessed. ``after`` is
    the pause in seconds before the next attempt.
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
        """Whether the service ran out of time or memory, so that a smaller request may succeed."""

    def __str__(self) -> str:
        about = "/".join(part for part in (self.connection, self.resource) if part)
        return f"{about}: {self.message}" if about else self.message


class RetryNow(MirrorError):
    """The same call may be sent again, ``after`` seconds later if the service named a pause."""

    status: int = 0
    """Graph's HTTP status; 0 where Graph did not answer."""


class RetryLater(MirrorError):
    """Ask again in ``after`` seconds; ``status`` is Graph's where it answered."""

    status: int = 0
    has_retry_after: bool = False
    """Whether the service named the pause."""
    has_exhausted_retries: bool = False
    """Whether all retries in place were used up."""


class BudgetExhausted(RetryLater):
    """A budget of calls is used up for ``after`` seconds. This is no failure."""


class Outage(RetryLater):
    """Nango itself is down; the connection that met this is not the cause."""


class StorageFull(RetryLater):
    """A disk, or the memory of a server that we use, is full. Work resumes once there is space."""


class MalformedResponse(RetryLater):
    """A response cannot be understood or trusted; nothing of it was used."""


class EventRefused(RetryLater):
    """The receiver of a sink refuses one event; later events of its connection wait behind it."""


class EventFailed(RetryLater):
    """The receiver of a sink failed at one event; the cause may be the receiver or the event."""


class CursorExpired(MirrorError):
    """Graph no longer knows the cursor."""


class ResourceRefused(MirrorError):
    """The tenant does not permit or offer this resource; ``status`` and ``code`` are Graph's."""

    status: int = 0
    code: str = ""
    graph_message: str = ""
    """Graph's message, searched for names of properties; never shown or logged."""


class NotLicensed(ResourceRefused):
    """The tenant lacks the licence that this resource needs. This is no failure."""


class ConnectionBroken(MirrorError):
    """The connection cannot be used until a person repairs it."""


class ConfigurationError(MirrorError):
    """Our own configuration is wrong."""


class InvalidInput(MirrorError):
    """What a person typed or sent cannot be used: that command or request is refused."""


class StateConflict(MirrorError):
    """The present state of a connection or erasure does not allow what a person asked for."""


class ExpectationChanged(StateConflict):
    """What a person saw and confirmed has changed; ``current`` is how it is now, for programs."""

    current: object = None


class MalformedObject(MirrorError):
    """One object cannot be decoded."""


class NotFound(MirrorError):
    """Something that a person named does not exist."""


class LeaseHeld(MirrorError):
    """Another process holds the connection's lease."""


class LeaseLost(MirrorError):
    """Another process took over the lease."""


class SinkMisconfigured(MirrorError):
    """The settings of one sink cannot be used; its events wait until somebody corrects them."""


class SinkGone(MirrorError):
    """The receiver of a sink wants no more events."""


class ServerUnavailable(MirrorError):
    """Postgres or Redis cannot be reached."""
