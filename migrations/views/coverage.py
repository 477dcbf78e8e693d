"""What is mirrored of each customer and resource, since when, and what is known to be missing."""

from typing import Final

from migrations.views.connections import PHASES
from migrations.views.view import CONNECTION_ID, CUSTOMER, AnalyticsView, Column
from models.resources import RESOURCES

_EVENTS: Final = """
  from (select e.connection_id, e.seq, e.occurred_at, e.after ->> 'reason' as reason,
               case e.change when 'coverage_changed' then e.after ->> 'resource' end as resource,
               case e.change when 'coverage_changed' then e.after ->> 'state' else e.change end
                   as kind,
               lead(e.occurred_at) over (
                   partition by e.connection_id, case e.change when 'coverage_changed'
                                                      then e.after ->> 'resource' end
                       order by e.seq) as ended_at
          from sync.connections o
          join events.change_events e on e.connection_id = o.id and e.object_id = o.id::text
         where e.resource = 'connection' and not (e.initial and e.change = 'created')
           and (e.change in ('broken', 'recovered')
                or e.change = 'coverage_changed' and e.after ->> 'state' in ('on', 'off'))
        union all
        select o.id, null, o.operator_paused_at, 'an operator has paused it', null, 'paused', null
          from sync.connections o where o.operator_paused_at is not null) t
  join sync.connections c on c.id = t.connection_id and c.status <> 'retired'
 where t.kind in ('broken', 'off', 'paused')
"""

COVERAGE_GAPS: Final = AnalyticsView(
    "coverage_gaps",
    "Times in which nothing was read of a customer or a resource: what began and ended in one of"
    " them was never seen, and what changed was seen at its end. As long as events are kept; of"
    " pauses only the present one",
    (
        *CUSTOMER,
        Column(
            "resource", "t.resource", "the table of schema directory; null where it is all of them"
        ),
        Column(
            "kind",
            "t.kind",
            "broken (the connection), paused (by an operator) or off (switched off by settings)",
        ),
        Column("began_at", "t.occurred_at", "when it began"),
        Column("ended_at", "t.ended_at", "when it ended; null where it still goes on"),
        Column("reason", "t.reason", "why, in plain words; null where none was given"),
    ),
    _EVENTS,
    key=("connection_id", "resource", "kind", "began_at"),
)


def _choose(pieces: dict[str, str]) -> str:
    each = "".join(f"\n            when '{name}' then {sql}" for name, sql in pieces.items())
    return f"case f.resource{each} end"


_PERMISSION: Final = _choose({name: f"'{one.permission}'" for name, one in RESOURCES.items()})
_COUNTS: Final = _choose(
    {
        name: f"(select count(*) from directory.{name} x"
        " where x.connection_id = f.connection_id and x.deleted_at is null)"
        for name in RESOURCES
    }
)
_WITHOUT_EVENTS: Final = ", ".join(
    f"'{name}'" for name, one in RESOURCES.items() if not one.has_events
)
_IS_COMPLETE: Final = "(f.fresh_at is not null and f.phase <> 'off')"

_COLUMNS: Final = _choose(
    {
        name: f"'{{{','.join(one.column_names)}}}'::text[]"
        for name, one in RESOURCES.items()
        if not one.is_edge
    }
)


def _count(table: str, where: str = "true") -> str:
    return (
        f"(select count(*) from sync.{table} x where x.connection_id = f.connection_id"
        f" and x.resource = f.resource and {where})"
    )


COVERAGE: Final = AnalyticsView(
    "coverage",
    "What is mirrored of each customer and resource: since when, how new, and what is missing",
    (
        Column(
            "organization",
            "f.organization",
            "the name of the customer's organization; null until it was first read",
        ),
        Column(
            "connection_id",
            "f.connection_id",
            CONNECTION_ID.meaning,
            references="connections",
        ),
        Column("resource", "f.resource", "the table of schema directory"),
        Column(
            "is_complete",
            _IS_COMPLETE,
            "whether all of it was read, as of fresh_at; false where it is off, or was never read"
            " to the end",
        ),
        Column(
            "fresh_at",
            "f.fresh_at",
            "the rows are at least as new as this; null where they were never read",
        ),
        Column("is_late", "f.is_late", "whether it is older than it should be"),
        Column(
            "phase",
            "f.phase",
            PHASES,
        ),
        Column(
            "why",
            """case when c.status = 'broken'
            then 'the connection is broken' || coalesce(': ' || c.status_reason, '')
            when c.status = 'paused' then 'its settings in Nango pause the connection'
            when c.operator_paused_at is not null then 'an operator has paused it'
            when f.phase = 'off' then 'the settings switch it off'
            when f.phase = 'not_licensed' then 'the tenant has no licence for it'
            when f.reason is not null then f.reason
            when f.fresh_at is null then 'it was not read to the end yet' end""",
            "why it is not read, or not complete, in plain words; null where all is well",
        ),
        Column(
            "permission",
            _PERMISSION,
            "the application permission of Microsoft Graph that reading it needs; null of a"
            " resource that this release does not know",
        ),
        Column(
            "needs_permission",
            "f.phase = 'refused' and coalesce(f.reason like '%grant the application permission%',"
            " false)",
            "whether the customer has not granted that permission, as far as Graph says so",
        ),
        Column(
            "complete_since",
            f"case when {_IS_COMPLETE} then s.first_complete_at end",
            "when it was read to the end for the first time; null where it is not complete",
        ),
        Column(
            "history_begins_at",
            f"""case when {_IS_COMPLETE} and f.resource not in ({_WITHOUT_EVENTS})
            then greatest(s.first_complete_at, k.oldest_at, b.came_at) end""",
            "from when on change events tell all that was seen of it: the end of its first load, or"
            " the oldest event that is still kept; null where it has no events or is not complete",
        ),
        Column(
            "live_rows",
            f"case when {_IS_COMPLETE} then {_COUNTS} end",
            "rows that are not deleted; null, not 0, where it is not complete",
        ),
        Column(
            "unread_columns",
            f"""(select string_agg(column_name, ', ') from unnest({_COLUMNS}) as column_name
             where f.phase <> 'off' and not column_name = any(s.walked_columns))""",
            "columns that the last full walk did not bring: Graph refuses them, the settings leave"
            " them out, or the next full walk brings them; null where it brought all, or where"
            " there was none",
        ),
        Column(
            "held_deletions",
            _count("removals", "x.held"),
            "rows whose deletion waits for an operator; they count as live",
        ),
        Column(
            "unanswered_parts",
            _count("unresolved"),
            "objects, or members of one, for which Graph does not answer: they stay as they were",
        ),
        Column(
            "malformed_objects",
            _count("quarantine", "x.kept_apart"),
            "objects that Graph sends in a form that cannot be stored: they stay as they were",
        ),
        Column(
            "erased_objects",
            _count("erasures"),
            "objects that were erased on request and are not mirrored again; memberships aside",
        ),
        Column(
            "gap_count",
            "coalesce(g.number, 0)",
            "how often nothing was read for a time, as analytics.coverage_gaps has it",
        ),
        Column(
            "last_gap_began_at",
            "g.began_at",
            "when the last of these times began; null where there was none",
        ),
        Column(
            "last_gap_ended_at",
            "g.ended_at",
            "when that one ended; null where there was none, or it still goes on",
        ),
        Column(
            "nesting",
            """(select n.state from analytics.nesting n
         where n.connection_id = f.connection_id
           and f.resource in ('groups', 'group_members'))""",
            "of groups and group_members, whether it is stored which groups lie in which others, as"
            " analytics.nesting has it: complete, too_large or not_known; null of other resources",
        ),
    ),
    """
  from analytics.freshness f
  join sync.connections c on c.id = f.connection_id
  join sync.resources w on w.name = f.resource
  left join sync.streams s on s.connection_id = f.connection_id and s.resource = w.stream
  left join lateral (
       select e.occurred_at as oldest_at from events.change_events e
        where e.connection_id = f.connection_id order by e.seq limit 1) k on true
  left join lateral (
       select e.occurred_at as came_at from events.change_events e
        where e.connection_id = f.connection_id
          and e.seq = (s.covered_since ->> coalesce(w.relation, 'id'))::bigint) b on true
  left join (
       select x.connection_id, r.name as resource, count(*) as number, max(x.began_at) as began_at,
              (array_agg(x.ended_at order by x.began_at desc))[1] as ended_at
         from analytics.coverage_gaps x
         join sync.resources r on x.resource is null or x.resource = r.name
        group by 1, 2) g on g.connection_id = f.connection_id and g.resource = f.resource
""",
    key=("connection_id", "resource"),
)
