"""Which columns a walk brings, and the event that tells when these become others."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0040"
down_revision = "0039"
branch_labels = None
depends_on = None

_COLUMNS = {
    "users": (
        "id user_principal_name display_name given_name surname mail mail_nickname job_title"
        " department company_name office_location employee_id employee_type employee_hire_date"
        " user_type account_enabled created_date_time business_phones mobile_phone city state"
        " country postal_code street_address usage_location preferred_language proxy_addresses"
        " other_mails on_premises_sync_enabled on_premises_immutable_id"
        " on_premises_sam_account_name on_premises_distinguished_name"
        " on_premises_security_identifier on_premises_last_sync_date_time external_user_state"
        " last_password_change_date_time assigned_licenses"
    ),
    "groups": (
        "id display_name description mail mail_nickname mail_enabled security_enabled group_types"
        " visibility is_assignable_to_role membership_rule membership_rule_processing_state"
        " created_date_time renewed_date_time expiration_date_time classification proxy_addresses"
        " on_premises_sync_enabled on_premises_security_identifier resource_provisioning_options"
        " security_identifier members"
    ),
    "sites": (
        "id composite_id site_collection_id hostname display_name name description web_url"
        " is_personal_site is_root data_location_code created_date_time last_modified_date_time"
    ),
    "role_definitions": (
        "id display_name description is_built_in is_enabled template_id version resource_scopes"
        " role_permissions"
    ),
    "role_assignments": (
        "id principal_id role_definition_id directory_scope_id app_scope_id condition"
        " principal_organization_id"
    ),
}
"""Columns of each resource, and relations that carry edges, as of the schema before this one."""

_SENT_AS = {
    "composite_id": "",
    "site_collection_id": "",
    "hostname": "",
    "is_root": "root",
    "data_location_code": "siteCollection",
}
"""Graph's property, where it is not the column's name in camel case; empty: none is needed."""

_FILL = """
    update sync.streams s
       set walked_columns = case when first_complete_at is not null then known.columns end,
           asked_columns = case when phase in ('listing', 'sweeping')
                                  or refused_phase in ('listing', 'sweeping')
                                then known.columns end
      from (select o.connection_id,
                   array(select c.name
                           from unnest(cast('{{{names}}}' as text[]),
                                       cast('{{{properties}}}' as text[]))
                                with ordinality as c(name, property, place)
                          where c.property <> all (coalesce(o.left_out, '{{}}'))
                          order by c.place) as columns
              from sync.streams o where o.resource = '{resource}') as known
     where s.connection_id = known.connection_id and s.resource = '{resource}'
       and s.walked_columns is null and s.asked_columns is null
"""

_KINDS = (
    "'created', 'updated', 'deleted', 'restored',"
    " 'added', 'removed', 'broken', 'recovered', 'resynced', 'rewound'"
)


def upgrade() -> None:
    for column in _build_columns():
        op.add_column("streams", column, schema="sync", if_not_exists=True)
    for resource, columns in _COLUMNS.items():
        names = columns.split()
        properties = [_SENT_AS.get(name, _to_camel(name)) or '""' for name in names]
        op.execute(
            _FILL.format(resource=resource, names=",".join(names), properties=",".join(properties))
        )
    # A downgrade keeps these: without them, older events would contradict the rows.
    op.execute(
        "update sync.streams s set covered_since = kept.covered_since"
        " from sync.service_state t cross join lateral jsonb_to_recordset(t.value)"
        " as kept(connection_id bigint, resource text, covered_since jsonb)"
        " where t.name = 'covered_since'"
        " and s.connection_id = kept.connection_id and s.resource = kept.resource"
    )
    op.execute("delete from sync.service_state where name = 'covered_since'")
    _allow(f"{_KINDS}, 'coverage_changed'")
    # Rows are read beside those who write.
    with op.get_context().autocommit_block():
        op.execute("alter table events.change_events validate constraint ck_change_events_change")


def downgrade() -> None:
    """Within one transaction: the check is validated by the next upgrade.

    The release before knows no such event. What it told is in no other one, and the number must
    stay: so it becomes the one that asks receivers to compare.
    """
    op.execute("set local statement_timeout = 0")  # there is no index: all events are read
    op.execute(
        "update events.change_events"
        " set change = 'resynced',"
        "     after = jsonb_build_object('resources', jsonb_build_array(after -> 'resource'))"
        " where change = 'coverage_changed' and resource = 'connection'"
    )
    _allow(_KINDS)
    op.execute(
        "insert into sync.service_state (name, value)"
        " select 'covered_since', jsonb_agg(jsonb_build_object('connection_id', connection_id,"
        " 'resource', resource, 'covered_since', covered_since))"
        " from sync.streams where covered_since is not null having count(*) > 0"
        " on conflict (name) do update set value = excluded.value"
    )
    for column in _build_columns():
        op.drop_column("streams", column.name, schema="sync", if_exists=True)


def _build_columns() -> list[sa.Column[Any]]:
    return [
        sa.Column(
            "asked_columns",
            postgresql.ARRAY(sa.Text()),
            nullable=True,
            comment="columns, and relations that carry edges, that the walk under way asks for",
        ),
        sa.Column(
            "walked_columns",
            postgresql.ARRAY(sa.Text()),
            nullable=True,
            comment="those that the last complete walk asked for; null: not known, or there was none",
        ),
        sa.Column(
            "covered_since",
            postgresql.JSONB(),
            nullable=True,
            comment="for columns that came later: the event since which events tell them",
        ),
    ]


def _allow(kinds: str) -> None:
    """Replace the check; rows that there are stay unread."""
    op.execute(
        "-- squawk-ignore ban-drop-constraint\n"
        "alter table events.change_events drop constraint if exists ck_change_events_change"
    )
    op.execute(
        "alter table events.change_events add constraint ck_change_events_change"
        f" check (change in ({kinds})) not valid"
    )


def _to_camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.title() for word in rest)
