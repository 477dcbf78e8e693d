"""Direct memberships, keyed by group and member. They arrive in groups as ``members@delta``.

https://learn.microsoft.com/graph/delta-query-groups
"""

from typing import Final

from models.property import guid, text
from models.resource import PartialIndex, Resource, Verbs
from models.source import Source

MEMBER_TYPES: Final = {
    "#microsoft.graph.user": "user",
    "#microsoft.graph.group": "group",
    "#microsoft.graph.device": "device",
    "#microsoft.graph.servicePrincipal": "service_principal",
    "#microsoft.graph.orgContact": "org_contact",
}

GROUP_MEMBERS: Final = Resource(
    name="group_members",
    meaning="Direct members of groups; live only while neither end is deleted here",
    permission="GroupMember.Read.All",
    parent="groups",
    source=Source(path="/groups/{id}/members", page_size=999, intervals=()),
    event_noun="group",
    verbs=Verbs("member_added", "member_updated", "member_removed", restored="member_added"),
    phrase="{member_id} in {group_id}",
    indexes=(PartialIndex("cascaded", "deleted_reason = 'cascade'"),),
    properties=(
        guid("group_id", "the group", key=True, references=("groups",)),
        guid("member_id", "the member", key=True, references=("users", "groups"), indexed=True),
        text("member_type", "user, group, device, service_principal, org_contact or other"),
    ),
)
