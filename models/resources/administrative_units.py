"""Administrative units. https://learn.microsoft.com/graph/api/resources/administrativeunit

A delta that selects ``members`` returns the members inside the units.
"""

from typing import Final

from models.property import boolean, guid, text
from models.resource import DELETED_INDEX, Resource
from models.source import Fallback, Mode, Source

ADMINISTRATIVE_UNITS: Final = Resource(
    name="administrative_units",
    meaning="Administrative units: parts of a directory with administrators of their own",
    graph_type="administrativeUnit",
    permission="AdministrativeUnit.Read.All",
    by_id="/directory/administrativeUnits/{id}",
    source=Source(
        path="/directory/administrativeUnits",
        delta_path="/directory/administrativeUnits/delta",
        walks_by_delta=True,
        page_size=999,
        intervals=("delta_seconds",),
    ),
    fallbacks=(
        Fallback(
            statuses=frozenset({400, 404, 501}),
            at_delta_start=True,
            source=Source(
                mode=Mode.LIST_ONLY,
                path="/directory/administrativeUnits",
                page_size=999,
                relations_apart=True,
                intervals=("listing_seconds", "delta_seconds"),
            ),
        ),
    ),
    relations=("members",),
    event_noun="administrative_unit",
    labels=("display_name",),
    indexes=(DELETED_INDEX,),
    properties=(
        guid("id", "id in Microsoft Entra", key=True),
        text("display_name", "name of the unit"),
        text("description", "description"),
        text("visibility", "HiddenMembership; null is public"),
        boolean("is_member_management_restricted", "whether only its administrators may change it"),
        text("membership_type", "Assigned or Dynamic"),
        text("membership_rule", "rule of a dynamic membership"),
        text("membership_rule_processing_state", "On or Paused"),
    ),
)
