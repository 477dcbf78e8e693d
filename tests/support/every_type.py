"""A declaration with a column of every type; it is in no registry and has no table."""

from typing import Final

from models.property import boolean, document, documents, guid, integer, text, texts, timestamp
from models.resource import Resource
from models.source import Source

EVERY_TYPE: Final = Resource(
    name="samples",
    meaning="one column of each type",
    permission="Sample.Read.All",
    graph_type="sample",
    event_noun="sample",
    source=Source(path="/samples", intervals=("listing_seconds",)),
    labels=("display_name",),
    properties=(
        guid("id", "id", key=True),
        text("display_name", "name"),
        text("note", "note"),
        guid("owner_id", "a GUID"),
        boolean("is_enabled", "a flag"),
        integer("consumed_units", "a whole number"),
        timestamp("created_date_time", "a time"),
        texts("tags", "texts", unordered=True),
        document("org_data", "a document"),
        documents("rules", "documents", unordered=True),
    ),
)
