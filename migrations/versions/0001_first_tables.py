"""The mirror, our bookkeeping and the change events."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    for schema in ("directory", "sync", "events", "analytics"):
        op.execute(f"create schema if not exists {schema}")
    op.create_table(
        "group_members",
        sa.Column("connection_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("group_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("member_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column(
            "member_type",
            sa.Text(),
            nullable=True,
            comment="user, group, device, service_principal, org_contact or other",
        ),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "deleted_at", sa.DateTime(timezone=True), nullable=True, comment="null while live"
        ),
        sa.Column("deleted_reason", sa.Text(), nullable=True),
        sa.Column(
            "row_hash",
            sa.LargeBinary(),
            nullable=True,
            comment="versioned digest of the stored values",
        ),
        sa.PrimaryKeyConstraint(
            "connection_id", "group_id", "member_id", name=op.f("pk_group_members")
        ),
        schema="directory",
        comment="Direct members of groups; live only while neither end is deleted here",
        if_not_exists=True,
    )
    op.create_index(
        "ix_group_members_cascaded",
        "group_members",
        ["connection_id"],
        unique=False,
        schema="directory",
        postgresql_where=sa.text("deleted_reason = 'cascade'"),
        if_not_exists=True,
    )
    op.create_index(
        op.f("ix_group_members_member_id_connection_id"),
        "group_members",
        ["member_id", "connection_id"],
        unique=False,
        schema="directory",
        if_not_exists=True,
    )
    op.create_table(
        "groups",
        sa.Column("connection_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("display_name", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("mail", sa.Text(), nullable=True),
        sa.Column("mail_nickname", sa.Text(), nullable=True),
        sa.Column("mail_enabled", sa.Boolean(), nullable=True),
        sa.Column("security_enabled", sa.Boolean(), nullable=True),
        sa.Column("group_types", sa.ARRAY(sa.Text()), nullable=True),
        sa.Column("visibility", sa.Text(), nullable=True),
        sa.Column("is_assignable_to_role", sa.Boolean(), nullable=True),
        sa.Column("membership_rule", sa.Text(), nullable=True),
        sa.Column("membership_rule_processing_state", sa.Text(), nullable=True),
        sa.Column("created_date_time", sa.DateTime(timezone=True), nullable=True),
        sa.Column("renewed_date_time", sa.DateTime(timezone=True), nullable=True),
        sa.Column("expiration_date_time", sa.DateTime(timezone=True), nullable=True),
        sa.Column("classification", sa.Text(), nullable=True),
        sa.Column("proxy_addresses", sa.ARRAY(sa.Text()), nullable=True),
        sa.Column("on_premises_sync_enabled", sa.Boolean(), nullable=True),
        sa.Column("on_premises_security_identifier", sa.Text(), nullable=True),
        sa.Column("resource_provisioning_options", sa.ARRAY(sa.Text()), nullable=True),
        sa.Column("security_identifier", sa.Text(), nullable=True),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "deleted_at", sa.DateTime(timezone=True), nullable=True, comment="null while live"
        ),
        sa.Column("deleted_reason", sa.Text(), nullable=True),
        sa.Column(
            "row_hash",
            sa.LargeBinary(),
            nullable=True,
            comment="versioned digest of the stored values",
        ),
        sa.PrimaryKeyConstraint("connection_id", "id", name=op.f("pk_groups")),
        schema="directory",
        comment="Microsoft 365, security and distribution groups",
        if_not_exists=True,
    )
    op.create_table(
        "role_assignments",
        sa.Column("connection_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("principal_id", sa.Uuid(as_uuid=False), nullable=True),
        sa.Column("role_definition_id", sa.Uuid(as_uuid=False), nullable=True),
        sa.Column("directory_scope_id", sa.Text(), nullable=True),
        sa.Column("app_scope_id", sa.Text(), nullable=True),
        sa.Column("condition", sa.Text(), nullable=True),
        sa.Column("principal_organization_id", sa.Text(), nullable=True),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "deleted_at", sa.DateTime(timezone=True), nullable=True, comment="null while live"
        ),
        sa.Column("deleted_reason", sa.Text(), nullable=True),
        sa.Column(
            "row_hash",
            sa.LargeBinary(),
            nullable=True,
            comment="versioned digest of the stored values",
        ),
        sa.PrimaryKeyConstraint("connection_id", "id", name=op.f("pk_role_assignments")),
        schema="directory",
        comment="Directory roles held by users, groups and service principals",
        if_not_exists=True,
    )
    op.create_index(
        op.f("ix_role_assignments_principal_id_connection_id"),
        "role_assignments",
        ["principal_id", "connection_id"],
        unique=False,
        schema="directory",
        if_not_exists=True,
    )
    op.create_table(
        "role_definitions",
        sa.Column("connection_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("display_name", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("is_built_in", sa.Boolean(), nullable=True),
        sa.Column("is_enabled", sa.Boolean(), nullable=True),
        sa.Column("template_id", sa.Text(), nullable=True),
        sa.Column("version", sa.Text(), nullable=True),
        sa.Column("resource_scopes", sa.ARRAY(sa.Text()), nullable=True),
        sa.Column("role_permissions", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "deleted_at", sa.DateTime(timezone=True), nullable=True, comment="null while live"
        ),
        sa.Column("deleted_reason", sa.Text(), nullable=True),
        sa.Column(
            "row_hash",
            sa.LargeBinary(),
            nullable=True,
            comment="versioned digest of the stored values",
        ),
        sa.PrimaryKeyConstraint("connection_id", "id", name=op.f("pk_role_definitions")),
        schema="directory",
        comment="Built-in and custom directory roles",
        if_not_exists=True,
    )
    op.create_table(
        "sites",
        sa.Column("connection_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column(
            "composite_id",
            sa.Text(),
            nullable=True,
            comment="host,site-collection GUID,web GUID: Graph's own id",
        ),
        sa.Column("site_collection_id", sa.Uuid(as_uuid=False), nullable=True),
        sa.Column("hostname", sa.Text(), nullable=True),
        sa.Column("display_name", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("web_url", sa.Text(), nullable=True),
        sa.Column("is_personal_site", sa.Boolean(), nullable=True),
        sa.Column("is_root", sa.Boolean(), nullable=True),
        sa.Column("data_location_code", sa.Text(), nullable=True),
        sa.Column("created_date_time", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_modified_date_time", sa.DateTime(timezone=True), nullable=True),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "deleted_at", sa.DateTime(timezone=True), nullable=True, comment="null while live"
        ),
        sa.Column("deleted_reason", sa.Text(), nullable=True),
        sa.Column(
            "row_hash",
            sa.LargeBinary(),
            nullable=True,
            comment="versioned digest of the stored values",
        ),
        sa.PrimaryKeyConstraint("connection_id", "id", name=op.f("pk_sites")),
        schema="directory",
        comment="SharePoint sites and OneDrive personal sites",
        if_not_exists=True,
    )
    op.create_table(
        "users",
        sa.Column("connection_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("user_principal_name", sa.Text(), nullable=True),
        sa.Column("display_name", sa.Text(), nullable=True),
        sa.Column("given_name", sa.Text(), nullable=True),
        sa.Column("surname", sa.Text(), nullable=True),
        sa.Column("mail", sa.Text(), nullable=True),
        sa.Column("mail_nickname", sa.Text(), nullable=True),
        sa.Column("job_title", sa.Text(), nullable=True),
        sa.Column("department", sa.Text(), nullable=True),
        sa.Column("company_name", sa.Text(), nullable=True),
        sa.Column("office_location", sa.Text(), nullable=True),
        sa.Column("employee_id", sa.Text(), nullable=True),
        sa.Column("employee_type", sa.Text(), nullable=True),
        sa.Column("employee_hire_date", sa.DateTime(timezone=True), nullable=True),
        sa.Column("user_type", sa.Text(), nullable=True),
        sa.Column("account_enabled", sa.Boolean(), nullable=True),
        sa.Column("created_date_time", sa.DateTime(timezone=True), nullable=True),
        sa.Column("business_phones", sa.ARRAY(sa.Text()), nullable=True),
        sa.Column("mobile_phone", sa.Text(), nullable=True),
        sa.Column("city", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=True),
        sa.Column("country", sa.Text(), nullable=True),
        sa.Column("postal_code", sa.Text(), nullable=True),
        sa.Column("street_address", sa.Text(), nullable=True),
        sa.Column("usage_location", sa.Text(), nullable=True),
        sa.Column("preferred_language", sa.Text(), nullable=True),
        sa.Column("proxy_addresses", sa.ARRAY(sa.Text()), nullable=True),
        sa.Column("other_mails", sa.ARRAY(sa.Text()), nullable=True),
        sa.Column("on_premises_sync_enabled", sa.Boolean(), nullable=True),
        sa.Column("on_premises_immutable_id", sa.Text(), nullable=True),
        sa.Column("on_premises_sam_account_name", sa.Text(), nullable=True),
        sa.Column("on_premises_distinguished_name", sa.Text(), nullable=True),
        sa.Column("on_premises_security_identifier", sa.Text(), nullable=True),
        sa.Column("on_premises_last_sync_date_time", sa.DateTime(timezone=True), nullable=True),
        sa.Column("external_user_state", sa.Text(), nullable=True),
        sa.Column("last_password_change_date_time", sa.DateTime(timezone=True), nullable=True),
        sa.Column("assigned_licenses", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "deleted_at", sa.DateTime(timezone=True), nullable=True, comment="null while live"
        ),
        sa.Column("deleted_reason", sa.Text(), nullable=True),
        sa.Column(
            "row_hash",
            sa.LargeBinary(),
            nullable=True,
            comment="versioned digest of the stored values",
        ),
        sa.PrimaryKeyConstraint("connection_id", "id", name=op.f("pk_users")),
        schema="directory",
        comment="Microsoft Entra users, one row for each connection and user id",
        if_not_exists=True,
    )
    op.create_index(
        op.f("ix_users_user_principal_name_connection_id"),
        "users",
        ["user_principal_name", "connection_id"],
        unique=False,
        schema="directory",
        if_not_exists=True,
    )
    op.create_table(
        "change_events",
        sa.Column("connection_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "event_id",
            sa.Uuid(as_uuid=False),
            server_default=sa.text("gen_random_uuid()"),
            nullable=False,
        ),
        sa.Column("resource", sa.Text(), nullable=False),
        sa.Column(
            "object_id", sa.Text(), nullable=False, comment="memberships: group_id/member_id"
        ),
        sa.Column("change", sa.Text(), nullable=False),
        sa.Column(
            "changed",
            postgresql.ARRAY(sa.Text()),
            nullable=True,
            comment="names of the changed columns, for updated",
        ),
        sa.Column("before", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("after", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("initial", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("run_id", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "change in ('created', 'updated', 'deleted', 'restored', 'added', 'removed', 'broken', 'recovered', 'resynced')",
            name=op.f("ck_change_events_change"),
        ),
        sa.PrimaryKeyConstraint(
            "connection_id", "seq", "occurred_at", name=op.f("pk_change_events")
        ),
        schema="events",
        comment="Append only; seq is 1, 2, 3 ... for each connection without a gap",
        postgresql_partition_by="RANGE (occurred_at)",
        if_not_exists=True,
    )
    op.create_table(
        "connections",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("nango_connection_id", sa.Text(), nullable=False),
        sa.Column("provider_config_key", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column(
            "tenant_id",
            sa.Uuid(as_uuid=False),
            nullable=True,
            comment="learnt from Graph's organization",
        ),
        sa.Column("display_name", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), server_default="active", nullable=False),
        sa.Column(
            "status_reason", sa.Text(), nullable=True, comment="a plain sentence for the operator"
        ),
        sa.Column(
            "settings",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
        sa.Column(
            "settings_problem",
            sa.Text(),
            nullable=True,
            comment="what is wrong with the settings kept in Nango",
        ),
        sa.Column(
            "due_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when a worker should look again",
        ),
        sa.Column("broken_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column(
            "requested_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="an operator asked for a resync",
        ),
        sa.Column("requested_resources", postgresql.ARRAY(sa.Text()), nullable=True),
        sa.Column("requested_full", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("retired_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "status in ('active', 'paused', 'broken', 'duplicate', 'retired')",
            name=op.f("ck_connections_status"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_connections")),
        sa.UniqueConstraint(
            "provider_config_key",
            "nango_connection_id",
            name=op.f("uq_connections_provider_config_key_nango_connection_id"),
        ),
        schema="sync",
        comment="Nango connections; an id is never used again",
        if_not_exists=True,
    )
    op.create_index(
        "ix_connections_due",
        "connections",
        ["due_at"],
        unique=False,
        schema="sync",
        postgresql_where=sa.text("status in ('active', 'broken')"),
        if_not_exists=True,
    )
    op.create_table(
        "service_state",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column(
            "value",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_service_state")),
        schema="sync",
        comment="Facts about the service as a whole: last discovery, last tick, a halt",
        if_not_exists=True,
    )
    op.create_table(
        "leases",
        sa.Column("connection_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column(
            "token", sa.BigInteger(), server_default="0", nullable=False, comment="the fence"
        ),
        sa.Column("holder", sa.Text(), nullable=True, comment="process that holds it, for people"),
        sa.Column(
            "expires_at", sa.DateTime(timezone=True), nullable=True, comment="null while free"
        ),
        sa.Column("event_seq", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("last_event_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["connection_id"],
            ["sync.connections.id"],
            name=op.f("fk_leases_connection_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("connection_id", name=op.f("pk_leases")),
        schema="sync",
        comment="One writer a connection: a lease with a fencing token, and the event counter",
        if_not_exists=True,
    )
    op.create_table(
        "quarantine",
        sa.Column("connection_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("resource", sa.Text(), nullable=False),
        sa.Column(
            "key", sa.Text(), nullable=False, comment="the id, or a digest where it is unreadable"
        ),
        sa.Column(
            "reason", sa.Text(), nullable=False, comment="which property and why; no personal data"
        ),
        sa.Column("attempts", sa.Integer(), server_default="1", nullable=False),
        sa.Column(
            "first_seen_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "last_seen_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "retry_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when it is read again by id",
        ),
        sa.ForeignKeyConstraint(
            ["connection_id"],
            ["sync.connections.id"],
            name=op.f("fk_quarantine_connection_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("connection_id", "resource", "key", name=op.f("pk_quarantine")),
        schema="sync",
        comment="Malformed objects, kept out of the mirror with the reason",
        if_not_exists=True,
    )
    op.create_table(
        "removals",
        sa.Column("connection_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("resource", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False, comment="an id, or a group/member pair"),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("held", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column(
            "noted_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.ForeignKeyConstraint(
            ["connection_id"],
            ["sync.connections.id"],
            name=op.f("fk_removals_connection_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("connection_id", "resource", "key", name=op.f("pk_removals")),
        schema="sync",
        comment="Deletions that wait: for the end of their round, or for an operator",
        if_not_exists=True,
    )
    op.create_table(
        "runs",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("connection_id", sa.BigInteger(), nullable=False),
        sa.Column("trigger", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="running", nullable=False),
        sa.Column(
            "started_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("slices", sa.Integer(), server_default="0", nullable=False),
        sa.Column("calls", sa.Integer(), server_default="0", nullable=False, comment="Nango calls"),
        sa.Column("pages", sa.Integer(), server_default="0", nullable=False),
        sa.Column(
            "objects",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
            comment="objects received",
        ),
        sa.Column("created", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("updated", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("deleted", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("restored", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("rejected", sa.Integer(), server_default="0", nullable=False),
        sa.Column(
            "error",
            sa.Text(),
            nullable=True,
            comment="what went wrong and what to do, in plain words",
        ),
        sa.Column(
            "resources",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=True,
            comment="what became of each resource",
        ),
        sa.CheckConstraint(
            "state in ('running', 'succeeded', 'partial', 'held', 'failed')",
            name=op.f("ck_runs_state"),
        ),
        sa.CheckConstraint(
            "trigger in ('manual', 'scheduled', 'backfill')", name=op.f("ck_runs_trigger")
        ),
        sa.ForeignKeyConstraint(
            ["connection_id"],
            ["sync.connections.id"],
            name=op.f("fk_runs_connection_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runs")),
        schema="sync",
        comment="The history of syncs",
        if_not_exists=True,
    )
    op.create_index(
        op.f("ix_runs_connection_id_id"),
        "runs",
        ["connection_id", "id"],
        unique=False,
        schema="sync",
        if_not_exists=True,
    )
    op.create_index(
        "ix_runs_running",
        "runs",
        ["connection_id"],
        unique=True,
        schema="sync",
        postgresql_where=sa.text("state = 'running'"),
        if_not_exists=True,
    )
    op.create_table(
        "seen",
        sa.Column("connection_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("resource", sa.Text(), nullable=False),
        sa.Column("walk_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("page_no", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column(
            "keys",
            postgresql.ARRAY(sa.Text()),
            nullable=False,
            comment="ids, or group/member pairs",
        ),
        sa.Column(
            "properties",
            postgresql.ARRAY(sa.BigInteger()),
            nullable=True,
            comment="for each key, a bit for each column that was sent; null when all were",
        ),
        sa.ForeignKeyConstraint(
            ["connection_id"],
            ["sync.connections.id"],
            name=op.f("fk_seen_connection_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "connection_id", "resource", "walk_id", "page_no", name=op.f("pk_seen")
        ),
        schema="sync",
        comment="What a full walk has seen, one row a page",
        if_not_exists=True,
    )
    op.create_table(
        "streams",
        sa.Column("connection_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("resource", sa.Text(), nullable=False),
        sa.Column("phase", sa.Text(), server_default="ready", nullable=False),
        sa.Column("mode", sa.Text(), server_default="plain", nullable=False),
        sa.Column("walk_id", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("page_no", sa.Integer(), server_default="0", nullable=False),
        sa.Column(
            "next_link",
            sa.Text(),
            nullable=True,
            comment="where the walk or round under way goes on",
        ),
        sa.Column("delta_link", sa.Text(), nullable=True, comment="where the next round starts"),
        sa.Column("delta_link_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "parts",
            postgresql.ARRAY(sa.Text()),
            nullable=True,
            comment="role definitions that a filtered walk goes through",
        ),
        sa.Column(
            "select_hash",
            sa.Text(),
            nullable=True,
            comment="digest of the property list behind the cursor",
        ),
        sa.Column("seen_count", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column(
            "loop_mark",
            sa.Text(),
            nullable=True,
            comment="a remembered link, to find loops across slices",
        ),
        sa.Column(
            "body_digest",
            sa.Text(),
            nullable=True,
            comment="digest of the last page that was not empty",
        ),
        sa.Column("body_repeats", sa.Integer(), server_default="0", nullable=False),
        sa.Column("restarts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("incomplete", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("walk_started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("first_complete_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "full_walk_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="start of the last full walk that ended",
        ),
        sa.Column(
            "fresh_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="the rows are at least as new as this",
        ),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("full_due_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "reason",
            sa.Text(),
            nullable=True,
            comment="why it is refused, held or waiting, in plain words",
        ),
        sa.Column(
            "checked_seq",
            sa.BigInteger(),
            server_default="0",
            nullable=False,
            comment="last event whose membership was checked for a member that is not mirrored",
        ),
        sa.CheckConstraint(
            "phase in ('ready', 'listing', 'sweeping', 'delta', 'refused', 'held')",
            name=op.f("ck_streams_phase"),
        ),
        sa.ForeignKeyConstraint(
            ["connection_id"],
            ["sync.connections.id"],
            name=op.f("fk_streams_connection_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("connection_id", "resource", name=op.f("pk_streams")),
        schema="sync",
        comment="The state of each resource of each connection; enough to go on anywhere",
        if_not_exists=True,
    )
    op.execute(
        "create table if not exists events.change_events_default partition of events.change_events default"
    )
    op.execute("alter table sync.seen alter column keys set storage external")


def downgrade() -> None:
    op.drop_table("streams", schema="sync", if_exists=True)
    op.drop_table("seen", schema="sync", if_exists=True)
    op.drop_index(
        "ix_runs_running",
        table_name="runs",
        schema="sync",
        postgresql_where=sa.text("state = 'running'"),
        if_exists=True,
    )
    op.drop_index(
        op.f("ix_runs_connection_id_id"), table_name="runs", schema="sync", if_exists=True
    )
    op.drop_table("runs", schema="sync", if_exists=True)
    op.drop_table("removals", schema="sync", if_exists=True)
    op.drop_table("quarantine", schema="sync", if_exists=True)
    op.drop_table("leases", schema="sync", if_exists=True)
    op.drop_table("service_state", schema="sync", if_exists=True)
    op.drop_index(
        "ix_connections_due",
        table_name="connections",
        schema="sync",
        postgresql_where=sa.text("status in ('active', 'broken')"),
        if_exists=True,
    )
    op.drop_table("connections", schema="sync", if_exists=True)
    op.drop_table("change_events", schema="events", if_exists=True)
    op.drop_index(
        op.f("ix_users_user_principal_name_connection_id"),
        table_name="users",
        schema="directory",
        if_exists=True,
    )
    op.drop_table("users", schema="directory", if_exists=True)
    op.drop_table("sites", schema="directory", if_exists=True)
    op.drop_table("role_definitions", schema="directory", if_exists=True)
    op.drop_index(
        op.f("ix_role_assignments_principal_id_connection_id"),
        table_name="role_assignments",
        schema="directory",
        if_exists=True,
    )
    op.drop_table("role_assignments", schema="directory", if_exists=True)
    op.drop_table("groups", schema="directory", if_exists=True)
    op.drop_index(
        op.f("ix_group_members_member_id_connection_id"),
        table_name="group_members",
        schema="directory",
        if_exists=True,
    )
    op.drop_index(
        "ix_group_members_cascaded",
        table_name="group_members",
        schema="directory",
        postgresql_where=sa.text("deleted_reason = 'cascade'"),
        if_exists=True,
    )
    op.drop_table("group_members", schema="directory", if_exists=True)
    for schema in ("directory", "events", "analytics"):
        op.execute(f"drop schema if exists {schema}")
