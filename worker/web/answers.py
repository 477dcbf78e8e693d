"""What the API answers with: one struct for each body."""

from enum import StrEnum

import msgspec


class Word(StrEnum):
    """A status in one word."""

    ALIVE = "alive"
    READY = "ready"
    UNREADY = "unready"


class LiveAnswer(msgspec.Struct, frozen=True):
    """This process answers requests."""

    status: Word


class SchemaDetails(msgspec.Struct, frozen=True):
    """What this release needs of the database, and what was found."""

    found_schema: str | None
    needed_schema: str


class ReadyAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whether this process can serve: it reaches the database, at the schema that it needs."""

    status: Word
    details: SchemaDetails | None = None
    """With a token of the scope ``read``."""
