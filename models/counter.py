"""Table of cumulative counters, from which the counters of the metrics are read."""

from sqlalchemy import BigInteger, Column, Double, Table, Text, text
from sqlalchemy.dialects.postgresql import ARRAY

from models.base import SYNC, metadata

counters = Table(
    "counters",
    metadata,
    Column("name", Text, primary_key=True, comment="name of the metric, without its prefix"),
    Column(
        "labels",
        ARRAY(Text),
        primary_key=True,
        comment="values of its labels, in the order in which the metric declares them",
    ),
    Column(
        "slot",
        BigInteger,
        primary_key=True,
        comment="one of a few rows of a series, so that processes seldom wait for each other",
    ),
    Column("value", Double, nullable=False, server_default=text("0"), comment="only ever grows"),
    schema=SYNC,
    comment="Cumulative counters of the service; a series is the sum of its slots",
)
