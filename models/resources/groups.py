"""Groups. https://learn.microsoft.com/graph/api/resources/group

A groups delta that selects ``members`` and ``owners`` returns these edges inside the groups.
"""

from typing import Final

from models.property import boolean, documents, guid, text, texts, timestamp
from models.resource import DELETED_INDEX, Resource
from models.source import Fallback, Mode, Source

GROUPS: Final = Resource(
    name="groups",
    meaning="Microsoft 365, security and distribution groups",
    graph_type="group",
    permission="Group.Read.All",
    by_id="/groups/{id}",
    source=Source(
        path="/groups",
        delta_path="/groups/delta",
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
                path="/groups",
                page_size=999,
                relations_apart=True,
                intervals=("listing_seconds", "delta_seconds"),
            ),
        ),
    ),
    relations=("members", "owners"),
    optional_relations=("owners",),
    event_noun="group",
    labels=("display_name",),
    erasable=True,
    indexes=(DELETED_INDEX,),
    properties=(
        guid("id", "id in Microsoft Entra", key=True),
        text("display_name", "name in address books", identifies=True),
        text("description", "description", personal=True),
        text("mail", "primary mail address", identifies=True),
        text("mail_nickname", "mail alias", personal=True),
        boolean("mail_enabled", "whether it receives mail"),
        boolean("security_enabled", "whether it can be granted access"),
        texts("group_types", "Unified for Microsoft 365, DynamicMembership", unordered=True),
        text("visibility", "Public, Private or HiddenMembership"),
        boolean("is_assignable_to_role", "whether directory roles can be assigned to it"),
        text("membership_rule", "rule of a dynamic membership"),
        text("membership_rule_processing_state", "On or Paused"),
        timestamp("created_date_time", "when it was created"),
        timestamp("renewed_date_time", "when it was last renewed"),
        timestamp("expiration_date_time", "when it expires unless it is renewed"),
        text("classification", "classification set by the organization"),
        texts("proxy_addresses", "all mail addresses", unordered=True, identifies=True),
        boolean("on_premises_sync_enabled", "whether it is synchronized from Active Directory"),
        text("on_premises_security_identifier", "SID in Active Directory"),
        texts("resource_provisioning_options", "attached resources such as Team", unordered=True),
        text("security_identifier", "SID in Microsoft Entra"),
        documents("assigned_licenses", "licences that members inherit", unordered=True),
        boolean("is_management_restricted", "whether only a restricted unit's admins manage it"),
        text("on_premises_sam_account_name", "account name in Active Directory", personal=True),
        text("on_premises_domain_name", "domain of the group in Active Directory"),
        text("on_premises_net_bios_name", "NetBIOS name of that domain"),
        text("preferred_data_location", "where the data is kept in a multi-geo tenant"),
        texts("resource_behavior_options", "such as WelcomeEmailDisabled", unordered=True),
    ),
)
