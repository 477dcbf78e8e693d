"""Tables with one sample a day of columns that change too often for events."""

from functools import cache
from typing import Final

from sqlalchemy import BigInteger, Column, Date, Index, Table

from models.base import HISTORY, metadata
from models.mirror import build_column
from models.resource import OWNER, Resource
from models.resources import ERASABLE_REFERENCES, RESOURCES

SAMPLED: Final = tuple(one for one in RESOURCES.values() if one.sampled_columns)
"""The resources that have such columns."""

for _resource in SAMPLED:
    if _resource.erasable or ERASABLE_REFERENCES[_resource.name]:
        raise ValueError(f"{_resource.name}: an erasure would leave the samples of a person")


@cache
def get_sample_table(resource: Resource) -> Table:
    """Return the table with the daily samples of a resource that has sampled columns."""
    return Table(
        f"{resource.name}_samples",
        metadata,
        Column(
            OWNER,
            BigInteger,
            primary_key=True,
            autoincrement=False,
            comment="the connection that the row belongs to",
        ),
        *map(build_column, resource.key_columns),
        Column("sampled_on", Date, primary_key=True, comment="the day, in UTC"),
        *map(build_column, resource.sampled_columns),
        Index(None, "sampled_on"),
        schema=HISTORY,
        comment=f"{resource.name}: the last values of each day on which all of them were read",
    )
