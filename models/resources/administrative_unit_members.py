"""Members of administrative units, keyed by unit and member. They arrive in the units.

https://learn.microsoft.com/graph/api/administrativeunit-list-members
"""

from typing import Final

from models.edge import Edge, HiddenBy
from models.property import guid, text
from models.resource import PartialIndex, Resource, Verbs
from models.source import Source

ADMINISTRATIVE_UNIT_MEMBERS: Final = Resource(
    name="administrative_unit_members",
    meaning="Members of administrative units; live only while neither end is deleted here",
    permission="AdministrativeUnit.Read.All",
    edge=Edge(
        parent="administrative_units",
        relation="members",
        hidden_by=HiddenBy("visibility", "HiddenMembership"),
    ),
    source=Source(path="/directory/administrativeUnits/{id}/members", page_size=999, intervals=()),
    event_noun="administrative_unit",
    verbs=Verbs("member_added", "member_updated", "member_removed", restored="member_added"),
    phrase="{member_id} in {unit_id}",
    indexes=(PartialIndex("cascaded", "deleted_reason = 'cascade'"),),
    properties=(
        guid("unit_id", "the unit", key=True, references=("administrative_units",)),
        guid("member_id", "the member", key=True, references=("users", "groups"), indexed=True),
        text("member_type", "user, group, device or other"),
    ),
)
