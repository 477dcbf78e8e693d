"""Direct memberships, keyed by group and member. They arrive in groups as ``members@delta``.

https://learn.microsoft.com/graph/delta-query-groups
"""

from typing import Final

from sqlalchemy import Column, Index, Text, text

from models.resource import Kind, Resource, guid_key, mirror_table

group_members = mirror_table(
    "group_members",
    guid_key("group_id"),
    guid_key("member_id"),
    Column(
        "member_type",
        Text,
        comment="user, group, device, service_principal, org_contact or other",
    ),
    Index(None, "member_id", "connection_id"),
    Index(
        "ix_group_members_cascaded",
        "connection_id",
        postgresql_where=text("deleted_reason = 'cascade'"),
    ),
    comment="Direct members of groups; live only while neither end is deleted here",
)

MEMBER_TYPES: Final = {
    "#microsoft.graph.user": "user",
    "#microsoft.graph.group": "group",
    "#microsoft.graph.device": "device",
    "#microsoft.graph.servicePrincipal": "service_principal",
    "#microsoft.graph.orgContact": "org_contact",
}

GROUP_MEMBERS = Resource(
    name="group_members",
    kind=Kind.EDGE,
    table=group_members,
    path="/groups/{id}/members",
    permission="GroupMember.Read.All",
    parent="groups",
    event_noun="group",
)
