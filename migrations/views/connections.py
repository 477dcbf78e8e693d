"""Customers, and how fresh their rows are."""

from typing import Final

from migrations.views.view import CONNECTION_ID, AnalyticsView, Column

_NOT_LICENSED: Final = (
    "(s.phase = 'refused' and s.reason like '%the tenant has no licence for this')"
)
"""The reason as ``worker/conditions/reasons.py`` has it; a test holds the two together."""

_OFF: Final = (
    "(s.off_at is not null or coalesce(w.relation = any(s.dropped), false)"
    " or s.resource is null and w.is_optional)"
)
"""Off, the edges of a stream that is on included; without a stream yet, by the declaration."""

_NOT_BROUGHT: Final = "coalesce(not w.relation = any(s.walked_columns), false)"
"""Whether the last complete walk of the parents did not bring these edges."""

_REFUSED: Final = "coalesce(w.relation = any(s.left_out), false)"
"""Whether Graph refuses the relation that carries the edges, alone."""

_ID: Final = Column(
    "connection_id",
    "c.id",
    CONNECTION_ID.meaning,
)
_ORGANIZATION: Final = Column(
    "organization",
    "c.display_name",
    "the name of the customer's organization; null until it was first read",
)

PHASES: Final = (
    "ready (at rest until the next read), listing (a walk through all of it is under way), sweeping"
    " (rows that the walk did not see are checked and deleted), delta (its changes are followed),"
    " refused (Graph does not let it be read), held (deletions wait for an operator), not_licensed"
    " (the tenant has no licence for it) or off (the settings switch it off)"
)

FRESHNESS: Final = AnalyticsView(
    "freshness",
    "How new the rows of each customer and resource are",
    (
        _ID,
        _ORGANIZATION,
        Column("resource", "w.name", "the table of schema directory"),
        Column(
            "fresh_at",
            f"case when not {_NOT_BROUGHT} then s.fresh_at end",
            "the rows are at least as new as this; null where they were never read, or the last"
            " full walk could not read them with their parents",
        ),
        Column(
            "interval_seconds",
            "s.interval_seconds",
            "seconds between two reads; null where none was begun",
        ),
        Column(
            "is_late",
            f"""coalesce(not {_NOT_LICENSED}, true) and not {_OFF} and
           coalesce(case when {_NOT_BROUGHT} then s.full_due_at end, s.fresh_at,
                    greatest(c.created_at, s.first_due_at))
               < clock_timestamp() - make_interval(secs => greatest(
                     3 * coalesce(s.interval_seconds, 300),
                     coalesce(s.interval_seconds, 300) + 600))""",
            "older than three intervals, and than one interval and ten minutes; false where the"
            " tenant lacks the licence for it, or the settings switch it off",
        ),
        Column(
            "phase",
            f"""case when {_OFF} then 'off' when {_NOT_LICENSED} then 'not_licensed'
            else coalesce(s.phase, 'ready') end""",
            PHASES,
        ),
        Column(
            "reason",
            f"""case when {_OFF} or not {_NOT_BROUGHT} then s.reason
            when {_REFUSED} then 'Graph refuses ' || w.relation || ' of ' || w.stream
            else 'the next full walk of ' || w.stream || ' brings it' end""",
            "why it is refused, held or waiting, in plain words; null where it is not",
        ),
    ),
    """
  from sync.connections c
 cross join sync.resources w
  left join sync.streams s on s.connection_id = c.id and s.resource = w.stream
 where c.status <> 'retired'
""",
    key=("connection_id", "resource"),
)

CONNECTIONS: Final = AnalyticsView(
    "connections",
    "Customers, without those that are retired",
    (
        _ID,
        Column(
            "tenant_id",
            "c.tenant_id",
            "the id of the Microsoft tenant; null until it was first read",
        ),
        _ORGANIZATION,
        Column("status", "c.status", "active, paused, broken or duplicate"),
        Column(
            "fresh_at",
            "f.fresh_at",
            "the rows of all resources are at least as new as this, without resources that are off,"
            " that the tenant has no licence for, or that an upgrade added and that were not read"
            " yet; null where any other resource was never read",
        ),
    ),
    """
  from sync.connections c
  left join lateral (
       select case when bool_and(fresh_at is not null) then min(fresh_at) end as fresh_at
         from analytics.freshness f
        where connection_id = c.id and phase not in ('not_licensed', 'off')
          and (fresh_at is not null or not exists (
                   select from sync.resources r
                     join sync.streams s on s.resource = r.stream
                    where r.name = f.resource and s.connection_id = c.id
                      and (s.first_due_at is not null or s.fresh_at is not null
                           and not coalesce(r.relation = any(s.left_out), false))))) f on true
 where c.status <> 'retired'
""",
    key=("connection_id",),
)
