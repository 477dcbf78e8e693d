"""A compact set of GUIDs."""

import tracemalloc
import uuid
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.sync.recheck.id_set import IdSet

# Few different bytes, so that one id is often found across the border of two others.
GUIDS = st.one_of(
    st.uuids().map(str),
    st.lists(st.sampled_from([0, 1]), min_size=16, max_size=16).map(
        lambda some: str(uuid.UUID(bytes=bytes(some)))
    ),
)


@given(st.lists(GUIDS), st.lists(GUIDS), st.lists(GUIDS))
def test_it_holds_what_a_set_of_strings_holds(
    first: list[str], second: list[str], asked: list[str]
) -> None:
    ids, plain = IdSet(first), set(first)
    assert len(ids) == len(plain)
    ids.update(IdSet(second))
    plain |= set(second)
    assert len(ids) == len(plain)
    assert {one for one in {*first, *second, *asked} if one in ids} == plain


def test_the_same_id_in_capitals_is_the_same() -> None:
    one = "00000000-ABCD-0000-0000-00000000000f"
    assert one.lower() in IdSet([one])


def test_what_is_no_guid_is_refused() -> None:
    with pytest.raises(ValueError, match="not a GUID: 3 bytes"):
        IdSet(["ab-cd-ef"])


def test_an_id_takes_few_bytes() -> None:
    random, many = Random(5), 20_000
    tracemalloc.start()
    ids = IdSet(str(uuid.UUID(int=random.getrandbits(128))) for _ in range(many))
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(ids) == many
    assert taken / many < 60
