"""Owners of groups, keyed by group and owner. They arrive in groups as ``owners@delta``.

https://learn.microsoft.com/graph/api/group-list-owners
"""

from typing import Final

from models.edge import Edge
from models.property import guid, text
from models.resource import PartialIndex, Resource, Verbs
from models.source import Source

GROUP_OWNERS: Final = Resource(
    name="group_owners",
    meaning="Owners of groups; live only while neither end is deleted here",
    permission="GroupMember.Read.All",
    edge=Edge(parent="groups", relation="owners"),
    source=Source(path="/groups/{id}/owners", page_size=999, intervals=()),
    event_noun="group",
    verbs=Verbs("owner_added", "owner_updated", "owner_removed", restored="owner_added"),
    phrase="{owner_id} of {group_id}",
    indexes=(PartialIndex("cascaded", "deleted_reason = 'cascade'"),),
    properties=(
        guid("group_id", "the group", key=True, references=("groups",)),
        guid("owner_id", "the owner", key=True, references=("users",), indexed=True),
        text("owner_type", "user, service_principal or other"),
    ),
)
