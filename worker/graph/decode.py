"""Bytes to rows, removals, edges and rejects. No I/O, and nothing that Graph sends is trusted.

A page is decoded in one go; only where that fails is it taken apart object by object, so that
one malformed object costs itself and not its page.
"""

import hashlib
import json
from collections.abc import Callable
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

REASONS: Final = {
    "changed": DeletedReason.SOFT_DELETED,
    "deleted": DeletedReason.PERMANENTLY_DELETED,
}


class Incoming(NamedTuple):
    """A row as it came, a bit for each column that was sent, its JSON and its hash."""

    row: Row
    present: int
    json: bytes
    hash: bytes


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


def decode_page(resource: Resource, body: bytes) -> Page:
    """Understand one page of a listing or of a delta round.

    Raises Torn where the body is not a page at all; single bad objects become rejects.
    """
    page = Page()
    if b"\\u0000" not in body:
        try:
            whole = _envelope(resource).decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass
        else:
            page.next_link, page.delta_link = whole.next_link, whole.delta_link
            take = _taker(page, resource)
            for record in whole.value:
                take(record)
            return _finished(page, len(whole.value))
    return _one_by_one(page, resource, body)


def decode_object(resource: Resource, body: bytes) -> Page:
    """One object read by its id, as a page of one."""
    return _one_by_one(Page(), resource, b'{"value":[' + body + b"]}")


def _one_by_one(page: Page, resource: Resource, body: bytes) -> Page:
    try:
        document = json.loads(body)
    except ValueError:
        raise Torn("the answer is not JSON; nothing of it was used", after=60) from None
    value = document.get("value") if isinstance(document, dict) else None
    if not isinstance(value, list):
        raise Torn("the answer has no 'value' list; nothing of it was used", after=60)
    page.next_link = _link(document, "@odata.nextLink")
    page.delta_link = _link(document, "@odata.deltaLink")
    take = _taker(page, resource)
    for item in value:
        try:
            record = _convert(resource, item)
        except (ValueError, msgspec.DecodeError) as fault:
            page.rejects.append(Malformed(_readable_key(resource, item), _short(fault)))
        else:
            take(record)
    return _finished(page, len(value))


def _link(document: dict[str, Any], name: str) -> str | None:
    link = document.get(name)
    if link is not None and not isinstance(link, str):
        raise Torn(f"{name} is not a link; nothing of the page was used", after=60)
    return link


def _convert(resource: Resource, item: Any) -> Record:
    text = json.dumps(item)
    if "\\u0000" in text:
        raise ValueError("a text holds a NUL character, which Postgres cannot store")
    return msgspec.json.decode(text.encode(), type=resource.record)


def _short(fault: ValueError | msgspec.DecodeError) -> str:
    """The reason without the offending value, which may be personal data."""
    return str(fault).split("\n", 1)[0][:200]


def _readable_key(resource: Resource, item: Any) -> str | None:
    identity = item.get("id") if isinstance(item, dict) else None
    if not isinstance(identity, str):
        return None
    try:
        row, _ = shape_of(resource).from_record(resource.record(id=identity))
    except ValueError:
        return None
    key = str(row[0])
    return key if "\0" not in key and len(key) <= 400 else None


def _taker(page: Page, resource: Resource) -> Callable[[Record], None]:
    """Puts records into a page; made once a page, as it runs once an object."""
    shape = shape_of(resource)
    from_record, json_and_hash = shape.from_record, shape.json_and_hash
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
        rows[key] = Incoming(row, present, *json_and_hash(row))
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
        told = hashlib.blake2b(digest_size=16)
        for incoming in page.rows.values():
            told.update(incoming.hash)
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
    except msgspec.DecodeError as fault:
        raise Torn(f"a list of members cannot be read ({_short(fault)})", after=60) from None
    edges = {
        (group_id, member.id.lower()): MEMBER_TYPES.get(member.odata_type, "other")
        for member in listed.value
    }
    return edges, listed.next_link


class _Members(msgspec.Struct):
    value: list[MemberReference]
    next_link: str | None = msgspec.field(name="@odata.nextLink", default=None)
