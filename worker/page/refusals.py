"""Answers to requests that are refused: a page in words with the status that the API has."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

from starlette.responses import Response

from worker.overview.fleet import Fleet
from worker.page.page import PageRoute, is_fragment
from worker.page.render import render
from worker.page.session import Session
from worker.page.site import PageContext, build_bare_frame, build_frame
from worker.web.problem import RequestRefused
from worker.web.respond import RawRequest

SIGN_IN_PATH = "/sign-in"
HTML = "text/html; charset=utf-8"


def redirect(path: str, cookies: tuple[str, ...] = ()) -> Response:
    response = Response(status_code=303, headers={"Location": path})
    for cookie in cookies:
        response.headers.append("set-cookie", cookie)
    return response


def ask_to_sign_in(route: PageRoute, raw: RawRequest) -> Response:
    """Lead to the form; a page that refreshes itself is loaded again, which leads there."""
    if is_fragment(raw):
        return Response(status_code=401, headers={"HX-Refresh": "true"})
    if route.method != "GET":
        refusal = RequestRefused(401, "signed-out", "you are not signed in any more; sign in again")
        return render_bare_refusal(refusal, raw)
    place = f"{raw.path}?{raw.query.decode('latin-1')}" if raw.query else raw.path
    # A browser that follows a link of another site sends no strict cookie. A page of ours that
    # asks for the same place once more makes it send the cookie.
    if raw.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return bounce(place, raw)
    return redirect(
        SIGN_IN_PATH if place == "/" else f"{SIGN_IN_PATH}?{urlencode({'next': place})}"
    )


def bounce(place: str, raw: RawRequest, cookies: tuple[str, ...] = ()) -> Response:
    """Answer with a page that loads another one."""
    values = {"place": quote(place, safe="/?&=%+-._~:@!$'()*,")}
    body = render("bounce.html", build_bare_frame("One moment", raw), values)
    response = Response(body, media_type=HTML)
    for cookie in cookies:
        response.headers.append("set-cookie", cookie)
    return response


def render_refusal(
    site: PageContext, raw: RawRequest, refusal: RequestRefused, session: Session | None
) -> Response:
    """Return the page of a refusal.

    Where the database cannot be read, it shows what was last known to who was signed in.
    """
    if session is None:
        return render_bare_refusal(refusal, raw)
    known = site.web.fleet.get_last_readable()
    frame = build_frame(site, raw, session, HTTPStatus(refusal.status).phrase, known)
    memory = _recall(known) if refusal.status == 503 and known is not None else None
    return _build_response(refusal, raw, render("refused.html", frame, _describe(refusal, memory)))


def render_bare_refusal(refusal: RequestRefused, raw: RawRequest) -> Response:
    """Return the page of a refusal for who is not signed in."""
    frame = build_bare_frame(HTTPStatus(refusal.status).phrase, raw)
    return _build_response(refusal, raw, render("refused.html", frame, _describe(refusal, None)))


def _build_response(refusal: RequestRefused, raw: RawRequest, body: bytes) -> Response:
    headers = {k: v for k, v in refusal.headers.items() if k != "WWW-Authenticate"}
    if is_fragment(raw):
        # The page that asks keeps what it shows, and says that it is old.
        return Response(status_code=refusal.status, headers=headers)
    return Response(body, status_code=refusal.status, headers=headers, media_type=HTML)


def _describe(refusal: RequestRefused, memory: Mapping[str, Any] | None) -> dict[str, Any]:
    return {
        "status": refusal.status,
        "detail": refusal.detail,
        "errors": refusal.errors,
        "memory": memory,
    }


def _recall(fleet: Fleet) -> dict[str, Any]:
    """Return what the last look at the fleet showed, which is kept in memory."""
    return {
        "as_of": fleet.now,
        "connections": len(fleet.in_use),
        "attention": fleet.attention_count,
        "conditions": fleet.conditions,
    }
