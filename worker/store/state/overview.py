"""Overviews for operators: the streams of a connection, and its held deletions."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy import text

from models.resources import EDGES
from worker.store.state.streams import SHOWN_PHASE
from worker.store.state.unresolved import summarize_unresolved

_LEFT_OUT = "'omitted, Graph does not know it in this tenant: ' || array_to_string(left_out, ', ')"
_SMALL_PAGES = "'reads pages of ' || page_size || ', Graph does not answer larger ones'"
_EDGES_WITH_PARENTS = ", ".join(f"('{one.name}', '{one.parent}')" for one in EDGES)
_NOTE = f"{_LEFT_OUT}, {_SMALL_PAGES}"
_STREAMS = text(f"""
    select resource, {SHOWN_PHASE} as phase, mode, page_no, seen_count, restarts,
           first_complete_at, full_walk_at, walk_started_at, full_walk_count, fresh_at,
           extract(epoch from clock_timestamp() - fresh_at) as age_seconds,
           due_at, full_due_at, nullif(concat_ws('; ', reason, {_NOTE}), '') as reason, left_out,
           page_size,
           case when phase not in ('listing', 'sweeping') then drift end as drift,
           (select count(*) from sync.removals r where r.connection_id = s.connection_id
               and (r.resource = s.resource or
                    (r.resource, s.resource) in ({_EDGES_WITH_PARENTS}))
               and r.held) as held,
           (select count(*) from sync.quarantine q where q.connection_id = s.connection_id
               and q.resource = s.resource) as quarantined
      from sync.streams s where connection_id = :id order by resource
""")
_COUNT_HELD = text("""
    select resource, count(*) as number from sync.removals
     where connection_id = :id and held group by resource order by resource
""")


def count_held(db: sa.Connection, connection_id: int) -> dict[str, int]:
    """Return how many deletions of each resource wait for approval."""
    found = db.execute(_COUNT_HELD, {"id": connection_id})
    return {row.resource: row.number for row in found}


def load_streams_overview(
    db: sa.Connection, connection_id: int, *, has_unresolved: bool = True
) -> list[dict[str, Any]]:
    """Return the streams of a connection; ``unresolved`` is what Graph does not answer for.

    It is not looked for if the caller knows that there is nothing.
    """
    rows = db.execute(_STREAMS, {"id": connection_id}).mappings()
    apart = {}
    if has_unresolved:
        apart = summarize_unresolved(db, connection_id).get(connection_id, {})
    return [{**row, "unresolved": apart.get(row["resource"])} for row in rows]
