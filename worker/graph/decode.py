"""Bytes to rows, removals, edges and rejects. No I/O, and nothing that Graph sends is trusted.

A page is decoded in one go; only where that fails is it taken apart object by object, so that
one malformed object costs itself and not its page.
"""

import hashlib
import json
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from models.record import MemberReference, Record, Removed
from models.resource import DeletedReason, Resource
from models.resources.group_members import MEMBER_TYPES
from models.row import Row, shape_of
from worker.core.errors import Torn
from worker.nango.reply import UNREADABLE

REASONS: Final = {
    "changed": DeletedReason.SOFT_DELETED,
    "deleted": DeletedReason.PERMANENTLY_DELETED,
}

_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
"""A NUL as JSON spells it; after an odd backslash it is only the text that looks like one."""


class Incoming(NamedTuple):
    """A row as it came, a bit for each column that was sent, and the hash of its content.

    Where the row is likely to be new, its JSON and its COPY line, too.
    """

    row: Row
    present: int
    hash: bytes
    json: bytes = b""
    line: bytes = b""


class Malformed(NamedTuple):
    """An object that cannot be understood; ``key`` is its id where that much is readable."""

    key: str | None
    reason: str


@dataclass
class Page:
    """One page of a walk, understood."""

    count: int = 0
    rows: dict[str, Incoming] = field(default_factory=dict)
    removed: dict[str, DeletedReason] = field(default_factory=dict)
    edges: dict[tuple[str, str], str] = field(default_factory=dict)
    edges_removed: dict[tuple[str, str], DeletedReason] = field(default_factory=dict)
    rejects: list[Malformed] = field(default_factory=list)
    conflicts: set[str] = field(default_factory=set)
    next_link: str | None = None
    delta_link: str | None = None
    digest: str = ""

    @property
    def is_last(self) -> bool:
        return self.next_link is None


@cache
def _envelope(resource: Resource) -> msgspec.json.Decoder[Any]:
    fields: list[tuple[str, Any, Any]] = [
        ("next_link", str | None, msgspec.field(name="@odata.nextLink", default=None)),
        ("delta_link", str | None, msgspec.field(name="@odata.deltaLink", default=None)),
    ]
    shape = msgspec.defstruct(
        f"{resource.name}_page",
        [("value", list[resource.record]), *fields],  # type: ignore[name-defined]
        kw_only=True,
    )
    return msgspec.json.Decoder(shape)


def decode_page(resource: Resource, body: bytes, *, first: bool = False) -> Page:
    """Understand one page of a listing or of a delta round; on ``first`` loads, spell it out.

    Raises Torn where the body is not a page at all; single bad objects become rejects.
    """
    # A body without any backslash, as most are, is known to be clean at a fraction of the cost.
    if b"\\" not in body or b"\\u0000" not in body:
        with suppress(*UNREADABLE):
            return _at_once(resource, body, first=first)
    return _one_by_one(resource, body)


def decode_object(resource: Resource, body: bytes) -> Page:
    """One object read by its id, as a page of one. Raises Torn where it is none."""
    page = _one_by_one(resource, b'{"value":[' + body + b"]}")
    if page.count != 1:
        raise Torn("the answer is not one object; nothing of it was used", after=60)
    return page


def _at_once(resource: Resource, body: bytes, *, first: bool) -> Page:
    whole = _envelope(resource).decode(body)
    page = Page(next_link=whole.next_link, delta_link=whole.delta_link)
    take = _taker(page, resource, first=first)
    for record in whole.value:
        take(record)
    return _finished(page, len(whole.value))


def _one_by_one(resource: Resource, body: bytes) -> Page:
    document, value = _document(body)
    links = _link(document, "@odata.nextLink"), _link(document, "@odata.deltaLink")
    page = Page(next_link=links[0], delta_link=links[1])
    take = _taker(page, resource)
    for item in value:
        try:
            take(_convert(resource, item))
        except (ValueError, RecursionError) as fault:
            page.rejects.append(Malformed(_readable_key(resource, item), _short(fault)))
    return _finished(page, len(value))


def _document(body: bytes) -> tuple[dict[str, Any], list[Any]]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise Torn("the answer is not JSON; nothing of it was used", after=60) from None
    value = document.get("value") if isinstance(document, dict) else None
    if not isinstance(value, list):
        raise Torn("the answer has no 'value' list; nothing of it was used", after=60)
    return document, value


def _link(document: dict[str, Any], name: str) -> str | None:
    link = document.get(name)
    if link is not None and not isinstance(link, str):
        raise Torn(f"{name} is not a link; nothing of the page was used", after=60)
    return link


def _convert(resource: Resource, item: Any) -> Record:
    text = json.dumps(item)
    if _NUL.search(text):
        raise ValueError("a text holds a NUL character, which Postgres cannot store")
    return msgspec.json.decode(text.encode(), type=resource.record)


def _short(fault: Exception) -> str:
    """The reason without the offending value, which may be personal data."""
    return str(fault).split("\n", 1)[0][:200]


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


def _taker(page: Page, resource: Resource, *, first: bool = False) -> Callable[[Record], None]:
    """Puts records into a page; made once a page, as it runs once an object."""
    shape = shape_of(resource)
    from_record, hash_of, json_of, line_of = shape.from_record, shape.hash, shape.json, shape.line
    rows, removed, conflicts = page.rows, page.removed, page.conflicts
    has_members = bool(resource.children)

    def take(record: Record) -> None:
        try:
            row, present = from_record(record)
        except ValueError as fault:
            key = _readable_key(resource, {"id": record.id})
            page.rejects.append(Malformed(key, _short(fault)))
            return
        key = row[0]
        if record.removed is not UNSET:
            _take_removal(page, key, record.removed)
            return
        if key in removed:
            conflicts.add(key)
        if key in rows:
            row, present = _folded(rows[key], row, present)
        if first:
            rows[key] = Incoming(row, present, hash_of(row), json_of(row), line_of(row))
        else:
            rows[key] = Incoming(row, present, hash_of(row))
        if has_members and record.members:  # type: ignore[attr-defined]
            _take_members(page, key, record.members)  # type: ignore[attr-defined]

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


def _take_members(page: Page, group_id: str, members: list[MemberReference]) -> None:
    for member in members:
        pair = (group_id, member.id.lower())
        if isinstance(member.removed, UnsetType):
            page.edges_removed.pop(pair, None)
            page.edges[pair] = MEMBER_TYPES.get(member.odata_type, "other")
        else:
            page.edges.pop(pair, None)
            page.edges_removed[pair] = DeletedReason.PERMANENTLY_DELETED


def _finished(page: Page, count: int) -> Page:
    """Count, and digest what was said, so that a walk that repeats itself is noticed."""
    page.count = count
    if count:
        hashes = b"".join([incoming.hash for incoming in page.rows.values()])
        told = hashlib.blake2b(hashes, digest_size=16)
        told.update(repr((sorted(page.removed), sorted(page.edges))).encode())
        told.update(repr((sorted(page.edges_removed), page.rejects)).encode())
        page.digest = told.hexdigest()
    for key in page.conflicts:
        page.removed.pop(key, None)
        page.rows.pop(key, None)
    return page


def edges_of(group_id: str, body: bytes) -> tuple[dict[tuple[str, str], str], str | None]:
    """The memberships and the next link in one page of ``/groups/{id}/members``.

    Rows may carry nothing but type and id, where a permission is missing: they are pairs, and
    never say anything about the member itself.
    """
    try:
        listed = msgspec.json.decode(body, type=_Members)
    except UNREADABLE as fault:
        raise Torn(f"a list of members cannot be read ({_short(fault)})", after=60) from None
    edges = {
        (group_id, member.id.lower()): MEMBER_TYPES.get(member.odata_type, "other")
        for member in listed.value
    }
    return edges, listed.next_link


def take_members(page: Page, group_id: str, body: bytes) -> str | None:
    """Add one page of ``/groups/{id}/members``; the link to the next one.

    A member that cannot be understood is a reject of its group. Raises Torn where the body is
    not a page at all.
    """
    with suppress(Torn):
        edges, link = edges_of(group_id, body)
        page.edges |= edges
        return link
    document, value = _document(body)
    for item in value:
        try:
            member = msgspec.convert(item, MemberReference)
        except (ValueError, RecursionError) as fault:
            page.rejects.append(Malformed(group_id, f"a member: {_short(fault)}"))
        else:
            _take_members(page, group_id, [member])
    return _link(document, "@odata.nextLink")


class _Members(msgspec.Struct):
    value: list[MemberReference]
    next_link: str | None = msgspec.field(name="@odata.nextLink", default=None)
