"""Tables of keys that a walk saw, announced removals, and deletion candidates.

They are logged, because an unlogged table is empty after a crash, and a sweep based on it would
delete the mirror.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    Integer,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY

from models.base import SYNC, metadata
from models.connection import connections


def _build_owner_column() -> Column[int]:
    return Column(
        "connection_id",
        BigInteger,
        ForeignKey(connections.c.id, ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    )


seen = Table(
    "seen",
    metadata,
    _build_owner_column(),
    Column("resource", Text, primary_key=True),
    Column("walk_id", BigInteger, primary_key=True, autoincrement=False),
    Column("page_no", Integer, primary_key=True, autoincrement=False),
    Column("keys", ARRAY(Text), nullable=False, comment="ids, or group/member pairs"),
    Column(
        "properties",
        ARRAY(BigInteger),
        comment="for each key, a bit for each column that was sent; null when all were",
    ),
    schema=SYNC,
    comment="What a full walk has seen, one row a page",
)

removals = Table(
    "removals",
    metadata,
    _build_owner_column(),
    Column("resource", Text, primary_key=True),
    Column("key", Text, primary_key=True, comment="an id, or a group/member pair"),
    Column("reason", Text, nullable=False),
    Column("held", Boolean, nullable=False, server_default=text("false")),
    Column("noted_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column(
        "approved_at",
        DateTime(timezone=True),
        comment="an operator approved it, and it is being deleted; null: not approved",
    ),
    schema=SYNC,
    comment="Deletions that wait: for the end of their round, or for an operator",
)

candidates = Table(
    "candidates",
    metadata,
    _build_owner_column(),
    Column("resource", Text, primary_key=True),
    Column("key", Text(collation="C"), primary_key=True, comment="an id, or a group/member pair"),
    Column("walk_id", BigInteger, nullable=False, comment="the walk that is judged"),
    Column(
        "unseen",
        Boolean,
        nullable=False,
        server_default=text("false"),
        comment="the row is live, and the walk did not see it",
    ),
    Column("announced", Text, comment="the reason that Graph announced; null where it did not"),
    Column(
        "hidden",
        Boolean,
        nullable=False,
        server_default=text("false"),
        comment="the last memberships of a group with hidden membership: they are held",
    ),
    Column(
        "found",
        Boolean,
        nullable=False,
        server_default=text("false"),
        comment="a read by id found the object, so it stays",
    ),
    schema=SYNC,
    comment="What the sweep of a complete walk would delete, until it is judged and deleted",
)
