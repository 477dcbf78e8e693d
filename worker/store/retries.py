"""What a position keeps about a refused event, and how that is tried at once."""

from collections.abc import Collection
from typing import Final

from sqlalchemy import Connection, text

NOT_REFUSED: Final = """
    failures = 0, retry_at = null, failed_at = null, reason = null, refused_id = null
"""
"""What a position is set to that stands in front of another event, or is to be tried at once."""

_RETRY = text(f"""
    update events.positions set {NOT_REFUSED}
     where sink_id = :id and failures > 0
       and (cast(:ids as bigint[]) is null or connection_id = any (cast(:ids as bigint[])))
""")


def retry_refused(connection: Connection, sink_id: int, only: Collection[int] | None = None) -> int:
    """Have refused events tried at once, with short pauses again; of how many connections."""
    ids = None if only is None else sorted(only)
    return connection.execute(_RETRY, {"id": sink_id, "ids": ids}).rowcount
