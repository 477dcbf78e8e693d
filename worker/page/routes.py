"""The table of all pages and forms. The router and the authorisation are made from it."""

from collections.abc import Sequence
from functools import partial
from typing import Final

from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp
from starlette.types import Scope as AsgiScope

from models.api_token import Scope
from worker.page.assets import get_asset
from worker.page.audit import AuditPageQuery, show_audit
from worker.page.budget import count_silent, show_budget
from worker.page.bulk import BulkForm, BulkQuery, preview_bulk, submit_bulk
from worker.page.connection_routes import CONNECTION_PAGES
from worker.page.exports import export_audit, export_connections, export_runs
from worker.page.fleet import FleetQuery, count_attention, show_fleet
from worker.page.operations import (
    OperationListQuery,
    TargetListQuery,
    cancel_waiting,
    show_operation,
    show_operations,
)
from worker.page.page import PAGE_POLICY, NoForm, PageExemption, PageRoute
from worker.page.permissions import PermissionsQuery, count_lacking_customers, show_permissions
from worker.page.refusals import render_bare_refusal
from worker.page.respond import answer_page
from worker.page.run import show_run
from worker.page.runs import FleetRunsQuery, show_runs
from worker.page.search import SearchQuery, search
from worker.page.session import SessionKeeper
from worker.page.sign_in import (
    LinkQuery,
    SignInForm,
    SignInQuery,
    show_sign_in,
    sign_in,
    sign_in_by_link,
    sign_out,
)
from worker.page.sinks import SinksQuery, count_failing_sinks, show_sinks
from worker.page.site import PageContext
from worker.web.app import answer_with_problem, build_app
from worker.web.context import WebContext
from worker.web.gate import get_record
from worker.web.problem import RequestRefused
from worker.web.respond import RawRequest
from worker.web.route import build_route

PAGES: Final = (
    PageRoute(
        "GET",
        "/",
        Scope.READ,
        show_fleet,
        FleetQuery,
        navigation="Fleet",
        count=count_attention,
    ),
    PageRoute(
        "GET",
        "/permissions",
        Scope.READ,
        show_permissions,
        PermissionsQuery,
        navigation="Permissions",
        count=count_lacking_customers,
    ),
    PageRoute("GET", "/connections.csv", Scope.READ, export_connections, FleetQuery),
    PageRoute("GET", "/runs.csv", Scope.READ, export_runs, FleetRunsQuery),
    PageRoute("GET", "/audit.csv", Scope.READ, export_audit, AuditPageQuery),
    PageRoute("GET", "/runs", Scope.READ, show_runs, FleetRunsQuery, navigation="Runs"),
    PageRoute("GET", "/runs/{run_id}", Scope.READ, show_run),
    PageRoute(
        "GET",
        "/sinks",
        Scope.READ,
        show_sinks,
        SinksQuery,
        navigation="Sinks",
        count=count_failing_sinks,
    ),
    PageRoute("GET", "/budget", Scope.READ, show_budget, navigation="Budget", count=count_silent),
    PageRoute("GET", "/audit", Scope.READ, show_audit, AuditPageQuery, navigation="Audit"),
    *CONNECTION_PAGES,
    PageRoute("GET", "/search", Scope.READ, search, SearchQuery),
    PageRoute("GET", "/bulk", Scope.OPERATE, preview_bulk, BulkQuery),
    PageRoute("POST", "/bulk", Scope.OPERATE, submit_bulk, form=BulkForm),
    PageRoute(
        "GET",
        "/operations",
        Scope.READ,
        show_operations,
        OperationListQuery,
        navigation="Operations",
    ),
    PageRoute("GET", "/operations/{operation_id}", Scope.READ, show_operation, TargetListQuery),
    PageRoute(
        "POST", "/operations/{operation_id}/cancel", Scope.OPERATE, cancel_waiting, form=NoForm
    ),
    PageRoute("GET", "/sign-in", PageExemption.OPEN, show_sign_in, SignInQuery),
    PageRoute("POST", "/sign-in", PageExemption.OPEN, sign_in, form=SignInForm),
    PageRoute("GET", "/sign-in/link", PageExemption.OPEN, sign_in_by_link, LinkQuery),
    PageRoute("POST", "/sign-out", PageExemption.OPEN, sign_out, form=NoForm),
    PageRoute("GET", "/assets/{digest}/{name}", PageExemption.OPEN, get_asset, runs_inline=True),
)

_DATA_PATHS: Final = ("/api/", "/health/", "/metrics")
"""Paths below which programs ask, not people."""


def build_site(context: WebContext, pages: Sequence[PageRoute] = PAGES) -> ASGIApp:
    """Return the application that serves the API and the page."""
    navigation = tuple(one for one in pages if one.navigation is not None)
    site = PageContext(context, SessionKeeper(context.database, context.verifier), navigation)
    routes = [_build_route(site, one) for one in pages]
    return build_app(context, routes, _answer_refusal)


def _build_route(site: PageContext, page: PageRoute) -> Route:
    return build_route(
        page.method,
        page.path,
        page.name,
        partial(answer_page, site, page),
        threads=None if page.runs_inline else site.web.threads,
        has_body=page.form is not None,
        is_quiet=page.runs_inline,
        policy=PAGE_POLICY,
    )


def _answer_refusal(scope: AsgiScope, refusal: RequestRefused) -> Response:
    """Answer a browser in words, and a program with a problem."""
    headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
    is_page = "text/html" in headers.get("accept", "") and not scope["path"].startswith(_DATA_PATHS)
    if not is_page:
        return answer_with_problem(scope, refusal)
    record = get_record(scope)
    record.policy = PAGE_POLICY
    raw = RawRequest(
        record.request_id, record.client, scope["path"], {}, scope["query_string"], b"", headers
    )
    if refusal.code == "not-found":
        refusal = RequestRefused(404, "not-found", "there is no such page")
    return render_bare_refusal(refusal, raw)
