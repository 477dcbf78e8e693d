"""Subscribed products, a day's sample of the units in use, names of products, and a view of them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0049"
down_revision = "0048"
branch_labels = None
depends_on = None

_LICENSES = """
    create or replace view analytics.licenses as
    select c.display_name as organization, t.connection_id, t.sku_id, t.sku_part_number,
           coalesce(p.name, t.sku_part_number) as product_name, t.applies_to,
           t.capability_status, t.prepaid_enabled, t.prepaid_warning, t.prepaid_suspended,
           t.prepaid_locked_out, t.consumed_units,
           coalesce(a.users, 0) as assigned_users,
           coalesce(a.disabled_users, 0) as assigned_disabled_users,
           t.first_seen_at, t.changed_at
      from directory.subscribed_skus t
      join sync.connections c on c.id = t.connection_id and c.status <> 'retired'
      left join analytics.product_names p on p.sku_id = t.sku_id
      left join (
           select u.connection_id, lower(l.value ->> 'skuId') as sku_id, count(*) as users,
                  count(*) filter (where not u.account_enabled) as disabled_users
             from directory.users u
            cross join lateral jsonb_array_elements(u.assigned_licenses) l
            where u.deleted_at is null
            group by 1, 2) a
        on a.connection_id = t.connection_id and a.sku_id = t.sku_id::text
     where t.deleted_at is null
"""
_ABOUT = "Products that customers subscribe to, with the units they have, use and assign"
_COMMENTS = {
    "organization": "the name of the customer''s organization; null until it was first read",
    "connection_id": "our number of the connection, which is never used again",
    "sku_id": "the id of the product, the same in every tenant; null where Graph did not send it,"
    " so that it is not known",
    "sku_part_number": "Microsoft''s short name; null where Graph did not send it, so that it is"
    " not known",
    "product_name": "the name that people know it by, of analytics.product_names; the short name"
    " where that does not have it",
    "applies_to": "User or Company; null where Graph did not send it, so that it is not known",
    "capability_status": "Enabled, Warning (expired, in use), Suspended, Deleted or LockedOut;"
    " null where Graph did not send it, so that it is not known",
    "prepaid_enabled": "units to use; null where Graph did not send it, so that it is not known",
    "prepaid_warning": "units of an expired subscription that can still be used; null where Graph"
    " did not send it, so that it is not known",
    "prepaid_suspended": "suspended units; null where Graph did not send it, so that it is not"
    " known",
    "prepaid_locked_out": "units of a cancelled subscription; null where Graph did not send it, so"
    " that it is not known",
    "consumed_units": "units in use, as of the last read, which is daily; null where Graph did not"
    " send it, so that it is not known",
    "assigned_users": "users that are not deleted to whom the product is assigned, directly or by"
    " a group",
    "assigned_disabled_users": "those among them whose account is disabled",
    "first_seen_at": "when the row was first stored; it may have been deleted and restored since",
    "changed_at": "when the row last changed here, apart from the units in use",
}


def upgrade() -> None:
    op.execute("create schema if not exists history")
    op.create_table(
        "product_names",
        sa.Column("sku_id", sa.Uuid(as_uuid=False), nullable=False, comment="id of the product"),
        sa.Column("name", sa.Text(), nullable=False, comment="name that people know it by"),
        sa.Column("as_of", sa.Date(), nullable=False, comment="when the list of names was made"),
        sa.PrimaryKeyConstraint("sku_id", name=op.f("pk_product_names")),
        schema="analytics",
        comment="Names of well-known products of Microsoft, as Tenant Mirror ships them; not all",
        if_not_exists=True,
    )
    op.create_table(
        "subscribed_skus",
        sa.Column(
            "connection_id",
            sa.BigInteger(),
            autoincrement=False,
            nullable=False,
            comment="the connection that the row belongs to",
        ),
        sa.Column(
            "id",
            sa.Text(),
            nullable=False,
            comment="id of the tenant and id of the product, with _ between them",
        ),
        sa.Column(
            "sku_id",
            sa.Uuid(as_uuid=False),
            nullable=True,
            comment="id of the product, the same in every tenant",
        ),
        sa.Column(
            "sku_part_number",
            sa.Text(),
            nullable=True,
            comment="Microsoft's short name of the product",
        ),
        sa.Column("applies_to", sa.Text(), nullable=True, comment="User or Company"),
        sa.Column(
            "capability_status",
            sa.Text(),
            nullable=True,
            comment="Enabled, Warning (expired, in use), Suspended, Deleted or LockedOut",
        ),
        sa.Column(
            "consumed_units", sa.BigInteger(), nullable=True, comment="units that are assigned"
        ),
        sa.Column("prepaid_enabled", sa.BigInteger(), nullable=True, comment="units to use"),
        sa.Column("prepaid_suspended", sa.BigInteger(), nullable=True, comment="suspended units"),
        sa.Column(
            "prepaid_warning",
            sa.BigInteger(),
            nullable=True,
            comment="units of an expired subscription that can still be used",
        ),
        sa.Column(
            "prepaid_locked_out",
            sa.BigInteger(),
            nullable=True,
            comment="units of a subscription that was cancelled",
        ),
        sa.Column(
            "service_plans",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=True,
            comment="services in the product",
        ),
        sa.Column(
            "subscription_ids",
            sa.ARRAY(sa.Text()),
            nullable=True,
            comment="ids of the subscriptions",
        ),
        sa.Column(
            "first_seen_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="when it was first stored here",
        ),
        sa.Column(
            "changed_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="when its last change was stored here",
        ),
        sa.Column(
            "deleted_at", sa.DateTime(timezone=True), nullable=True, comment="null while live"
        ),
        sa.Column(
            "deleted_reason",
            sa.Text(),
            nullable=True,
            comment="soft_deleted, permanently_deleted, not_seen or cascade; null while live",
        ),
        sa.Column(
            "row_hash",
            sa.LargeBinary(),
            nullable=True,
            comment="versioned digest of the stored values",
        ),
        sa.Column(
            "source_hash",
            sa.LargeBinary(),
            nullable=True,
            comment="versioned digest of the bytes that the row was made of, where they told all",
        ),
        sa.Column(
            "live_since",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when it was seen to become live; null where that was not seen",
        ),
        sa.PrimaryKeyConstraint("connection_id", "id", name=op.f("pk_subscribed_skus")),
        schema="directory",
        comment="Products that a tenant subscribes to, with the units that it has and uses",
        if_not_exists=True,
    )
    op.create_index(
        "ix_subscribed_skus_deleted_at",
        "subscribed_skus",
        ["deleted_at"],
        unique=False,
        schema="directory",
        postgresql_where=sa.text("deleted_at is not null"),
        if_not_exists=True,
    )
    op.create_table(
        "subscribed_skus_samples",
        sa.Column(
            "connection_id",
            sa.BigInteger(),
            autoincrement=False,
            nullable=False,
            comment="the connection that the row belongs to",
        ),
        sa.Column(
            "id",
            sa.Text(),
            nullable=False,
            comment="id of the tenant and id of the product, with _ between them",
        ),
        sa.Column("sampled_on", sa.Date(), nullable=False, comment="the day, in UTC"),
        sa.Column(
            "consumed_units", sa.BigInteger(), nullable=True, comment="units that are assigned"
        ),
        sa.PrimaryKeyConstraint(
            "connection_id", "id", "sampled_on", name=op.f("pk_subscribed_skus_samples")
        ),
        schema="history",
        comment="subscribed_skus: the last values of each day on which all of them were read",
        if_not_exists=True,
    )
    op.create_index(
        op.f("ix_subscribed_skus_samples_sampled_on"),
        "subscribed_skus_samples",
        ["sampled_on"],
        unique=False,
        schema="history",
        if_not_exists=True,
    )
    op.execute(_LICENSES)
    op.execute(f"comment on view analytics.licenses is '{_ABOUT}'")
    for column, comment in _COMMENTS.items():
        op.execute(f"comment on column analytics.licenses.{column} is '{comment}'")


def downgrade() -> None:
    op.execute("drop view if exists analytics.licenses")
    op.drop_index(
        op.f("ix_subscribed_skus_samples_sampled_on"),
        table_name="subscribed_skus_samples",
        schema="history",
        if_exists=True,
    )
    op.drop_table("subscribed_skus_samples", schema="history", if_exists=True)
    op.drop_index(
        "ix_subscribed_skus_deleted_at",
        table_name="subscribed_skus",
        schema="directory",
        postgresql_where=sa.text("deleted_at is not null"),
        if_exists=True,
    )
    op.drop_table("subscribed_skus", schema="directory", if_exists=True)
    op.drop_table("product_names", schema="analytics", if_exists=True)
    op.execute("drop schema if exists history")
