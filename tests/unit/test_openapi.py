"""The OpenAPI document: valid, whole, and served as it lies in docs."""

import json
import re
from pathlib import Path

import openapi_spec_validator
import pytest

from models.api_token import Scope
from worker.web.endpoint import Endpoint, Exemption
from worker.web.openapi import build_document, render_document
from worker.web.operation_answers import OperationAnswer
from worker.web.routes import ENDPOINTS

PUBLISHED = Path(__file__).parents[2] / "docs" / "openapi.json"
MADE = build_document(ENDPOINTS)
ALL_ROUTES = pytest.mark.parametrize("route", ENDPOINTS, ids=lambda it: f"{it.method} {it.path}")


def test_the_document_is_openapi() -> None:
    openapi_spec_validator.validate(MADE)
    assert MADE["openapi"].startswith("3.1")


def test_the_document_in_docs_is_the_one_that_is_served() -> None:
    assert PUBLISHED.read_bytes() == render_document(ENDPOINTS), "run: make docs"
    assert json.loads(PUBLISHED.read_text()) == json.loads(json.dumps(MADE))


def test_no_two_routes_have_one_name_or_one_address() -> None:
    assert len({it.name for it in ENDPOINTS}) == len(ENDPOINTS)
    assert len({(it.method, it.path) for it in ENDPOINTS}) == len(ENDPOINTS)


@ALL_ROUTES
def test_a_route_is_described_with_its_scope_and_its_problems(route: Endpoint) -> None:
    described = MADE["paths"][route.path][route.method.lower()]
    security = described["security"]
    assert ({} in security) == isinstance(route.access, Exemption)
    if isinstance(route.access, Scope):
        assert security == [{"token": [route.access.value]}]
    statuses = described["responses"].keys()
    assert {str(route.status), "400", "405", "421", "500", "503"} <= statuses
    assert ("401" in statuses) == (route.access is not Exemption.OPEN)
    assert ("415" in statuses) == (route.body is not None)
    ids = [it["name"] for it in described.get("parameters", ()) if it["in"] == "path"]
    assert ids == re.findall(r"\{(\w+)\}", route.path)


@ALL_ROUTES
def test_only_actions_change_something(route: Endpoint) -> None:
    """A route that is not a GET needs the scope ``operate`` and answers with an operation."""
    if route.method != "GET":
        assert (route.method, route.access) == ("POST", Scope.OPERATE)
        assert route.returns is OperationAnswer


def test_every_schema_is_used() -> None:
    text = json.dumps(MADE)
    unused = [it for it in MADE["components"]["schemas"] if f'schemas/{it}"' not in text]
    assert unused == []


def test_everything_in_the_document_has_a_description() -> None:
    bare = [
        f"{name}.{field}"
        for name, schema in MADE["components"]["schemas"].items()
        for field, about in schema.get("properties", {}).items()
        if not about.get("description")
    ]
    bare += [
        f"{path} {it['name']}"
        for path, methods in MADE["paths"].items()
        for route in methods.values()
        for it in route.get("parameters", ())
        if not it.get("description")
    ]
    bare += [
        name for name, it in MADE["components"]["schemas"].items() if not it.get("description")
    ]
    assert bare == []


def test_every_time_in_the_document_says_its_format() -> None:
    for name, schema in MADE["components"]["schemas"].items():
        for field, about in schema.get("properties", {}).items():
            if field.endswith("_at") or field in ("since", "until", "as_of"):
                assert "date-time" in json.dumps(about), f"{name}.{field}"


def test_every_value_of_an_enumeration_is_explained() -> None:
    """Actions of the audit are the commands that do them, so their names say it."""
    for name, schema in MADE["components"]["schemas"].items():
        if name != "AuditAction":
            for value in schema.get("enum", ()):
                assert f"`{value}`: " in schema["description"], f"{name}.{value}"
