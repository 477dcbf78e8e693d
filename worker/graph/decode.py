"""Bytes to rows, removals, edges and rejects. No I/O, and nothing that Graph sends is trusted.

A page is decoded in one go; only where that fails is it taken apart object by object, so that
one malformed object costs itself and not its page.
"""

import hashlib
import json
import re
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from functools import cache
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from models.record import Record, Removed
from models.resource import DeletedReason, Resource
from models.row import Row, RowShape, shape_of
from worker.core.errors import Torn
from worker.graph.document import document_of, json_of, link_of, reason_of
from worker.graph.memberships import note_members
from worker.graph.page import Incoming, Malformed, Page, Unread
from worker.nango.reply import UNREADABLE

REASONS: Final = {
    "changed": DeletedReason.SOFT_DELETED,
    "deleted": DeletedReason.PERMANENTLY_DELETED,
}

_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
"""A NUL as JSON spells it; after an odd backslash it is only the text that looks like one."""

Take = Callable[[Record, msgspec.Raw | None], None]


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
    # A body without any backslash, as most are, is known to be clean at a fraction of the cost.
    if b"\\" not in body or b"\\u0000" not in body:
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
    take = _taker(page, resource)
    for record in whole.value:
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
        row[0]: Incoming(row, present, shape.hash(row), _source(shape, raw, present), json, line)
        for (row, present), raw, json, line in zip(
            read, whole.value, shape.jsons(rows), shape.lines(rows), strict=True
        )
    }
    if len(page.rows) != len(read) or any(one.removed is not UNSET for one in records):
        return _at_once(resource, body)
    return _finished(page, len(read))


def _source(shape: RowShape, raw: msgspec.Raw | None, present: int) -> bytes | None:
    """The hash of an object's bytes, where they told all of its row."""
    return shape.source_hash(raw) if raw is not None and present == shape.everything else None


def _unread(resource: Resource, body: bytes) -> Page:
    """Nothing is understood but the ids. A page with anything odd is read at once after all."""
    whole = _envelope(msgspec.Raw).decode(body)
    page = Page(next_link=whole.next_link, delta_link=whole.delta_link)
    heads = [_head(raw) for raw in whole.value]
    keys = _keys(resource, heads)
    if len(keys) != len(heads) or any(head.removed is not UNSET for head in heads):
        return _at_once(resource, body)
    source_of = shape_of(resource).source_hash
    page.unread = {
        key: Unread(source_of(raw), raw) for key, raw in zip(keys, whole.value, strict=True)
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
    """Understand what was left unread and was sent in other bytes than before.

    Raises Torn where that is not even JSON.
    """
    take, record_of = _taker(page, resource), _record(resource)
    for key, (_, raw) in page.unread.items():
        if key not in changed:
            page.same.append(key)
            continue
        try:
            take(record_of(raw), raw)
        except UNREADABLE:
            _take_item(page, resource, take, json_of(bytes(raw)))
    page.unread = {}


def _one_by_one(resource: Resource, body: bytes) -> Page:
    document, value = document_of(body)
    links = link_of(document, "@odata.nextLink"), link_of(document, "@odata.deltaLink")
    page = Page(next_link=links[0], delta_link=links[1])
    take = _taker(page, resource)
    for item in value:
        _take_item(page, resource, take, item)
    return _finished(page, len(value))


def _take_item(page: Page, resource: Resource, take: Take, item: Any) -> None:
    try:
        take(_convert(resource, item), None)
    except (ValueError, RecursionError) as fault:
        page.rejects.append(Malformed(_readable_key(resource, item), reason_of(fault)))


def _convert(resource: Resource, item: Any) -> Record:
    text = json.dumps(item)
    if _NUL.search(text):
        raise ValueError("a text holds a NUL character, which Postgres cannot store")
    return msgspec.json.decode(text.encode(), type=resource.record)


def _readable_key(resource: Resource, item: Any) -> str | None:
    identity = item.get("id") if isinstance(item, dict) else None
    if not isinstance(identity, str):
        return None
    try:
        row, _ = shape_of(resource).from_record(resource.record(id=identity))
        key = str(row[0])
        key.encode()
    except ValueError:
        return None
    return None if "\0" in key else key


def _taker(page: Page, resource: Resource) -> Take:
    """Puts records into a page; made once a page, as it runs once an object."""
    shape = shape_of(resource)
    from_record, hash_of = shape.from_record, shape.hash
    rows, removed, conflicts = page.rows, page.removed, page.conflicts
    has_members = bool(resource.children)

    def take(record: Record, raw: msgspec.Raw | None) -> None:
        try:
            row, present = from_record(record)
        except ValueError as fault:
            key = _readable_key(resource, {"id": record.id})
            page.rejects.append(Malformed(key, reason_of(fault)))
            return
        key = row[0]
        if record.removed is not UNSET:
            _take_removal(page, key, record.removed)
            return
        if key in removed:
            conflicts.add(key)
        if key in rows:
            row, present = _folded(rows[key], row, present)
            raw = None
        rows[key] = Incoming(row, present, hash_of(row), _source(shape, raw, present))
        if has_members and record.members:  # type: ignore[attr-defined]
            note_members(page, key, record.members)  # type: ignore[attr-defined]

    return take


def _take_removal(page: Page, key: str, removed: Removed | UnsetType) -> None:
    assert isinstance(removed, Removed)
    if key in page.rows:
        page.conflicts.add(key)
    page.removed[key] = REASONS.get(removed.reason, DeletedReason.PERMANENTLY_DELETED)


def _folded(before: Incoming, row: Row, present: int) -> tuple[Row, int]:
    """An object that comes twice in a page: what was sent last counts, column by column."""
    merged = tuple(
        new if present >> index & 1 else old
        for index, (old, new) in enumerate(zip(before.row, row, strict=True))
    )
    return merged, before.present | present


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
        page.rows.pop(key, None)
    return page
