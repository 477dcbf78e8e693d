"""Columns of the mirror that a downgrade takes away, with the values in them."""

from collections.abc import Sequence
from typing import Final

from alembic import op

_NO_VERSION: Final = r"\x00"
"""A first byte that no hash has: the next full walk compares the row and renews its hash."""


def drop_columns(resource: str, columns: Sequence[str]) -> None:
    """Drop columns of a resource's table so that another upgrade brings their values again.

    The hashes of rows cover the values, and the stream knows that a walk has brought them. Without
    this, rows would count as unchanged, or the values as changes of the objects.
    """
    names = ", ".join(columns)
    op.execute("set local statement_timeout = 0")
    op.execute(
        f"update directory.{resource} set row_hash = '{_NO_VERSION}' || substr(row_hash, 2)"
        f" where row_hash is not null and num_nonnulls({names}) > 0"
    )
    op.execute(
        "update sync.streams"
        " set walked_columns = array(select w.name"
        " from unnest(walked_columns) with ordinality as w(name, place)"
        f" where w.name <> all('{{{names}}}') order by w.place)"
        f" where resource = '{resource}' and walked_columns is not null"
    )
    for name in reversed(columns):
        op.drop_column(resource, name, schema="directory", if_exists=True)
