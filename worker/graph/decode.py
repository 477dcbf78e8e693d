"""Bytes to rows, removals, edges and rejects. No I/O, and nothing that Graph sends is trusted.

A page is decoded in one go; only where that fails is it taken apart object by object, and an
object property by property, so that one odd value costs itself and not its object or its page.
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
from models.row import shape_of
from worker.core.errors import Torn
from worker.graph.document import document_of, link_of, reason_of
from worker.graph.fragments import members_of, plain_text, text_of
from worker.graph.page import MOST_ODD, Incoming, Malformed, Page, Unread
from worker.graph.salvage import salvage
from worker.graph.taker import Take, source_of, taker
from worker.nango.reply import UNREADABLE

_NUL: Final = b"\\u0000"
"""A NUL as JSON spells it, or some other text that looks like one: it is looked at closely."""

_LINKS: Final[tuple[tuple[str, Any, Any], ...]] = (
    ("next_link", str | None, msgspec.field(name="@odata.nextLink", default=None)),
    ("delta_link", str | None, msgspec.field(name="@odata.deltaLink", default=None)),
)


class _Head(msgspec.Struct):
    """As much of an object as tells which it is."""

    id: str
    removed: Removed | UnsetType = msgspec.field(name="@removed", default=UNSET)


_head = msgspec.json.Decoder(_Head).decode


@cache
def _envelope(kind: type) -> msgspec.json.Decoder[Any]:
    """Decodes a page of objects of a kind."""
    shape = msgspec.defstruct(
        f"{kind.__name__}Page",
        [("value", list[kind]), *_LINKS],  # type: ignore[valid-type]
        kw_only=True,
    )
    return msgspec.json.Decoder(shape)


@cache
def _record(resource: Resource) -> Callable[[msgspec.Raw], Record]:
    return msgspec.json.Decoder(resource.record).decode


def decode_page(
    resource: Resource, body: bytes, *, first: bool = False, again: bool = False
) -> Page:
    """Understand one page of a listing or of a delta round.

    Of ``first`` loads, rows are spelt out for storing them; of walks that go over all of a
    resource ``again``, plain objects are left unread: most of them will be what they were.
    Raises Torn where the body is not a page at all; single bad objects become rejects.
    """
    if _NUL not in body:
        with suppress(*UNREADABLE):
            if resource.is_plain and again:
                return _unread(resource, body)
            if resource.is_plain and first:
                return _spelt(resource, body)
            return _at_once(resource, body)
    return _one_by_one(resource, body)


def decode_object(resource: Resource, body: bytes) -> Page:
    """One object read by its id, as a page of one. Raises Torn where it is none."""
    page = _one_by_one(resource, b'{"value":[' + body + b"]}")
    if page.count != 1:
        raise Torn("the answer is not one object; nothing of it was used", after=60)
    return page


def _at_once(resource: Resource, body: bytes) -> Page:
    whole = _envelope(resource.record).decode(body)
    page = Page(next_link=whole.next_link, delta_link=whole.delta_link)
    take = taker(page, resource)
    for number, record in enumerate(whole.value):
        if page.is_too_odd:
            page.passed_over = len(whole.value) - number
            break
        take(record, None)
    return _finished(page, len(whole.value))


def _spelt(resource: Resource, body: bytes) -> Page:
    """Everything is understood and spelt out, all objects together.

    A page with anything odd is taken object by object.
    """
    whole = _envelope(msgspec.Raw).decode(body)
    page = Page(next_link=whole.next_link, delta_link=whole.delta_link)
    shape, record_of = shape_of(resource), _record(resource)
    records = [record_of(raw) for raw in whole.value]
    try:
        read = [shape.from_record(record) for record in records]
    except ValueError:
        return _at_once(resource, body)
    rows = [row for row, _ in read]
    page.rows = {
        row[0]: Incoming(row, present, shape.hash(row), source_of(shape, raw, present), json, line)
        for (row, present), raw, json, line in zip(
            read, whole.value, shape.jsons(rows), shape.lines(rows), strict=True
        )
    }
    if len(page.rows) != len(read) or any(one.removed is not UNSET for one in records):
        return _at_once(resource, body)
    return _finished(page, len(read))


def _unread(resource: Resource, body: bytes) -> Page:
    """Nothing is understood but the ids. A page with anything odd is read at once after all."""
    whole = _envelope(msgspec.Raw).decode(body)
    page = Page(next_link=whole.next_link, delta_link=whole.delta_link)
    heads = [_head(raw) for raw in whole.value]
    keys = _keys(resource, heads)
    if len(keys) != len(heads) or any(head.removed is not UNSET for head in heads):
        return _at_once(resource, body)
    hash_of = shape_of(resource).source_hash
    page.unread = {
        key: Unread(hash_of(raw), raw) for key, raw in zip(keys, whole.value, strict=True)
    }
    return _finished(page, len(heads))


def _keys(resource: Resource, heads: Sequence[_Head]) -> dict[str, None]:
    """The keys of objects, each once; none where one is no key at all."""
    key_of = shape_of(resource).key
    try:
        return dict.fromkeys([key_of(head.id) for head in heads])
    except ValueError:
        return {}


def read_changed(page: Page, resource: Resource, changed: Collection[str]) -> None:
    """Understand what was left unread and was sent in other bytes than before."""
    take, record_of = taker(page, resource), _record(resource)
    for key, (_, raw) in page.unread.items():
        if key not in changed:
            page.same.append(key)
            continue
        if page.is_too_odd:
            page.passed_over += 1
            continue
        try:
            take(record_of(raw), raw)
        except UNREADABLE:
            _take_apart(page, resource, take, text_of(bytes(raw)))
    page.unread = {}


def _one_by_one(resource: Resource, body: bytes) -> Page:
    document, value = document_of(body)
    links = link_of(document, "@odata.nextLink"), link_of(document, "@odata.deltaLink")
    page = Page(next_link=links[0], delta_link=links[1])
    take, record_of = taker(page, resource), _record(resource)
    apart = count = 0
    for text in value:
        count += 1
        if page.is_too_odd or apart >= MOST_ODD:
            page.passed_over = 1 + value.left()
            break
        try:
            body = text.encode()
            record = None if _NUL in body else record_of(msgspec.Raw(body))
        except (*UNREADABLE, UnicodeEncodeError):
            record = None
        if record is None:
            apart += 1
            _take_apart(page, resource, take, text)
        else:
            take(record, None)
    return _finished(page, count + value.left() if page.passed_over else count)


def _take_apart(page: Page, resource: Resource, take: Take, text: str) -> None:
    """Take an object that cannot be decoded as a whole, or is better looked at closely."""
    try:
        record, faults = salvage(resource, text)
    except ValueError as fault:
        page.rejects.append(Malformed(_readable_key(resource, text), reason_of(fault)))
    else:
        take(record, None, faults)


def _readable_key(resource: Resource, text: str) -> str | None:
    """An object's key, where that much can be read and stored."""
    try:
        identity = plain_text(members_of(text).get("id", ""))
        row, _, _ = shape_of(resource).without_unstorable(resource.record(id=identity))
        key = str(row[0])
        key.encode()
    except ValueError:
        return None
    return None if "\0" in key else key


def _finished(page: Page, count: int) -> Page:
    """Count, and digest what was said, so that a walk that repeats itself is noticed."""
    page.count = count
    if count:
        hashes = [incoming.hash for incoming in page.rows.values()]
        hashes += [unread.source for unread in page.unread.values()]
        told = hashlib.blake2b(b"".join(hashes), digest_size=16)
        told.update(repr((sorted(page.removed), sorted(page.edges))).encode())
        told.update(repr((sorted(page.edges_removed), page.rejects)).encode())
        page.digest = told.hexdigest()
    for key in page.conflicts:
        page.removed.pop(key, None)
        page.drop(key)
    return page
