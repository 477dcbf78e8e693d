"""Table of the names that people know Microsoft's products by."""

from sqlalchemy import Column, Date, Table, Text, Uuid

from models.base import ANALYTICS, metadata

product_names = Table(
    "product_names",
    metadata,
    Column("sku_id", Uuid(as_uuid=False), primary_key=True, comment="id of the product"),
    Column("name", Text, nullable=False, comment="name that people know it by"),
    Column("as_of", Date, nullable=False, comment="when the list of names was made"),
    schema=ANALYTICS,
    comment="Names of well-known products of Microsoft, as Tenant Mirror ships them; not all",
)
