"""Resources without templates of their own are generated from the types of their properties."""

from random import Random
from typing import Any

import pytest

from models.resource import Resource
from models.resources import RESOURCES
from sandbox.tenant.directory.fields import build_fields
from sandbox.tenant.directory.object_store import ObjectStore, Projection
from sandbox.tenant.directory.templates.generic import draw_change, generic_template
from sandbox.tenant.directory.truth import build_plain_row
from tests.support.every_type import EVERY_TYPE
from tests.support.mirror import to_truth_value
from worker.graph.decode import decode_page
from worker.graph.page import Page

DECLARED = pytest.mark.parametrize(
    "declared",
    [EVERY_TYPE, RESOURCES["role_definitions"], RESOURCES["role_assignments"]],
    ids=lambda declared: declared.name,
)
COUNT = 100


def make_store(declared: Resource, seed: int = 5) -> ObjectStore:
    template = generic_template(declared)
    return ObjectStore(seed, build_fields(declared), COUNT, template, templates=COUNT)


def decode(store: ObjectStore, declared: Resource) -> Page:
    view = Projection(store.fields.generated, with_nulls=True)
    texts = store.render_live(0, store.total, view)
    return decode_page(declared, b'{"value":[%b]}' % b",".join(texts))


def read_rows(page: Page, declared: Resource) -> list[dict[str, Any]]:
    return [
        {
            name: to_truth_value(value)
            for name, value in zip(declared.column_names, one.row, strict=True)
        }
        for one in page.rows.values()
    ]


@DECLARED
def test_generated_objects_are_rows_that_the_truth_knows(declared: Resource) -> None:
    store = make_store(declared)
    page = decode(store, declared)
    assert not page.rejects
    assert not page.faults
    truth = [build_plain_row(declared, store.props_at(index)) for index in range(COUNT)]
    assert read_rows(page, declared) == truth


@DECLARED
def test_every_property_has_a_value_somewhere_and_is_missing_somewhere(declared: Resource) -> None:
    rows = read_rows(decode(make_store(declared), declared), declared)
    for name in declared.column_names:
        values = [row[name] for row in rows]
        assert any(value is not None for value in values)
        assert (None in values) is (name not in (*declared.key, *declared.labels))


@DECLARED
def test_the_same_seed_makes_the_same_objects(declared: Resource) -> None:
    assert (
        decode(make_store(declared), declared).rows == decode(make_store(declared), declared).rows
    )
    assert (
        decode(make_store(declared, seed=6), declared).rows
        != decode(make_store(declared), declared).rows
    )


@DECLARED
def test_a_random_change_is_one_value_that_can_be_mirrored(declared: Resource) -> None:
    rng, store = Random(7), make_store(declared)
    for _ in range(50):
        change = draw_change(rng, declared)
        assert len(change) == 1
        store.edit(3).props.update(change)
        page = decode(store, declared)
        assert not page.rejects
        assert not page.faults
        row = build_plain_row(declared, store.props_at(3))
        assert read_rows(page, declared)[3] == row
