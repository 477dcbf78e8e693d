"""Table of streams. A stream is one resource of one connection: phase, cursor and due times."""

from enum import StrEnum
from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Integer,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from models.base import SYNC, metadata
from models.connection import connections
from models.source import Mode


class Phase(StrEnum):
    """State of a stream. Committing ``SWEEPING`` is the durable proof of a complete walk."""

    READY = "ready"
    LISTING = "listing"
    SWEEPING = "sweeping"
    DELTA = "delta"
    REFUSED = "refused"
    HELD = "held"


NOT_LICENSED_PHASE: Final = "not_licensed"
"""Shown for a stream that is refused because the tenant lacks the licence.

What is stored is ``REFUSED``, which every release knows; the reason tells them apart.
"""

OFF_PHASE: Final = "off"
"""Shown for a stream that the settings switch off. No phase is stored for it, as an earlier release
could not read one: it leaves the stream alone because nothing is due."""


class Nesting(StrEnum):
    """State of the closure of a stream's edges, where parents can be members of parents."""

    COMPLETE = "complete"
    """It has every pair, as of the last commit."""
    TOO_LARGE = "too_large"
    """It has more pairs than are kept: there are none."""


DEFAULT_INTERVAL = 300
"""Seconds between two reads of a stream whose own interval is not stored yet."""


def compute_late_after(interval_seconds: float | None) -> float:
    """Return the age in seconds from which rows are late; the view ``analytics.freshness`` agrees.

    Data is late once it is older than three of its own intervals, and than one interval plus ten
    minutes.
    """
    interval = interval_seconds or DEFAULT_INTERVAL
    return max(3 * interval, interval + 600)


streams = Table(
    "streams",
    metadata,
    Column(
        "connection_id",
        BigInteger,
        ForeignKey(connections.c.id, ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("resource", Text, primary_key=True),
    Column("phase", Text, nullable=False, server_default=Phase.READY),
    Column(
        "refused_phase",
        Text,
        comment="phase in which it was refused, and in which it goes on; null: from the start",
    ),
    Column("mode", Text, nullable=False, server_default=Mode.PLAIN),
    Column("walk_id", BigInteger, nullable=False, server_default="0"),
    Column("page_no", Integer, nullable=False, server_default="0"),
    Column("next_link", Text, comment="where the walk or round under way goes on"),
    Column("delta_link", Text, comment="where the next round starts"),
    Column("delta_link_at", DateTime(timezone=True)),
    Column("parts", ARRAY(Text), comment="role definitions that a filtered walk goes through"),
    Column("select_hash", Text, comment="digest of the property list behind the cursor"),
    Column(
        "left_out",
        ARRAY(Text),
        comment="Graph properties that this tenant's Graph does not know; their columns stay as is",
    ),
    Column("left_out_at", DateTime(timezone=True), comment="when these were last asked for"),
    Column(
        "asked_columns",
        ARRAY(Text),
        comment="columns, and relations that carry edges, that the walk under way asks for",
    ),
    Column(
        "walked_columns",
        ARRAY(Text),
        comment="those that the last complete walk asked for; null: not known, or there was none",
    ),
    Column(
        "covered_since",
        JSONB,
        comment="for columns that came later: the event since which events tell them",
    ),
    Column(
        "off_at",
        DateTime(timezone=True),
        comment="since when the settings switch it off; null: it is on",
    ),
    Column(
        "dropped",
        ARRAY(Text),
        comment="Graph properties, and relations that carry edges, that the settings leave out",
    ),
    Column(
        "to_clear",
        ARRAY(Text),
        comment="columns and relations whose values are still to be removed; the key: rows",
    ),
    Column(
        "page_size",
        Integer,
        comment="objects asked for on a page, where Graph does not answer as many as usual",
    ),
    Column("page_size_at", DateTime(timezone=True), comment="when that was last changed"),
    Column(
        "slow_pages",
        Integer,
        nullable=False,
        server_default="0",
        comment="how often in a row the page under way was not answered in time",
    ),
    Column("seen_count", BigInteger, nullable=False, server_default="0"),
    Column("loop_mark", Text, comment="a remembered link, to find loops across slices"),
    Column("body_digest", Text, comment="digest of the last page that was not empty"),
    Column("body_repeats", Integer, nullable=False, server_default="0"),
    Column("restarts", Integer, nullable=False, server_default="0"),
    Column("incomplete", Boolean, nullable=False, server_default=text("false")),
    Column("walk_started_at", DateTime(timezone=True)),
    Column("first_complete_at", DateTime(timezone=True)),
    Column(
        "full_walk_at", DateTime(timezone=True), comment="start of the last full walk that ended"
    ),
    Column("full_walk_count", BigInteger, comment="objects that this walk was sent"),
    Column("fresh_at", DateTime(timezone=True), comment="the rows are at least as new as this"),
    Column("due_at", DateTime(timezone=True)),
    Column(
        "first_due_at",
        DateTime(timezone=True),
        comment="when it was to be read first; null: together with all others",
    ),
    Column("full_due_at", DateTime(timezone=True)),
    Column(
        "interval_seconds",
        Double,
        comment="seconds between two reads, as of the last one",
    ),
    Column(
        "checked_seq",
        BigInteger,
        nullable=False,
        server_default="0",
        comment="last event whose membership was checked for a member that is not mirrored",
    ),
    Column(
        "drift",
        JSONB,
        comment="what the latest full walk found that the deltas had missed, by resource",
    ),
    Column(
        "nesting",
        Text,
        comment="closure of its nested objects: complete or too_large; null: not known, or none",
    ),
    Column("nesting_pairs", BigInteger, comment="pairs in that closure"),
    Column(
        "nesting_at", DateTime(timezone=True), comment="when all of it was last computed or tried"
    ),
    Column(
        "nesting_mark",
        Text,
        comment="walk_id/page_no as of which it is right; another: an earlier release wrote since",
    ),
    Column("reason", Text, comment="why it is refused, held or waiting, in plain words"),
    Column(
        "out_of_budget",
        Boolean,
        nullable=False,
        server_default=text("false"),
        comment="it waits until the budget of Nango calls has room",
    ),
    CheckConstraint(
        "phase in ('ready', 'listing', 'sweeping', 'delta', 'refused', 'held')", name="phase"
    ),
    schema=SYNC,
    comment="The state of each resource of each connection; enough to go on anywhere",
)
