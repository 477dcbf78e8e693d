"""What docs/events.md tells consumers is what they get."""

import base64
import json
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from standardwebhooks import Webhook, WebhookVerificationError

from models.event_type import EVENT_TYPES
from tests.support.event_validator import EventValidator
from worker.delivery.asyncapi import build_document
from worker.delivery.senders.signature import build_signature_headers, generate_secret, parse_secret
from worker.events.envelope import EnvelopeBuilder
from worker.events.event import Event

DOCS = Path(__file__).parents[2] / "docs"
DOCUMENT = (DOCS / "events.md").read_text(encoding="utf-8")
RESOURCES_PAGE = (DOCS / "reference" / "resources.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOCUMENT, re.DOTALL)


def test_the_types_are_told_whole() -> None:
    pages = RESOURCES_PAGE + DOCUMENT
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| `([\w.]+)` \|$", pages, re.MULTILINE)
    assert {(resource, change): name for resource, change, name in rows} == dict(EVENT_TYPES)
    assert len(rows) == len(EVENT_TYPES)


def test_the_envelope_that_is_shown_is_the_one_that_is_sent() -> None:
    (shown,) = map(json.loads, blocks("json"))
    data = shown["data"]
    made = EnvelopeBuilder(
        "tenantmirror", data["connection_id"], data["tenant_id"], shown["epoch"]
    ).build(
        Event(
            data["connection_id"],
            int(shown["sequence"]),
            datetime.fromisoformat(shown["time"]).astimezone(UTC),
            shown["id"],
            data["resource"],
            data["key"]["id"],
            "updated",
            data["changed"],
            json.dumps(data["before"]),
            json.dumps(data["after"]),
        )
    )
    assert json.loads(made) == shown


def is_genuine(secret: str, headers: dict[str, str], body: bytes) -> bool:
    """The check that is shown, run; the official package must be of the same opinion."""
    (code,) = blocks("python")
    names: dict[str, Any] = {}
    exec(compile(code, "docs/events.md", "exec"), names)  # noqa: S102 - our own document
    shown = names["is_genuine"](secret, headers, body)
    try:
        Webhook(secret).verify(body, headers, json_parse=False)
    except WebhookVerificationError:
        assert shown is False
    else:
        assert shown is True
    return bool(shown)


def test_the_check_that_is_shown_accepts_ours_and_nothing_else() -> None:
    secret, body, now = generate_secret(), '{"name": "ü"}'.encode(), int(time.time())
    headers = build_signature_headers(
        [parse_secret(generate_secret()), parse_secret(secret)], "a", now, body
    )
    assert is_genuine(secret, headers, body)
    assert not is_genuine(secret, headers, body + b" ")
    assert not is_genuine(secret, {**headers, "webhook-id": "b"}, body)
    assert not is_genuine(secret, {**headers, "webhook-timestamp": str(now - 1)}, body)
    assert not is_genuine("whsec_" + base64.b64encode(b"x" * 32).decode(), headers, body)
    late = build_signature_headers([parse_secret(secret)], "a", now - 400, body)
    assert not is_genuine(secret, late, body)


def test_the_check_that_is_shown_accepts_what_the_official_package_signs() -> None:
    secret, now = generate_secret(), datetime.now(UTC)
    signature = Webhook(secret).sign("a", now, '{"name": "ü"}')
    headers = {
        "webhook-id": "a",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": signature,
    }
    assert is_genuine(secret, headers, '{"name": "ü"}'.encode())


def test_the_schema_that_is_named_is_there() -> None:
    assert "[asyncapi.json](asyncapi.json)" in DOCUMENT
    assert (Path(__file__).parents[2] / "docs" / "asyncapi.json").exists()
    assert "tenant-mirror asyncapi" in DOCUMENT


def test_the_envelope_that_is_shown_fits_the_schema() -> None:
    (shown,) = map(json.loads, blocks("json"))
    judge = EventValidator(build_document("tenantmirror"))
    assert judge.find_problems(shown, "/components/schemas/user.updated") == []
