"""Direct memberships, keyed by group and member. They arrive in groups as ``members@delta``.

https://learn.microsoft.com/graph/delta-query-groups
"""

from typing import Final

from models.edge import Edge, HiddenBy
from models.property import guid, text
from models.resource import PartialIndex, Resource, Verbs
from models.source import Source

GROUP_MEMBERS: Final = Resource(
    name="group_members",
    meaning="Direct members of groups; live only while neither end is deleted here",
    permission="GroupMember.Read.All",
    edge=Edge(
        parent="groups",
        relation="members",
        member_of="/{members}/{id}/memberOf",
        unreported_after_restore="users",
        hidden_by=HiddenBy("visibility", "HiddenMembership"),
    ),
    source=Source(path="/groups/{id}/members", page_size=999, intervals=()),
    event_noun="group",
    verbs=Verbs("member_added", "member_updated", "member_removed", restored="member_added"),
    phrase="{member_id} in {group_id}",
    indexes=(
        PartialIndex("cascaded", "deleted_reason = 'cascade'"),
        PartialIndex(
            "nested", "member_type = 'group' and deleted_at is null", ("group_id", "member_id")
        ),
        PartialIndex(
            "unnamed", "member_type = 'other' or member_type is null", ("group_id", "member_id")
        ),
    ),
    properties=(
        guid("group_id", "the group", key=True, references=("groups",)),
        guid("member_id", "the member", key=True, references=("users", "groups"), indexed=True),
        text("member_type", "user, group, device, service_principal, org_contact or other"),
    ),
)
