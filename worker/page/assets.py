"""The files that pages load, by the digest of their content, so that browsers keep them.

Vendored files are listed in ``static/vendored.json`` with version, licence and SHA-256.
"""

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

from worker.core.errors import NotFound
from worker.page.page import Content, Visit

STATIC: Final = Path(__file__).parent / "static"
_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_CACHING: Final = "public, max-age=31536000, immutable"
_DIGEST_LENGTH: Final = 12


def get_asset(visit: Visit) -> Content:
    """Return a file; one of another release is not known."""
    name = visit.names["name"]
    if list_assets().get(name) != f"/assets/{visit.names['digest']}/{name}":
        raise NotFound("this file belongs to another release; load the page again")
    body, media_type = _load_asset(name)
    return Content(body, media_type, caching=_CACHING)


@cache
def list_assets() -> Mapping[str, str]:
    """Return the path of each file by its name."""
    return {
        path.name: f"/assets/{_digest_file(path)}/{path.name}"
        for path in sorted(STATIC.iterdir())
        if path.suffix in _TYPES
    }


@cache
def _load_asset(name: str) -> tuple[bytes, str]:
    path = STATIC / name
    return path.read_bytes(), _TYPES[path.suffix]


def _digest_file(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:_DIGEST_LENGTH]
