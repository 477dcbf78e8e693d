"""Samples of resources: for each one a hand-written file with its columns, a body and its row."""

import json
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec

from models.resource import Resource
from models.resources import RESOURCES
from worker.graph.decode import decode_page
from worker.rows.shape import Row

FOLDER: Final = Path(__file__).parents[1] / "samples"


class Sample(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What users of the mirror rely on, and one object on its way from Graph to its row."""

    permission: str
    key: tuple[str, ...]
    columns: dict[str, str]
    """SQL types by column, in the order of the table."""
    list_url: str = ""
    delta_url: str = ""
    select_hash: str = ""
    """Only with a delta: another hash starts a full walk in every tenant."""
    sent: dict[str, Any]
    """An object as Graph sends it; of an edge, its parent with one member."""
    row: dict[str, Any]
    """The row as JSON, in the order of the columns."""
    hash: str

    @property
    def body(self) -> bytes:
        """Return a page with this object."""
        return json.dumps({"value": [self.sent]}).encode()


@cache
def read_samples() -> dict[str, Sample]:
    """Return all samples by resource."""
    return {
        path.stem: msgspec.json.decode(path.read_bytes(), type=Sample)
        for path in sorted(FOLDER.glob("*.json"))
    }


def decode_row(resource: Resource, sample: Sample) -> Row:
    """Return the row of a sample's body."""
    if not resource.parent:
        ((_, incoming),) = decode_page(resource, sample.body).rows.items()
        return incoming.row
    page = decode_page(RESOURCES[resource.parent], sample.body)
    ((pair, member_type),) = page.get_edges(resource.name).found.items()
    return (*pair, member_type)
