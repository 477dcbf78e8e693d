"""Sign-ins to the page of operators, and links that sign in once."""

import sqlalchemy as sa
from alembic import op

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "page_sessions",
        sa.Column(
            "digest",
            sa.LargeBinary(),
            nullable=False,
            comment="SHA-256 of the secret in the cookie",
        ),
        sa.Column("name", sa.Text(), nullable=False, comment="of the token"),
        sa.Column("token_id", sa.Text(), nullable=True, comment="null: the token of the settings"),
        sa.Column(
            "token_digest",
            sa.LargeBinary(),
            nullable=False,
            comment="the session ends when the token with this digest cannot be used any more",
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "ended_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when it was signed out",
        ),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_page_sessions")),
        schema="sync",
        comment="Sign-ins to the page of operators; a session may do what its token may",
        if_not_exists=True,
    )
    op.create_table(
        "sign_in_links",
        sa.Column(
            "digest",
            sa.LargeBinary(),
            nullable=False,
            comment="SHA-256 of the code in the link",
        ),
        sa.Column("token_id", sa.Text(), nullable=False),
        sa.Column("token_digest", sa.LargeBinary(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "used_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="null: it can still sign in, once",
        ),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_sign_in_links")),
        schema="sync",
        comment="Links that sign in to the page once",
        if_not_exists=True,
    )


def downgrade() -> None:
    op.drop_table("sign_in_links", schema="sync", if_exists=True)
    op.drop_table("page_sessions", schema="sync", if_exists=True)
