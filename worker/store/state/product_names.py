"""Gives the database the names of products that this release ships, after each migration."""

from typing import Final

import sqlalchemy as sa
from sqlalchemy import text

from models.product_names import AS_OF, PRODUCT_NAMES

_HAS_TABLE: Final = text("select to_regclass('analytics.product_names') is not null")
_FORGET: Final = text(
    "delete from analytics.product_names where sku_id <> all (cast(:ids as uuid[]))"
)
_STORE: Final = text("""
    insert into analytics.product_names as p (sku_id, name, as_of)
    select sku_id, name, :as_of
      from unnest(cast(:ids as uuid[]), cast(:names as text[])) as given (sku_id, name)
        on conflict (sku_id) do update set name = excluded.name, as_of = excluded.as_of
     where (p.name, p.as_of) is distinct from (excluded.name, excluded.as_of)
""")


def store_product_names(db: sa.Connection) -> None:
    """Store the names that this release ships, and no other. Doing it again changes nothing."""
    if not db.execute(_HAS_TABLE).scalar_one():
        return
    ids = list(PRODUCT_NAMES)
    db.execute(_FORGET, {"ids": ids})
    db.execute(_STORE, {"ids": ids, "names": list(PRODUCT_NAMES.values()), "as_of": AS_OF})
