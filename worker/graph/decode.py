"""Decodes pages into rows, removals, edges and rejects. No I/O; Graph's data is not trusted.

A page is decoded as a whole; only if that fails is it decoded object by object, and an object
property by property, so that one malformed value loses neither its object nor its page.
"""

import hashlib
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from functools import cache
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from models.record import Record, Removed
from models.resource import Resource
from worker.core.errors import MalformedResponse
from worker.graph.json_scanner import decode_text, parse_string, split_object
from worker.graph.page import MAX_ODD_OBJECTS, Page, RejectedObject, UndecodedObject
from worker.graph.page_builder import AddRecord, build_add_record, hash_source
from worker.graph.page_scanner import describe_error, parse_link_field, scan_page
from worker.graph.salvage import salvage_record
from worker.nango.response import JSON_ERRORS
from worker.rows.incoming import IncomingRow
from worker.rows.shape import get_shape

_NUL: Final = b"\\u0000"
"""A NUL escaped in JSON, or another text that looks like one; such pages are salvaged."""

_LINK_FIELDS: Final[tuple[tuple[str, Any, Any], ...]] = (
    ("next_link", str | None, msgspec.field(name="@odata.nextLink", default=None)),
    ("delta_link", str | None, msgspec.field(name="@odata.deltaLink", default=None)),
)


class _ObjectId(msgspec.Struct):
    """The id and removal of an object."""

    id: str
    removed: Removed | UnsetType = msgspec.field(name="@removed", default=UNSET)


_decode_object_id = msgspec.json.Decoder(_ObjectId).decode


@cache
def _build_page_decoder(kind: type) -> msgspec.json.Decoder[Any]:
    """Return a decoder for pages of objects of a type."""
    shape = msgspec.defstruct(
        f"{kind.__name__}Page",
        [("value", list[kind]), *_LINK_FIELDS],  # type: ignore[valid-type]
        kw_only=True,
    )
    return msgspec.json.Decoder(shape)


@cache
def _build_record_decoder(resource: Resource) -> Callable[[msgspec.Raw], Record]:
    return msgspec.json.Decoder(resource.record).decode


def decode_page(
    resource: Resource, body: bytes, *, hash_sources: bool = False, is_rewalk: bool = False
) -> Page:
    """Decode one page of a listing or of a delta round.

    With ``hash_sources``, rows of plain objects get the hashes of the objects' bytes; with
    ``is_rewalk`` (another full walk of a resource), plain objects stay undecoded, as most of them
    will be unchanged.
    Raises MalformedResponse if the body is no page; single malformed objects become rejects.
    """
    if _NUL not in body:
        with suppress(*JSON_ERRORS):
            if resource.is_plain and is_rewalk:
                return _decode_keys_only(resource, body)
            if resource.is_plain and hash_sources:
                return _decode_with_sources(resource, body)
            return _decode_plain(resource, body)
    return _decode_item_by_item(resource, body)


def decode_object(resource: Resource, body: bytes) -> Page:
    """Decode one object, as a page of one. Raises MalformedResponse if the body is none."""
    page = _decode_item_by_item(resource, b'{"value":[' + body + b"]}")
    if page.count != 1:
        raise MalformedResponse("the response is not one object; it was discarded", after=60)
    return page


def _decode_plain(resource: Resource, body: bytes) -> Page:
    whole = _build_page_decoder(resource.record).decode(body)
    page = Page(next_link=whole.next_link, delta_link=whole.delta_link)
    take = build_add_record(page, resource)
    for number, record in enumerate(whole.value):
        if page.is_over_odd_limit:
            page.skipped = len(whole.value) - number
            break
        take(record, None)
    return _finish_page(page, len(whole.value))


def _decode_with_sources(resource: Resource, body: bytes) -> Page:
    """Decode all objects together, with the hashes of their bytes.

    A page with anything odd is decoded object by object.
    """
    whole = _build_page_decoder(msgspec.Raw).decode(body)
    page = Page(next_link=whole.next_link, delta_link=whole.delta_link)
    shape, record_of = get_shape(resource), _build_record_decoder(resource)
    records = [record_of(raw) for raw in whole.value]
    try:
        read = [shape.row_from_record(record) for record in records]
    except ValueError:
        return _decode_plain(resource, body)
    page.rows = {
        row[0]: IncomingRow(row, present, shape.hash_row(row), hash_source(shape, raw, present))
        for (row, present), raw in zip(read, whole.value, strict=True)
    }
    if len(page.rows) != len(read) or any(one.removed is not UNSET for one in records):
        return _decode_plain(resource, body)
    return _finish_page(page, len(read))


def _decode_keys_only(resource: Resource, body: bytes) -> Page:
    """Decode only the ids. A page with anything odd is decoded completely."""
    whole = _build_page_decoder(msgspec.Raw).decode(body)
    page = Page(next_link=whole.next_link, delta_link=whole.delta_link)
    heads = [_decode_object_id(raw) for raw in whole.value]
    keys = _parse_keys(resource, heads)
    if len(keys) != len(heads) or any(head.removed is not UNSET for head in heads):
        return _decode_plain(resource, body)
    hash_of = get_shape(resource).hash_source
    page.undecoded = {
        key: UndecodedObject(hash_of(raw), raw) for key, raw in zip(keys, whole.value, strict=True)
    }
    return _finish_page(page, len(heads))


def _parse_keys(resource: Resource, heads: Sequence[_ObjectId]) -> dict[str, None]:
    """Return the keys of objects, each once; empty if one of them is invalid."""
    key_of = get_shape(resource).parse_key
    try:
        return dict.fromkeys([key_of(head.id) for head in heads])
    except ValueError:
        return {}


def decode_changed(page: Page, resource: Resource, changed: Collection[str]) -> None:
    """Decode the undecoded objects whose bytes have ``changed``; the others are unchanged."""
    take, record_of = build_add_record(page, resource), _build_record_decoder(resource)
    for key, (_, raw) in page.undecoded.items():
        if key not in changed:
            page.unchanged.append(key)
            continue
        if page.is_over_odd_limit:
            page.skipped += 1
            continue
        try:
            take(record_of(raw), raw)
        except JSON_ERRORS:
            _salvage_object(page, resource, take, decode_text(bytes(raw)))
    page.undecoded = {}


def _decode_item_by_item(resource: Resource, body: bytes) -> Page:
    document, value = scan_page(body)
    links = (
        parse_link_field(document, "@odata.nextLink"),
        parse_link_field(document, "@odata.deltaLink"),
    )
    page = Page(next_link=links[0], delta_link=links[1])
    take, record_of = build_add_record(page, resource), _build_record_decoder(resource)
    apart = count = 0
    for text in value:
        count += 1
        if page.is_over_odd_limit or apart >= MAX_ODD_OBJECTS:
            page.skipped = 1 + value.count_left()
            break
        try:
            body = text.encode()
            record = None if _NUL in body else record_of(msgspec.Raw(body))
        except (*JSON_ERRORS, UnicodeEncodeError):
            record = None
        if record is None:
            apart += 1
            _salvage_object(page, resource, take, text)
        else:
            take(record, None)
    return _finish_page(page, count + value.count_left() if page.skipped else count)


def _salvage_object(page: Page, resource: Resource, take: AddRecord, text: str) -> None:
    """Add an object property by property, as it is or may be malformed."""
    try:
        record, faults = salvage_record(resource, text)
    except ValueError as error:
        page.rejects.append(RejectedObject(_find_key(resource, text), describe_error(error)))
    else:
        take(record, None, faults)


def _find_key(resource: Resource, text: str) -> str | None:
    """Return an object's key if it can be read and stored."""
    try:
        identity = parse_string(split_object(text).get("id", ""))
        row, _, _ = get_shape(resource).row_without_unstorable(resource.record(id=identity))
        key = str(row[0])
        key.encode()
    except ValueError:
        return None
    return None if "\0" in key else key


def _finish_page(page: Page, count: int) -> Page:
    """Set the count and the digest, by which a repeating walk is detected."""
    page.count = count
    if count:
        hashes = [incoming.hash for incoming in page.rows.values()]
        hashes += [unread.source_hash for unread in page.undecoded.values()]
        digest = hashlib.blake2b(b"".join(hashes), digest_size=16)
        digest.update(repr((sorted(page.removed), page.rejects)).encode())
        for name, edges in page.edges.items():
            digest.update(repr((name, sorted(edges.found), sorted(edges.removed))).encode())
        page.digest = digest.hexdigest()
    for key in page.conflicts:
        page.removed.pop(key, None)
        page.drop(key)
    return page
