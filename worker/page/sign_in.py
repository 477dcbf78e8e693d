"""Sign in with a token or a link, and sign out."""

from typing import Annotated, Final

import msgspec
from msgspec import Meta
from starlette.responses import Response

from models.api_token import Scope
from worker.page.guard import is_local_path
from worker.page.page import PageQuery, Redirect, View, Visit
from worker.page.refusals import bounce
from worker.page.session import build_cookie, build_expired_cookies, read_cookie

_MAX_PATH: Final = 4096
_MAX_TOKEN: Final = 200

Place = Annotated[str, Meta(max_length=_MAX_PATH)]


class SignInQuery(PageQuery, frozen=True, kw_only=True):
    """Where to go once signed in."""

    next: Place = "/"


class SignInForm(msgspec.Struct, frozen=True):
    """A token, and where to go with it."""

    token: Annotated[str, Meta(max_length=_MAX_TOKEN)] = ""
    next: Place = "/"


class LinkQuery(PageQuery, frozen=True, kw_only=True):
    """The code of a link."""

    code: Annotated[str, Meta(max_length=100)] = ""


def show_sign_in(visit: Visit) -> View:
    query: SignInQuery = visit.query
    return _show_form(query.next)


def sign_in(visit: Visit) -> View | Redirect:
    """Open a session for a token, counted with the API's wrong tokens if it is none."""
    form: SignInForm = visit.form
    presented = form.token.strip()
    verifier = visit.context.verifier
    principal = verifier.verify(presented)
    if principal is None:
        seconds = visit.context.failures.note_failure(visit.raw.client.address)
        if seconds is not None:
            return _show_form(
                form.next,
                f"There were too many wrong tokens from this address. Try again in {seconds} s.",
                status=429,
                headers={"Retry-After": str(seconds)},
            )
        return _show_form(
            form.next,
            "This token is unknown, has expired or was revoked. "
            "'tenant-mirror tokens list' shows which can be used.",
            status=401,
        )
    if Scope.READ not in principal.scopes:
        return _show_form(
            form.next, "This token lacks the scope 'read', which every page needs.", status=403
        )
    secret = visit.sessions.open(principal, verifier.build_key(presented))
    place = form.next if is_local_path(form.next) else "/"
    return Redirect(place, (_build_cookie(visit, secret),))


def sign_in_by_link(visit: Visit) -> View | Redirect | Response:
    """Open a session for a link, which can do so once."""
    query: LinkQuery = visit.query
    secret = visit.sessions.open_by_link(query.code) if query.code else None
    if secret is None:
        return _show_form(
            "/",
            "This link was used before, or is older than 15 minutes. Start 'make run' again for "
            "another one, or sign in with a token.",
            status=401,
        )
    cookie = _build_cookie(visit, secret)
    if visit.raw.headers.get("sec-fetch-site", "none") in ("none", "same-origin"):
        return Redirect("/", (cookie,))
    return bounce("/", visit.raw, (cookie,))


def sign_out(visit: Visit) -> Redirect:
    secret = read_cookie(visit.raw.headers)
    if secret is not None:
        visit.sessions.end(secret)
    return Redirect("/sign-in", build_expired_cookies())


def _show_form(
    place: str, problem: str = "", status: int = 200, headers: dict[str, str] | None = None
) -> View:
    values = {"place": place if is_local_path(place) else "/", "problem": problem}
    return View("sign_in.html", "Sign in", values, status, is_live=False, headers=headers or {})


def _build_cookie(visit: Visit, secret: str) -> str:
    raw = visit.raw
    return build_cookie(secret, raw.headers["host"], is_encrypted=raw.client.is_encrypted)
