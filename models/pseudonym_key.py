"""Table of the key from which pseudonyms are computed: one row."""

from sqlalchemy import Boolean, CheckConstraint, Column, DateTime, LargeBinary, Table, text

from models.base import SYNC, metadata

pseudonym_key = Table(
    "pseudonym_key",
    metadata,
    Column("is_current", Boolean, primary_key=True, server_default=text("true")),
    Column(
        "inner_pad",
        LargeBinary,
        nullable=False,
        comment="the key of HMAC-SHA256, padded to 64 bytes, each xor 0x36",
    ),
    Column("outer_pad", LargeBinary, nullable=False, comment="the same, each xor 0x5c"),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    CheckConstraint("is_current", name="one_row"),
    schema=SYNC,
    comment="The key of pseudonyms in schema analytics_pseudonymous; no reader reaches it",
)
