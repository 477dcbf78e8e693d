"""What a position keeps about a refused event, and how that is tried at once."""

from collections.abc import Collection
from typing import Final

import sqlalchemy as sa
from sqlalchemy import text

CLEAR_REFUSAL: Final = """
    failures = 0, retry_at = null, failed_at = null, reason = null, refused_id = null
"""
"""What a position is set to that stands in front of another event, or is to be tried at once."""

_RETRY = text(f"""
    update events.positions set {CLEAR_REFUSAL}
     where sink_id = :id and failures > 0
       and (cast(:ids as bigint[]) is null or connection_id = any (cast(:ids as bigint[])))
""")


def retry_refused(
    db: sa.Connection, sink_id: int, connection_ids: Collection[int] | None = None
) -> int:
    """Have refused events tried at once, with short pauses again; of how many connections."""
    ids = None if connection_ids is None else sorted(connection_ids)
    return db.execute(_RETRY, {"id": sink_id, "ids": ids}).rowcount
