"""Answers a request to a page: who asks, what is asked, the handler, and a page in words."""

from urllib.parse import parse_qsl, urlsplit

from starlette.responses import Response

from models.api_token import Scope
from worker.core.errors import MirrorError
from worker.core.log import get_logger
from worker.page.format import Zone
from worker.page.guard import check_origin
from worker.page.page import (
    Content,
    PageExemption,
    PageRoute,
    Redirect,
    View,
    Visit,
    get_stale_seconds,
    get_usable_seconds,
    is_fragment,
)
from worker.page.refusals import HTML, ask_to_sign_in, redirect, render_refusal
from worker.page.render import compute_tag, render
from worker.page.session import Session, read_cookie
from worker.page.site import PageContext, build_bare_frame, build_frame
from worker.web.decode import decode_form, decode_query
from worker.web.problem import RequestRefused, refuse_error, refuse_internal
from worker.web.respond import Answered, RawRequest, parse_id

_SAFE_METHOD = "GET"
_TAG = "hx-ptag"


def answer_page(site: PageContext, route: PageRoute, raw: RawRequest) -> Answered:
    """Return the response to a request; errors become pages in words."""
    session = None
    try:
        if route.method != _SAFE_METHOD:
            check_origin(raw.headers, is_encrypted=raw.client.is_encrypted)
        if route.access is not PageExemption.OPEN:
            session = _find_session(site, raw)
            if session is None:
                return Answered(ask_to_sign_in(route, raw), None)
            _check_scope(route, session)
        answer = route.answer(_build_visit(site, route, raw, session))
        response = _build_response(site, route, raw, session, answer)
    except RequestRefused as refusal:
        response = render_refusal(site, raw, refusal, session)
    except MirrorError as error:
        get_logger().warning(
            "request refused", request_id=raw.request_id, route=route.path, reason=str(error)
        )
        response = render_refusal(site, raw, refuse_error(error), session)
    except Exception as error:  # noqa: BLE001 - it becomes a 500, and is in the log in full
        get_logger().error(
            "request failed", request_id=raw.request_id, route=route.path, exc_info=error
        )
        response = render_refusal(site, raw, refuse_internal(), session)
    return Answered(response, session.name if session else None)


def _find_session(site: PageContext, raw: RawRequest) -> Session | None:
    """Return who is signed in. Raises MirrorError if that cannot be known."""
    secret = read_cookie(raw.headers)
    try:
        return site.sessions.find(secret, get_usable_seconds(raw))
    except MirrorError:
        # What it may see is what is in memory; it can do nothing while the database is away.
        if (known := site.sessions.recall(secret)) is None:
            raise
        return known


def _check_scope(route: PageRoute, session: Session) -> None:
    if isinstance(route.access, Scope) and route.access not in session.scopes:
        raise RequestRefused(
            403,
            "scope-missing",
            f"this sign-in may not do that: its token lacks the scope '{route.access}'",
        )


def _build_visit(
    site: PageContext, route: PageRoute, raw: RawRequest, session: Session | None
) -> Visit:
    form = None
    if route.form is not None:
        form = decode_form(raw.body, raw.headers.get("content-type"), route.form)
    return Visit(
        context=site.web,
        sessions=site.sessions,
        session=session,
        raw=raw,
        method=route.method,
        names={name: text for name, text in raw.ids.items() if not name.endswith("_id")},
        ids={name: parse_id(text) for name, text in raw.ids.items() if name.endswith("_id")},
        query=decode_query(raw.query, route.query, drops_empty=True),
        form=form,
    )


def _build_response(
    site: PageContext,
    route: PageRoute,
    raw: RawRequest,
    session: Session | None,
    answer: View | Redirect | Content | Response,
) -> Response:
    if isinstance(answer, Response):
        return answer
    if isinstance(answer, Redirect):
        return redirect(_keep_zone(answer.path, raw), answer.cookies)
    if isinstance(answer, Content):
        headers = {"Cache-Control": answer.caching}
        if answer.file_name is not None:
            headers["Content-Disposition"] = f'attachment; filename="{answer.file_name}"'
        return Response(answer.body, media_type=answer.media_type, headers=headers)
    return _render_view(site, route, raw, session, answer)


def _keep_zone(path: str, raw: RawRequest) -> str:
    """Return the place that an answer leads to, with times as the page before showed them."""
    zone = build_bare_frame("", raw).zone
    has_own = "zone" in dict(parse_qsl(urlsplit(path).query))
    if zone is Zone.UTC or has_own:
        return path
    return f"{path}{'&' if '?' in path else '?'}zone={zone.value}"


def _render_view(
    site: PageContext, route: PageRoute, raw: RawRequest, session: Session | None, view: View
) -> Response:
    if session is None:
        frame = build_bare_frame(view.title, raw)
    else:
        site.web.fleet.get(get_usable_seconds(raw), get_stale_seconds(raw, route.method))
        frame = build_frame(site, raw, session, view.title, site.web.fleet.get_last_readable())
    headers = dict(view.headers)
    if view.is_live and session is not None and route.method == _SAFE_METHOD:
        scopes = sorted(session.scopes)
        tag = compute_tag(view.template, view.title, scopes, frame.counts, view.values)
        headers["HX-PTag"] = tag
        if is_fragment(raw) and raw.headers.get(_TAG) == tag:
            return Response(status_code=304, headers=headers)
        frame = frame.as_live(tag)
    body = render(view.template, frame, view.values)
    return Response(body, status_code=view.status, headers=headers, media_type=HTML)
