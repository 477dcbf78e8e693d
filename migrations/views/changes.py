"""What changed, in people's words: each change event as it concerns names and properties."""

from typing import Final

from migrations.views.function import AnalyticsFunction, Argument
from migrations.views.relations import DOCUMENT, RELATIONS, as_guid, find_name, get_value
from migrations.views.view import CONNECTION_ID, ORGANIZATION, AnalyticsView, Column
from models.property import GUID
from models.resource import Resource
from models.resources import RESOURCES

_ACCESS: Final = tuple(one.resource for one in RELATIONS if one.is_access)


def _find_permission(resource: str) -> str:
    """Return the name of an app role, and that of its application; null of access without one."""
    return f"""(select (role.one ->> 'value') || ' of ' || coalesce(x.display_name, '?')
                     from directory.service_principals x
                    cross join jsonb_array_elements(x.app_roles) as role (one)
                    where x.connection_id = e.connection_id and x.id = {as_guid("k.target_id")}
                      and role.one ->> 'id' = {get_value(resource, "app_role_id")}
                    limit 1)"""


_PERMISSIONS: Final = "".join(
    f"\n            when '{name}' then {_find_permission(name)}"
    for name in ("app_role_assignments", "other_app_role_assignments")
)


def _choose(what: str) -> str:
    """Return a case by the resource, with the SQL that each relation has for an attribute."""
    each = (f"\n            when '{one.resource}' then {getattr(one, what)}" for one in RELATIONS)
    return f"case e.resource{''.join(each)} end"


def _choose_text(what: str) -> str:
    """Return a case by the resource, with the text that each relation has for an attribute."""
    each = (f" when '{one.resource}' then '{getattr(one, what)}'" for one in RELATIONS)
    return f"case e.resource{''.join(each)} end"


def _name_object(resource: Resource) -> str:
    labels, key = resource.labels, resource.key_columns[0]
    guid = key.type is GUID
    place = as_guid("e.object_id") if guid else "e.object_id"
    shown = ", ".join(f"nullif(x.{label}, '')" for label in labels)
    told = ", ".join(f"{DOCUMENT} ->> '{label}'" for label in labels)
    return (
        f"coalesce((select coalesce({shown}) from directory.{resource.name} x"
        f" where x.connection_id = e.connection_id and x.id = {place}), {told})"
    )


_NAMED: Final = tuple(one for one in RESOURCES.values() if one.labels)
_OWN_NAMES: Final = "".join(
    f"\n            when '{one.name}' then {_name_object(one)}" for one in _NAMED
)
_NOUNS: Final = "".join(
    f" when '{one.name}' then '{one.event_noun.replace('_', ' ')}'" for one in _NAMED
)
_TARGET: Final = "coalesce(n.target_name, k.target_id, '?')"
_PRINCIPAL: Final = "coalesce(n.principal_name, k.principal_id, '?')"
_OBJECT_NAME: Final = f"""case when k.principal_id is null then n.own_name
            else {_PRINCIPAL} || {_choose_text("link")} || {_TARGET} end"""
_PROPERTY: Final = "replace(p.property, '_', ' ')"
_SENTENCE: Final = f"""case
            when e.change = 'updated'
            then coalesce({_OBJECT_NAME}, e.object_id) || ': ' || {_PROPERTY}
                 || case when e.before ->> p.property is null
                         then ' was set to ' || coalesce(e.after ->> p.property, 'nothing')
                         when e.after ->> p.property is null
                         then ' was cleared; it was ' || (e.before ->> p.property)
                         else ' was changed from ' || (e.before ->> p.property)
                              || ' to ' || (e.after ->> p.property) end
            when k.principal_id is not null
            then {_PRINCIPAL} || ' '
                 || case when e.change = 'deleted' then {_choose_text("lost")}
                         else {_choose_text("gained")} end
                 || ' ' || {_TARGET}
            else 'The ' || case e.resource{_NOUNS} else e.resource end || ' '
                 || coalesce(n.own_name, e.object_id) || ' was ' || e.change end"""

_SOURCE: Final = f"""
  from events.change_events e
  join sync.connections c on c.id = e.connection_id and c.status <> 'retired'
 cross join lateral (
       select {_choose("principal")} as principal_id,
              {_choose("target")} as target_id
       offset 0) k
 cross join lateral (
       select {find_name("k.principal_id", "users", "groups", "service_principals")}
              as principal_name,
              coalesce(case e.resource{_PERMISSIONS} end,
            {_choose("target_name")}) as target_name,
              case e.resource{_OWN_NAMES} end as own_name
       offset 0) n
  left join lateral unnest(case when e.change = 'updated' then e.changed end) as p (property)
    on true
 where not (e.initial and e.change = 'created') and e.resource <> 'connection'
"""

CHANGES: Final = AnalyticsView(
    "changes",
    "What changed, a row for each changed property and for each object that was created, deleted or"
    " restored; without what first loads created. Name the connection and, if you can, a time",
    (
        ORGANIZATION,
        Column(
            "connection_id",
            "e.connection_id",
            CONNECTION_ID.meaning,
            references="connections",
        ),
        Column("seq", "e.seq", "the number of the event: 1, 2, 3 ... for each connection"),
        Column(
            "occurred_at",
            "e.occurred_at",
            "when it was seen and written here; Microsoft 365 had it up to one interval earlier",
        ),
        Column("resource", "e.resource", "the table of schema directory"),
        Column(
            "object_id",
            "e.object_id",
            "the key of the row: an id, or both ids of a membership with / between them",
            personal=True,
        ),
        Column(
            "object_name",
            _OBJECT_NAME,
            "the object's name, the present or last one; of a membership, role and such both names;"
            " null where none is known, as after an erasure",
            personal=True,
        ),
        Column("change", "e.change", "created, updated, deleted or restored"),
        Column(
            "property",
            "p.property",
            "the column that changed; null of objects that were created, deleted or restored",
        ),
        Column(
            "old_value",
            "case when e.change = 'updated' then e.before ->> p.property end",
            "its value before, as text; null where it had none, and where property is null",
            personal=True,
        ),
        Column(
            "new_value",
            "case when e.change = 'updated' then e.after ->> p.property end",
            "its value afterwards, as text; null where it has none, and where property is null",
            personal=True,
        ),
        Column(
            "is_initial",
            "e.initial",
            "whether it was seen by a first load, so that it may have happened at any time before",
        ),
        Column(
            "principal_id",
            "k.principal_id",
            "who gains or loses something: the member, owner, holder, application, or user with a"
            " manager; null of other objects",
            personal=True,
        ),
        Column(
            "principal_name",
            "n.principal_name",
            "the present or last name of that; null where it is not mirrored, or of other objects",
            personal=True,
        ),
        Column(
            "target_id",
            "k.target_id",
            "what is gained or lost: the group, unit, role, application or manager; null of other"
            " objects",
            personal=True,
        ),
        Column(
            "target_name",
            "n.target_name",
            "the present or last name of that, with the permission of an application; null where it"
            " is not mirrored, or of other objects",
            personal=True,
        ),
        Column("sentence", _SENTENCE, "what happened, in a sentence", personal=True),
    ),
    _SOURCE,
    key=("connection_id", "seq", "property"),
)

ACCESS_CHANGES: Final = AnalyticsFunction(
    "access_changes",
    "What changed in memberships, ownerships, roles, eligibilities and permissions of applications"
    " of one customer from start_at up to, but not including, end_at",
    arguments=(
        Argument("connection", "bigint"),
        Argument("start_at", "timestamptz"),
        Argument("end_at", "timestamptz"),
    ),
    columns=(
        Argument("seq", "bigint"),
        Argument("occurred_at", "timestamptz"),
        Argument("resource", "text"),
        Argument("change", "text"),
        Argument("principal_id", "text"),
        Argument("principal_name", "text"),
        Argument("target_id", "text"),
        Argument("target_name", "text"),
        Argument("property", "text"),
        Argument("old_value", "text"),
        Argument("new_value", "text"),
        Argument("sentence", "text"),
    ),
    body=f"""
select h.seq, h.occurred_at, h.resource,
       case h.change when 'updated' then 'changed' when 'deleted' then 'lost' else 'gained' end,
       h.principal_id, h.principal_name, h.target_id, h.target_name, h.property, h.old_value,
       h.new_value, h.sentence
  from analytics.changes h
 where h.connection_id = connection and h.occurred_at >= start_at and h.occurred_at < end_at
   and h.resource in ({", ".join(f"'{one}'" for one in _ACCESS)})
""",
)
