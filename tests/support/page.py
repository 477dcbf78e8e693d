"""Uses the page in this process, as a browser that is signed in would."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from models.api_token import Scope
from tests.support.web import WebApplication, WebClient, WebReply
from worker.page.session import COOKIE

SAME_SITE = {"sec-fetch-site": "same-origin"}
HTML = {"accept": "text/html"}
FORM = "application/x-www-form-urlencoded"


class PageClient:
    """Sends requests with the cookie of a session."""

    def __init__(self, client: WebClient, cookie: str | None = None) -> None:
        self._client = client
        self.cookie = cookie

    def get(
        self, path: str, *, headers: Mapping[str, str] | None = None, **options: Any
    ) -> WebReply:
        return self._client.get(path, headers=self._add_cookie(headers), **options)

    def refresh(self, path: str, tag: str | None = None, **options: Any) -> WebReply:
        """Ask for the live part, as htmx does every few seconds."""
        headers = {"hx-request": "true"} | ({"hx-ptag": tag} if tag else {})
        return self.get(path, headers=headers, **options)

    def post(
        self, path: str, fields: object = (), *, headers: Mapping[str, str] | None = None
    ) -> WebReply:
        """Send a form from a page of ours, unless ``headers`` say otherwise."""
        sent = SAME_SITE if headers is None else headers
        place, _, query = path.partition("?")
        return self._client.request(
            "POST",
            place,
            query=query,
            body=urlencode(fields, doseq=True).encode(),  # type: ignore[arg-type]
            headers={**HTML, "content-type": FORM, **self._add_cookie(sent)},
        )

    def sign_in(self, token: str, place: str = "/") -> WebReply:
        """Sign in with a token, and keep the cookie."""
        reply = self.post("/sign-in", {"token": token, "next": place})
        self.cookie = get_cookie(reply)
        return reply

    def _add_cookie(self, headers: Mapping[str, str] | None) -> dict[str, str]:
        cookie = {"cookie": f"{COOKIE}={self.cookie}"} if self.cookie else {}
        return {**HTML, **cookie, **(headers or {})}


def get_cookie(reply: WebReply) -> str | None:
    """The secret in the cookie that a reply sets."""
    _, _, rest = reply.headers.get("set-cookie", "").partition("=")
    return rest.partition(";")[0] or None


def sign_in(web: WebApplication, *scopes: Scope) -> PageClient:
    """A browser that is signed in with a new token of these scopes."""
    page = PageClient(web.client)
    token = web.make_token(*scopes)
    reply = page.sign_in(token)
    assert (reply.status, page.cookie is not None) == (303, True), reply.body
    return page
