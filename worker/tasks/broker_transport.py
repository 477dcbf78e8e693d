"""Celery's Redis transport for servers that change their roles.

In a failover a primary answers that it is a replica (``READONLY``), that it is loading
(``LOADING``), that its own primary is down (``MASTERDOWN``), or that a blocking call has ended with
its role (``UNBLOCKED``); the address may lead to another server by then. kombu takes such an answer
for an error in a command: a worker ends with it, and a producer sends the next message over the
same connection. Here every error that Redis answers with closes the connection, which is opened
again after a pause, at the address as it is then.
"""

from typing import Any, Final

import redis.exceptions
from kombu.transport import TRANSPORT_ALIASES
from kombu.transport import redis as kombu_redis

WRITE_CHECK_KEY: Final = "writable"
"""A list that is never there. What is pushed to a list only if it is there changes nothing, but
needs a server that takes writes and has room."""


class FailoverTransport(kombu_redis.Transport):
    """kombu's transport, only for writable servers; their errors count as lost connections."""

    connection_errors = (
        *kombu_redis.Transport.connection_errors,
        redis.exceptions.ResponseError,
    )

    def create_channel(self, connection: Any) -> Any:
        """Return a channel to a server that accepts writes now. Raises its error otherwise."""
        channel: Any = super().create_channel(connection)
        try:
            channel.client.execute_command(
                "LPUSHX", f"{channel.global_keyprefix}{WRITE_CHECK_KEY}", ""
            )
        except redis.exceptions.NoPermissionError:
            # The user may not run LPUSHX; the first refused message shows the same error.
            return channel
        except BaseException:
            channel.close()
            raise
        return channel


def register_transport() -> None:
    """Make kombu use this transport for every Redis URL in this process."""
    name = f"{__name__}:{FailoverTransport.__qualname__}"
    TRANSPORT_ALIASES.update(redis=name, rediss=name)
