"""The sample of each resource becomes its row on every way of decoding; its hash is pinned."""

from typing import Any

import msgspec
import pytest

from models.property import INTEGER
from models.resource import Resource
from models.resources import RESOURCES, STREAMED
from tests.support.event_validator import EventValidator
from tests.support.samples import Sample, decode_row, read_samples
from worker.delivery.asyncapi import build_document
from worker.graph.decode import decode_changed, decode_object, decode_page
from worker.graph.page import Page
from worker.rows.shape import Row, get_shape

SAMPLES = read_samples()
VALIDATOR = EventValidator(build_document("contract"))
ALL = pytest.mark.parametrize("resource", RESOURCES.values(), ids=lambda resource: resource.name)
TOLD = pytest.mark.parametrize(
    "resource",
    [one for one in RESOURCES.values() if one.has_events],
    ids=lambda resource: resource.name,
)
STREAMS = pytest.mark.parametrize("resource", STREAMED, ids=lambda resource: resource.name)


def as_json(resource: Resource, row: Row) -> dict[str, Any]:
    """The row as events tell it, and the columns that they do not."""
    told: dict[str, Any] = msgspec.json.decode(get_shape(resource).encode_json(row))
    assert told.keys() == {column.name for column in resource.told_columns}
    told |= {one.name: row[resource.columns.index(one)] for one in resource.sampled_columns}
    return {name: told[name] for name in resource.column_names}


def rewalk(resource: Resource, sample: Sample) -> Page:
    page = decode_page(resource, sample.body, is_rewalk=True)
    decode_changed(page, resource, list(page.undecoded))
    return page


@ALL
def test_the_body_becomes_the_row(resource: Resource) -> None:
    row = decode_row(resource, SAMPLES[resource.name])
    assert as_json(resource, row) == SAMPLES[resource.name].row


@ALL
def test_the_hash_of_the_row_is_pinned(resource: Resource) -> None:
    """Another recipe needs another HASH_VERSION, else every row in every mirror would change."""
    row = decode_row(resource, SAMPLES[resource.name])
    assert get_shape(resource).hash_row(row).hex() == SAMPLES[resource.name].hash


@STREAMS
def test_every_way_of_decoding_makes_the_same_row(resource: Resource) -> None:
    sample = SAMPLES[resource.name]
    pages = {
        "plain": decode_page(resource, sample.body),
        "first load": decode_page(resource, sample.body, hash_sources=True),
        "rewalk": rewalk(resource, sample),
        "by id": decode_object(resource, msgspec.json.encode(sample.sent)),
    }
    rows = {way: [incoming.row for incoming in page.rows.values()] for way, page in pages.items()}
    assert all(row == [decode_row(resource, sample)] for row in rows.values()), rows
    assert not any(page.rejects or page.faults for page in pages.values())


@STREAMS
def test_a_sample_has_every_property(resource: Resource) -> None:
    """So that the hash pins the place of every column."""
    assert set(SAMPLES[resource.name].sent) >= set(resource.selected) - set(resource.relations)
    ((_, incoming),) = decode_page(resource, SAMPLES[resource.name].body).rows.items()
    assert incoming.present == get_shape(resource).all_columns


@TOLD
def test_the_published_schema_accepts_the_row_and_refuses_another(resource: Resource) -> None:
    whole, schema = SAMPLES[resource.name].row, f"/components/schemas/{resource.name}"
    row = {column.name: whole[column.name] for column in resource.told_columns}
    assert VALIDATOR.find_problems(row, schema) == []
    for column in resource.told_columns:
        wrong = "seven" if column.type is INTEGER else 7
        assert VALIDATOR.find_problems({**row, column.name: wrong}, schema) != []
    for column in resource.sampled_columns:
        assert VALIDATOR.find_problems({**row, column.name: whole[column.name]}, schema) != []
