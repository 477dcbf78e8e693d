"""Tables of the sign-ins to the page of operators."""

from sqlalchemy import Column, DateTime, LargeBinary, Table, Text, text

from models.base import SYNC, metadata

page_sessions = Table(
    "page_sessions",
    metadata,
    Column("digest", LargeBinary, primary_key=True, comment="SHA-256 of the secret in the cookie"),
    Column("name", Text, nullable=False, comment="of the token"),
    Column("token_id", Text, comment="null: the token of the settings"),
    Column(
        "token_digest",
        LargeBinary,
        nullable=False,
        comment="the session ends when the token with this digest cannot be used any more",
    ),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Column("ended_at", DateTime(timezone=True), comment="when it was signed out"),
    schema=SYNC,
    comment="Sign-ins to the page of operators; a session may do what its token may",
)

sign_in_links = Table(
    "sign_in_links",
    metadata,
    Column("digest", LargeBinary, primary_key=True, comment="SHA-256 of the code in the link"),
    Column("token_id", Text, nullable=False),
    Column("token_digest", LargeBinary, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Column("used_at", DateTime(timezone=True), comment="null: it can still sign in, once"),
    schema=SYNC,
    comment="Links that sign in to the page once",
)
