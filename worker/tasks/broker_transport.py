"""Celery's way to Redis, for servers that change their roles.

In a failover a primary answers that it is a replica (``READONLY``), that it loads (``LOADING``),
that its own primary is away (``MASTERDOWN``), or that a wait has ended with its role
(``UNBLOCKED``); the address may lead to another server by then. kombu takes such an answer for an
error in a command: a worker ends with it, and a producer sends the next message over the same
connection. Here every error that Redis answers with means that the connection is given up and
made again, after a pause, at the address as it is then.
"""

from typing import Any, Final

import redis.exceptions
from kombu.transport import TRANSPORT_ALIASES
from kombu.transport import redis as kombu_redis

WRITE_CHECK_KEY: Final = "writable"
"""A list that is never there. What is pushed to a list only if it is there changes nothing, but
needs a server that takes writes and has room."""


class FailoverTransport(kombu_redis.Transport):
    """The one of kombu, for servers that take writes; their errors count as lost connections."""

    connection_errors = (
        *kombu_redis.Transport.connection_errors,
        redis.exceptions.ResponseError,
    )

    def create_channel(self, connection: Any) -> Any:
        """A channel to a server that takes writes now. Raises what it answers with otherwise."""
        channel: Any = super().create_channel(connection)
        try:
            channel.client.execute_command(
                "LPUSHX", f"{channel.global_keyprefix}{WRITE_CHECK_KEY}", ""
            )
        except redis.exceptions.NoPermissionError:
            # Our user may not ask; the first message that Redis refuses tells the same.
            return channel
        except BaseException:
            channel.close()
            raise
        return channel


def register_transport() -> None:
    """Have kombu use it for every URL of Redis in this process."""
    name = f"{__name__}:{FailoverTransport.__qualname__}"
    TRANSPORT_ALIASES.update(redis=name, rediss=name)
