"""What an erasure decides: digests, keys, how scrubbing goes on, what columns may name somebody."""

import json
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from sqlalchemy import ARRAY, Column, LargeBinary, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from models.base import DIRECTORY
from models.erasure import ERASED_PREFIX
from models.resource import DeletedReason
from models.resources import RESOURCES
from models.tables import metadata
from worker.erasure.store.events import (
    AffectedEvent,
    ScrubBatch,
    ScrubStep,
    advance_pending,
    begin_next_pass,
    choose_next_step,
    redact_key,
    should_keep_key,
)
from worker.erasure.store.lookup import build_personal_site_path
from worker.erasure.store.rows import remove_keys
from worker.erasure.store.text import TEXT_TABLES, extract_names, redact_names
from worker.erasure.target import parse_object_id
from worker.events.envelope import EnvelopeBuilder
from worker.events.event import Event
from worker.graph.page import Page, PageEdges, RejectedObject
from worker.rows.incoming import IncomingRow
from worker.store.state.erasures import DIGEST_BYTES, ErasedObjects, ErasureDigests, PendingErasure
from worker.sync.loading.erased_filter import drop_erased, without_erased
from worker.sync.sources.members import MemberCursor, parse_member_cursor, remove_parent

MINE = ErasureDigests(b"k" * 32)
ANN, BOB, TEAM = (str(uuid.UUID(int=number)) for number in (0xA, 0xB, 0xC))
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def event(
    seq: int, resource: str = "users", key: str = ANN, change: str = "created", **after: Any
) -> AffectedEvent:
    return AffectedEvent(seq, NOON, resource, key, change, None, after or None)


# ---- digests and keys


def test_a_digest_goes_by_the_id_whatever_its_case_and_by_the_key() -> None:
    assert MINE.digest(ANN) == MINE.digest(ANN.upper())
    assert MINE.digest(ANN) != MINE.digest(BOB)
    assert MINE.digest(ANN) != ErasureDigests(b"another").digest(ANN)
    assert len(MINE.digest(ANN)) == DIGEST_BYTES
    assert MINE.render_mark(ANN) == f"{ERASED_PREFIX}{MINE.digest(ANN).hex()}"
    assert "k" * 8 not in repr(MINE)


def test_a_connection_without_erasures_holds_nobody() -> None:
    assert not ErasedObjects()
    assert ANN not in ErasedObjects()
    assert ANN in ErasedObjects(MINE, frozenset([MINE.digest(ANN)]))
    assert None not in ErasedObjects(MINE, frozenset([MINE.digest(ANN)]))


@pytest.mark.parametrize(
    ("resource", "key", "scrubbed"),
    [
        ("users", ANN, MINE.render_mark(ANN)),
        ("group_members", f"{TEAM}/{ANN}", f"{TEAM}/{MINE.render_mark(ANN)}"),
        ("group_members", f"{ANN}/{BOB}", f"{MINE.render_mark(ANN)}/{BOB}"),
        ("group_members", f"erased:00/{ANN}", f"erased:00/{MINE.render_mark(ANN)}"),
        ("role_assignments", "ASsiGN-1", MINE.render_mark("ASsiGN-1")),
    ],
)
def test_a_digest_takes_the_place_of_the_erased_id_only(
    resource: str, key: str, scrubbed: str
) -> None:
    assert redact_key(resource, key, ANN, MINE) == scrubbed


def test_a_scrubbed_event_still_has_a_valid_envelope() -> None:
    envelope = EnvelopeBuilder(
        "tenantmirror", 7, None, "01935b2c-7a1e-7c3d-9f00-5a0b7c1d2e3f"
    ).build
    for resource, key in (("users", ANN), ("group_members", f"{TEAM}/{ANN}")):
        scrubbed = redact_key(resource, key, ANN, MINE)
        told = Event(7, 3, NOON, str(uuid.uuid4()), resource, scrubbed, "deleted")
        made = json.loads(envelope(told))
        assert made["subject"] == f"{resource}/{scrubbed}"
        assert "/".join(made["data"]["key"].values()) == scrubbed
        assert (made["data"]["before"], made["data"]["after"]) == (None, None)


# ---- how scrubbing goes on


def pending(**values: Any) -> PendingErasure:
    return msgspec.structs.replace(PendingErasure(id=ANN), **values)


@pytest.mark.parametrize(
    ("state", "waits", "move"),
    [
        (pending(), True, ScrubStep.NEXT_BATCH),
        (pending(upto=99, again=True), True, ScrubStep.NEXT_BATCH),
        (pending(upto=100, again=True, kept_from=7), True, ScrubStep.RESTART),
        (pending(upto=100, kept_from=7), True, ScrubStep.WAIT_FOR_SINKS),
        (pending(upto=100, kept_from=7), False, ScrubStep.REDACT_KEPT_KEYS),
        (pending(upto=100), True, ScrubStep.FINISHED),
    ],
)
def test_scrubbing_knows_what_is_next(state: PendingErasure, waits: bool, move: ScrubStep) -> None:
    assert choose_next_step(state, 100, waits=waits) is move


def test_another_pass_begins_where_it_has_to() -> None:
    state = pending(upto=100, again=True, kept_from=7)
    assert begin_next_pass(state, ScrubStep.RESTART) == pending(upto=0, kept_from=7)
    assert begin_next_pass(pending(upto=100, kept_from=7), ScrubStep.REDACT_KEPT_KEYS) == pending(
        upto=6
    )


def test_only_a_deletion_that_a_sink_has_not_had_keeps_its_key() -> None:
    gone = event(9, change="deleted")
    assert should_keep_key(gone, 8)
    assert not should_keep_key(gone, 9)
    assert not should_keep_key(gone, None)
    assert not should_keep_key(event(9, change="updated"), 8)


def test_an_assignment_without_a_beginning_sends_scrubbing_back() -> None:
    made = event(3, "role_assignments", "made", principal_id=ANN)
    late = event(4, "role_assignments", "late", "deleted")
    after = advance_pending(pending(), ScrubBatch(10, [made]), [])
    assert after == pending(upto=10, referring=["made"])
    after = advance_pending(after, ScrubBatch(20, [made, late]), [])
    assert after == pending(upto=20, referring=["made", "late"], again=True)


def test_the_first_kept_key_is_remembered() -> None:
    after = advance_pending(pending(), ScrubBatch(10, []), [8, 9])
    assert advance_pending(after, ScrubBatch(20, []), [12]) == pending(upto=20, kept_from=8)


def test_a_state_survives_being_stored() -> None:
    state = pending(upto=3, referring=["a"], kept_from=2, again=True)
    stored = msgspec.json.encode(state)
    assert msgspec.json.decode(stored, type=PendingErasure) == state
    assert msgspec.json.decode(stored)["assignments"] == ["a"], "as older releases stored it"


# ---- passing over


def incoming(key: str, *more: Any) -> IncomingRow:
    return IncomingRow(row=(key, *more), present=1, hash=b"")


def test_a_page_loses_whatever_is_about_erased_objects() -> None:
    erased = ErasedObjects(MINE, frozenset([MINE.digest(ANN)]))
    page = Page(
        count=3,
        rows={ANN: incoming(ANN), BOB: incoming(BOB)},
        removed={ANN: DeletedReason.SOFT_DELETED, BOB: DeletedReason.SOFT_DELETED},
        edges={
            "group_members": PageEdges(
                {(TEAM, ANN): "user", (ANN, BOB): "user", (TEAM, BOB): "user"},
                {(TEAM, ANN): DeletedReason.NOT_SEEN},
            )
        },
        rejects=[
            RejectedObject(ANN, "odd"),
            RejectedObject(None, "odd"),
            RejectedObject(BOB, "odd"),
        ],
        conflicts={ANN, BOB},
    )
    drop_erased(page, RESOURCES["users"], erased)
    assert page.count == 3, "what is passed over counts as read"
    assert set(page.rows) == set(page.removed) == page.conflicts == {BOB}
    assert page.edges == {"group_members": PageEdges({(TEAM, BOB): "user"})}
    assert [one.key for one in page.rejects] == [None, BOB]


def test_role_assignments_go_by_their_principal() -> None:
    erased = ErasedObjects(MINE, frozenset([MINE.digest(ANN)]))
    rows = {"a": incoming("a", ANN, TEAM), "b": incoming("b", BOB, TEAM), "c": incoming("c", None)}
    page = Page(rows=rows)
    drop_erased(page, RESOURCES["role_assignments"], erased)
    assert page.rows.keys() == {"b", "c"}


def test_without_erasures_a_page_stays_as_it_is() -> None:
    page = Page(
        rows={ANN: incoming(ANN)}, edges={"group_members": PageEdges({(TEAM, ANN): "user"})}
    )
    drop_erased(page, RESOURCES["groups"], ErasedObjects())
    found = page.get_edges("group_members").found
    assert (set(page.rows), found) == ({ANN}, {(TEAM, ANN): "user"})
    assert without_erased(found, ErasedObjects()) == found


# ---- bookkeeping


def test_evidence_loses_a_key_with_its_bits() -> None:
    gone = {ANN}
    assert remove_keys(["x", ANN, "y"], [1, 2, 3], gone) == (["x", "y"], [1, 3])
    assert remove_keys([f"{TEAM}/{ANN}", f"{ANN}/z", "g/m"], None, gone) == (["g/m"], None)


def test_a_walk_through_members_goes_on_behind_a_group_that_is_gone() -> None:
    place = MemberCursor(after=TEAM, under_way={TEAM: "https://a", BOB: "https://b"})
    assert parse_member_cursor(remove_parent(place.link, TEAM)) == MemberCursor(
        BOB, {BOB: "https://b"}
    )
    assert remove_parent(place.link, ANN) == place.link
    assert remove_parent("https://graph/next", TEAM) == "https://graph/next"


def test_names_are_what_somebody_is_called_by() -> None:
    person = {
        "id": ANN,
        "user_principal_name": "ann@contoso.example",
        "mail": None,
        "display_name": "Ann",
        "proxy_addresses": ["SMTP:ann.lee@contoso.example", "x500:/o=Contoso"],
        "department": "Sales",
    }
    assert extract_names(person) >= {"ann@contoso.example", "ann.lee@contoso.example"}
    assert not extract_names(person) & {"Ann", "Sales", ANN}
    assert extract_names({"display_name": "users"}) == set(), "our own words are no names"


def test_names_go_out_of_sentences_and_of_json() -> None:
    names = {"ann@contoso.example", "Ann Lee"}
    assert redact_names("for Ann Lee: ANN@contoso.example", names) == "for erased: erased"
    assert redact_names("joann@contoso.example, Ann Leeds", names) == (
        "joann@contoso.example, Ann Leeds"
    )
    told = {"users": {"problem": "Ann Lee?", "rows": 3}, "list": ["ann lee", None]}
    assert redact_names(told, names) == {
        "users": {"problem": "erased?", "rows": 3},
        "list": ["erased", None],
    }
    assert redact_names("Ann Lee", set()) == "Ann Lee"
    assert redact_names("a.b (c)", {"a.b (c)"}) == "erased"


def test_ids_are_read_in_any_spelling() -> None:
    assert parse_object_id(f" {ANN.upper()} ") == ANN
    assert parse_object_id(f"contoso.example,{BOB},{ANN}") == ANN
    assert parse_object_id("ann@contoso.example") is None
    assert build_personal_site_path("Ann.Lee@contoso.example") == "ann_lee_contoso_example"


# ---- no column is forgotten

KEYS = {
    "sync.seen": {"keys": "evidence: taken out with its bits"},
    "sync.removals": {"key": "deleted with the row"},
    "sync.candidates": {"key": "deleted with the row"},
    "sync.quarantine": {"key": "deleted with the row"},
    "sync.unresolved": {"key": "deleted with the row"},
    "events.positions": {"snapshot": "steps back to the key before"},
    "events.change_events": {
        "object_id": "becomes a digest",
        "changed": "nulled",
        "before": "nulled",
        "after": "nulled",
    },
    "sync.erasures": {"digest": "what is kept", "pending": "nulled at the end"},
}
"""Columns that hold ids or objects, and what an erasure does with them."""

WORD = "one of our own words"
ADDRESS = "how the customer is connected, not whom the directory holds"
OPERATOR = "of an operator and a connection: counts and digests, no object of a directory"
OPAQUE = "Microsoft's, while a walk is under way; see docs/erasure.md"
SAFE = {
    "sync.connections": {
        **dict.fromkeys(
            (
                "nango_connection_id",
                "provider_config_key",
                "provider",
                "tenant_id",
                "display_name",
                "domains",
                "settings",
            ),
            ADDRESS,
        ),
        **dict.fromkeys(("status", "requested_resources"), WORD),
        "operator_paused_by": OPERATOR,
    },
    "sync.streams": {
        **dict.fromkeys(
            ("resource", "phase", "mode", "refused_phase", "left_out", "dropped", "nesting"), WORD
        ),
        "nesting_mark": "numbers of a walk and a page",
        **dict.fromkeys(
            ("asked_columns", "walked_columns", "covered_since", "to_clear"), "names of columns"
        ),
        **dict.fromkeys(("next_link", "delta_link", "loop_mark"), OPAQUE),
        "parts": "role definitions",
        **dict.fromkeys(("select_hash", "body_digest"), "a digest of many things"),
    },
    "sync.runs": dict.fromkeys(("trigger", "state"), WORD),
    "sync.leases": {"holder": "a host and a process of ours"},
    "sync.workers": {
        **dict.fromkeys(("name", "processes"), "hosts and processes of ours"),
        "queues": WORD,
    },
    "sync.seen": {"resource": WORD},
    "sync.removals": dict.fromkeys(("resource", "reason"), WORD),
    "sync.candidates": dict.fromkeys(("resource", "announced"), WORD),
    "sync.unresolved": {"resource": WORD, "kind": WORD},
    "sync.quarantine": {"resource": WORD, "properties": "names of properties, and our words"},
    "sync.erasures": {"resource": WORD},
    "sync.resources": dict.fromkeys(("name", "stream", "relation"), WORD),
    "sync.sink_secrets": {"secrets": "of a receiver: set by operators"},
    "sync.pseudonym_key": dict.fromkeys(("inner_pad", "outer_pad"), "a random key"),
    "sync.reader_connections": dict.fromkeys(("role_name",), OPERATOR),
    "sync.api_tokens": dict.fromkeys(("id", "name", "digest", "scopes", "created_by"), OPERATOR),
    "sync.page_sessions": dict.fromkeys(("digest", "name", "token_id", "token_digest"), OPERATOR),
    "sync.sign_in_links": dict.fromkeys(("digest", "token_id", "token_digest"), OPERATOR),
    "sync.audit": dict.fromkeys(
        ("actor", "via", "action", "subject", "parameters", "outcome", "detail", "request_id"),
        OPERATOR,
    ),
    "sync.operations": dict.fromkeys(
        (
            *("action", "state", "parameters", "actor", "via", "request_id", "idempotency_key"),
            *("request_digest", "holder", "error"),
        ),
        OPERATOR,
    ),
    "sync.operation_targets": dict.fromkeys(("state", "detail", "result"), OPERATOR),
    "sync.counters": dict.fromkeys(("name", "labels"), WORD),
    "sync.service_state": dict.fromkeys(("name", "value"), "of the service as a whole"),
    "history.subscribed_skus_samples": {"id": "products: no sampled resource is about people"},
    "analytics.product_names": dict.fromkeys(("sku_id", "name"), "Microsoft's products"),
    "analytics.privileged_roles": dict.fromkeys(
        ("template_id", "source", "role_name"), "roles of Microsoft's, and whose list has them"
    ),
    "analytics.privileged_actions": dict.fromkeys(
        ("action", "source", "meaning"), "what roles may allow, and whose list has it"
    ),
    "analytics.privileged_permissions": dict.fromkeys(
        ("permission", "source", "meaning"), "what applications may do, and whose list has it"
    ),
    "events.change_events": {
        **dict.fromkeys(("resource", "change"), WORD),
        "event_id": "made at random",
    },
    "events.epochs": {"id": "made at random", "reason": "a sentence of ours about the server"},
    "events.positions": {
        "reason": "a sentence of ours about an answer's status; no body is quoted",
        "refused_id": "an event's id: random, or a digest, and gone with the next delivery",
    },
    "events.sinks": dict.fromkeys(
        (
            *("name", "kind", "status", "status_reason", "settings"),
            *("resources", "changes", "holder", "start"),
        ),
        "of a receiver: set by operators, or a sentence of ours about a delivery",
    ),
}
"""Columns that can tell of nobody, and why."""


def might_name(column: Column[Any]) -> bool:
    kind = column.type.item_type if isinstance(column.type, ARRAY) else column.type
    return isinstance(kind, Text | JSONB | Uuid | LargeBinary)


def classified(table: Table) -> Sequence[str]:
    swept = [name for place in TEXT_TABLES if place.table is table for name in place.columns]
    name = str(table)
    return [*swept, *KEYS.get(name, ()), *SAFE.get(name, ())]


def test_of_every_column_it_is_known_whether_it_may_name_somebody() -> None:
    """A new column that may is either emptied by an erasure, or it is said why it need not be."""
    forgotten, twice = [], []
    for table in metadata.sorted_tables:
        if table.schema == DIRECTORY:
            continue  # rows of the mirror are deleted whole
        known = classified(table)
        named = [column.name for column in table.columns if might_name(column)]
        forgotten += [f"{table}.{name}" for name in named if name not in known]
        twice += [f"{table}.{name}" for name in known if known.count(name) > 1]
    assert forgotten == []
    assert twice == []
