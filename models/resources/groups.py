"""Groups. https://learn.microsoft.com/graph/api/resources/group

A groups delta that selects ``members`` returns the memberships inside the group objects.
"""

from msgspec import UNSET, UnsetType, field
from sqlalchemy import ARRAY, Boolean, Column, DateTime, Text

from models.record import MemberReference, Record, Sent, Timestamp
from models.resource import Clock, Kind, Resource, build_deleted_index, guid_key, mirror_table


class Group(Record, frozen=True, kw_only=True, gc=False):
    display_name: Sent[str] = UNSET
    description: Sent[str] = UNSET
    mail: Sent[str] = UNSET
    mail_nickname: Sent[str] = UNSET
    mail_enabled: Sent[bool] = UNSET
    security_enabled: Sent[bool] = UNSET
    group_types: Sent[list[str]] = UNSET
    visibility: Sent[str] = UNSET
    is_assignable_to_role: Sent[bool] = UNSET
    membership_rule: Sent[str] = UNSET
    membership_rule_processing_state: Sent[str] = UNSET
    created_date_time: Sent[Timestamp] = UNSET
    renewed_date_time: Sent[Timestamp] = UNSET
    expiration_date_time: Sent[Timestamp] = UNSET
    classification: Sent[str] = UNSET
    proxy_addresses: Sent[list[str]] = UNSET
    on_premises_sync_enabled: Sent[bool] = UNSET
    on_premises_security_identifier: Sent[str] = UNSET
    resource_provisioning_options: Sent[list[str]] = UNSET
    security_identifier: Sent[str] = UNSET
    members: list[MemberReference] | UnsetType = field(name="members@delta", default=UNSET)


groups = mirror_table(
    "groups",
    guid_key("id"),
    Column("display_name", Text),
    Column("description", Text),
    Column("mail", Text),
    Column("mail_nickname", Text),
    Column("mail_enabled", Boolean),
    Column("security_enabled", Boolean),
    Column("group_types", ARRAY(Text)),
    Column("visibility", Text),
    Column("is_assignable_to_role", Boolean),
    Column("membership_rule", Text),
    Column("membership_rule_processing_state", Text),
    Column("created_date_time", DateTime(timezone=True)),
    Column("renewed_date_time", DateTime(timezone=True)),
    Column("expiration_date_time", DateTime(timezone=True)),
    Column("classification", Text),
    Column("proxy_addresses", ARRAY(Text)),
    Column("on_premises_sync_enabled", Boolean),
    Column("on_premises_security_identifier", Text),
    Column("resource_provisioning_options", ARRAY(Text)),
    Column("security_identifier", Text),
    build_deleted_index("groups"),
    comment="Microsoft 365, security and distribution groups",
)

GROUPS = Resource(
    name="groups",
    kind=Kind.ENTITY,
    table=groups,
    record=Group,
    path="/groups",
    delta_path="/groups/delta",
    by_id="/groups/{id}",
    page_size=999,
    permission="Group.Read.All",
    clock=Clock(interval=5 * 60, full=7 * 24 * 3600),
    children=("members",),
    event_noun="group",
)
