"""Groups in groups: whether their closure is stored, members through them, and the ways.

Answers are the same where no closure is stored: the memberships are walked then, level by level.
"""

from typing import Final

from migrations.views.view import CONNECTION_ID, ORGANIZATION, SIGN_IN_NAME, AnalyticsView, Column

_KNOWN: Final = "s.nesting is not null and s.nesting_mark = s.walk_id || '/' || s.page_no"
"""As ``worker/store/mirror/nesting.py`` has it: an earlier release moves on without the mark."""

_STATE: Final = f"case when {_KNOWN} then s.nesting else 'not_known' end"

NESTING: Final = AnalyticsView(
    "nesting",
    "Whether it is stored which groups lie in which others, directly or through others",
    (
        ORGANIZATION,
        Column(
            "connection_id",
            "c.id",
            CONNECTION_ID.meaning,
            references="connections",
        ),
        Column(
            "state",
            _STATE,
            "complete; too_large where there are too many pairs to keep; not_known until the groups"
            " were read. Answers are the same in all three, and slower where it is not complete",
        ),
        Column(
            "pairs",
            f"case when {_KNOWN} then s.nesting_pairs end",
            "how many pairs of an outer and an inner group there are; null where it is not"
            " complete",
        ),
        Column(
            "computed_at",
            "s.nesting_at",
            "when all of it was last computed, after which it is kept up to date; null where it"
            " never was",
        ),
    ),
    """
  from sync.connections c
  left join sync.streams s on s.connection_id = c.id and s.resource = 'groups'
 where c.status <> 'retired'
""",
    key=("connection_id",),
)

_WALK: Final = """
                       with recursive level (depth, ids, seen) as (
                            select 0, array[o.id], array[o.id] where c.state <> 'complete'
                             union all
                            select l.depth + 1, f.ids, l.seen || f.ids
                              from level l
                             cross join lateral (
                                   select array_agg(distinct d.member_id) as ids
                                     from unnest(l.ids) as w (id)
                                     join directory.group_members d
                                       on d.connection_id = o.connection_id and d.group_id = w.id
                                    where d.member_type = 'group' and d.deleted_at is null
                                      and not exists (select from unnest(l.seen) s (id)
                                                       where s.id = d.member_id)) f
                             where f.ids is not null)
                       select w.id as group_id, l.depth
                         from level l cross join lateral unnest(l.ids) as w (id)"""
"""A group ``o`` of a connection ``c`` and the groups inside it, a row of arrays for each level:
what ``groups_inside`` does, without names and for connections without a closure only, which is half
as much for the planner. The condition inside makes it follow ``c``, so that it is not begun
elsewhere.
"""

_IS_STORED: Final = f"case when {_KNOWN} then s.nesting = 'complete' else false end"
"""Written so that the planner, which has no figures of it, takes it to hold for one row in two.
That a closure is not stored is written as a list of two values, for one row in a hundred."""

# The names are found before the ways of a member are counted, so that a filter by name reads no
# more than one by id. They follow from the keys of their tables, so rows are grouped by keys alone,
# and names that a question does not select are not carried through the sort.


def _render_members(pairs: str, condition: str) -> str:
    """Return a query of the members of groups, by pairs ``k`` of a group and one inside it."""
    return f"""select c.id as connection_id, c.display_name as organization, k.group_id,
               g.display_name as group_name, d.member_id, u.id as user_id,
               u.display_name as user_name, u.user_principal_name,
               max(nullif(d.member_type, 'other')) as member_type,
               min(k.depth) as depth, count(*) as ways,
               (array_agg(k.inner_id order by k.depth, k.inner_id))[1] as through_id
          from {pairs} k
          join sync.connections c on c.id = k.connection_id and c.status <> 'retired'
          left join sync.streams s on s.connection_id = c.id and s.resource = 'groups'
          join directory.group_members d
            on d.connection_id = k.connection_id and d.group_id = k.inner_id
          left join directory.groups g
            on g.connection_id = k.connection_id and g.id = k.group_id
          left join directory.users u
            on u.connection_id = d.connection_id and u.id = d.member_id
         where {condition} and d.deleted_at is null
         group by c.id, k.group_id, d.member_id, g.connection_id, g.id, u.connection_id, u.id"""


_STORED: Final = _render_members(
    """(
               select connection_id, id as group_id, id as inner_id, 0 as depth
                 from directory.groups
                union all
               select connection_id, group_id, inner_id, depth from directory.group_closure)""",
    f"{_IS_STORED} and (k.depth = 0 or k.inner_id <> k.group_id)",
)
_WALKED: Final = _render_members(
    f"""(
               select c.connection_id, o.id as group_id, i.group_id as inner_id, i.depth
                 from analytics.nesting c
                 join directory.groups o
                   on o.connection_id = case when c.state <> 'complete' then c.connection_id end
                cross join lateral ({_WALK}) i)""",
    f"{_STATE} in ('not_known', 'too_large')",
)

EFFECTIVE_GROUP_MEMBERS: Final = AnalyticsView(
    "effective_group_members",
    "Members of groups, directly or through groups in groups. Those of a group with visibility"
    " HiddenMembership are there only where Member.Read.Hidden is granted",
    (
        Column("organization", "t.organization", ORGANIZATION.meaning),
        Column(
            "connection_id",
            "t.connection_id",
            CONNECTION_ID.meaning,
            references="connections",
        ),
        Column("group_id", "t.group_id", "the group's id", references="groups"),
        Column(
            "group_name",
            "t.group_name",
            "the group's name; null where it is empty or the group is not mirrored",
            personal=True,
        ),
        Column(
            "member_id",
            "t.member_id",
            "the member's id; the group's own where groups are members of each other in a circle",
            personal=True,
        ),
        Column(
            "member_type",
            """case when t.member_type is not null then t.member_type
            when t.user_id is not null then 'user' when m.id is not null then 'group'
            when p.id is not null then 'service_principal' else 'unresolved' end""",
            "user, group, device, service_principal or org_contact; unresolved where Graph did not"
            " name a type that is known",
        ),
        Column(
            "member_name",
            "coalesce(t.user_name, m.display_name, p.display_name)",
            "the name of a user, group or service principal; null of others, which are not"
            " mirrored",
            personal=True,
        ),
        Column("user_principal_name", "t.user_principal_name", SIGN_IN_NAME.meaning, personal=True),
        Column(
            "depth",
            "t.depth",
            "groups between the group and the member on the shortest way: 0 is a direct member",
        ),
        Column(
            "ways",
            "t.ways",
            "in how many groups it is a direct member, counting the group and those inside it",
        ),
        Column(
            "through_group_id",
            "t.through_id",
            "the group of which it is a direct member, on the shortest way",
            references="groups",
        ),
        Column(
            "through_group_name",
            "w.display_name",
            "the name of that group; null where it is empty or the group is not mirrored",
            personal=True,
        ),
    ),
    f"""
  from ({_STORED}
        union all
        {_WALKED}) t
  left join directory.groups w on w.connection_id = t.connection_id and w.id = t.through_id
  left join directory.groups m on m.connection_id = t.connection_id and m.id = t.member_id
  left join directory.service_principals p
    on p.connection_id = t.connection_id and p.id = t.member_id
""",
    key=("connection_id", "group_id", "member_id"),
)
