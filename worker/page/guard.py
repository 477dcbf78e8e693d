"""Refuses forms that another site sends in the name of who is signed in. Pure."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from worker.web.problem import RequestRefused


def check_origin(headers: Mapping[str, str], *, is_encrypted: bool) -> None:
    """Raise RequestRefused for a form that was not sent by a page of ours.

    Browsers say where a request comes from in a header that no page can set; old ones at least name
    the origin.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        is_ours = site == "same-origin"
    else:
        scheme = "https" if is_encrypted else "http"
        is_ours = headers.get("origin", "").lower() == f"{scheme}://{headers['host'].lower()}"
    if not is_ours:
        raise RequestRefused(
            403,
            "cross-site",
            "this form was not sent by a page of this server; open the page again",
        )


def is_local_path(path: str) -> bool:
    """Whether a path leads to a page of ours, whatever a browser makes of it."""
    if not path.startswith("/") or path.startswith("//") or "\\" in path:
        return False
    if any(ord(one) < 0x21 or ord(one) == 0x7F for one in path):
        return False
    parts = urlsplit(path)
    return not parts.scheme and not parts.netloc
