"""One Graph call: the tenant, the path, the query, and the view that it asks for."""

from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from urllib.parse import unquote_plus

from sandbox.tenant.directory import Directory
from sandbox.tenant.errors import GraphError, bad_request, denied
from sandbox.tenant.fields import MEMBERS, Fields, unknown_property
from sandbox.tenant.shelf import View
from sandbox.tenant.tokens import Cursor, Mode
from sandbox.tenant.wire import encode

HOST = "https://graph.microsoft.com"
ROOT = f"{HOST}/v1.0/"
TOKENS = ("$skiptoken", "$deltatoken")
MAX_TOP = 999
LATEST = "latest"


@dataclass(slots=True)
class Query:
    """A query string: its parameters, or the link that it is a page of.

    A link must come back byte for byte: `token` is set only if its name was not re-encoded, and
    `before` is all that stands in front of it.
    """

    raw: str
    params: dict[str, str]
    token: str | None = None
    before: str = ""

    @classmethod
    def parse(cls, raw: str) -> "Query":
        pairs = [part.partition("=") for part in raw.split("&") if part]
        params = {unquote_plus(name): unquote_plus(value) for name, _, value in pairs}
        query = cls(raw, params)
        for name in TOKENS:
            if params.get(name, LATEST) in (LATEST, ""):
                continue
            before, found, token = raw.rpartition(f"{name}=")
            if not found or "&" in token:
                raise bad_request("The link was changed; send it as it was given.")
            query.token, query.before = token, before + found
        return query

    def allow(self, *names: str) -> None:
        """Refuse parameters that this call does not know."""
        if self.token is not None:
            return
        for name in self.params:
            if name not in names:
                raise GraphError(
                    400, "Request_UnsupportedQuery", f"The query option '{name}' is not supported."
                )


@dataclass(slots=True)
class Call:
    """What a handler works with; `path` is relative to the version, without a slash in front."""

    tenant: Directory
    path: str
    query: Query
    refused: frozenset[str] = frozenset()
    shape: str = ""
    """The path with `{id}` for ids."""

    def require(self, *resources: str) -> None:
        for resource in resources:
            if resource in self.refused or resource in self.tenant.knobs.refused:
                raise denied()

    # -- what is asked for ----------------------------------------------------------------------

    def mask(self, fields: Fields) -> int:
        mask = fields.mask(self.query.params.get("$select"))
        self.refuse_unknown(fields, mask)
        return mask

    def refuse_unknown(self, fields: Fields, mask: int) -> None:
        """400 where a selected property is one that this tenant's Graph does not know."""
        knobs = self.tenant.knobs
        for name in fields.selected(mask):
            if f"{fields.resource}.{name}" not in knobs.unknown_properties:
                continue
            if knobs.names_unknown:
                raise unknown_property(name, fields.type_name)
            raise GraphError(400, "BadRequest", "Parsing OData Select and Expand failed.")

    def top(self, default: int) -> int:
        text = self.query.params.get("$top")
        if text is None:
            return default
        if not text.isdigit() or not 1 <= int(text) <= MAX_TOP:
            raise bad_request(
                f"Invalid page size specified: '{text}'. Must be between 1 and {MAX_TOP} inclusive."
            )
        knobs, top = self.tenant.knobs, int(text)
        if knobs.refused_page and top > knobs.refused_page:
            raise bad_request(
                f"Invalid page size specified: '{text}'. "
                f"Must be between 1 and {knobs.refused_page} inclusive."
            )
        return min(top, knobs.largest_page)

    def serve(self, size: int, most: int) -> None:
        """504 where a page of `size` is larger than the service has time for; 0: none is."""
        if most and size > most:
            raise GraphError(504, "UnknownError", "")

    def cursor(self, link: str) -> Cursor | None:
        """The cursor in the link's token, None on a first call."""
        token = self.query.token
        if token is None:
            return None
        return self.tenant.tokens.read(token, f"{link}?{self.query.before}")

    def outlived(self, life: float) -> bool:
        """Whether the call's token was written longer ago than tokens live; 0: they live on."""
        written = self.tenant.issued.get(self.query.token or "")
        return life > 0 and written is not None and monotonic() - written > life

    def list_cursor(self, link: str, fields: Fields, default: int) -> Cursor:
        cursor = self.cursor(link)
        if cursor is None:
            mask, top = self.mask(fields), self.top(default)
            return Cursor(Mode.LIST, self.tenant.page_epoch, mask, top=top)
        self.refuse_unknown(fields, cursor.mask)
        if cursor.mode is not Mode.LIST:
            raise bad_request("The page token is not one of a list.")
        expired = self.outlived(self.tenant.knobs.page_token_life)
        if expired or cursor.epoch != self.tenant.page_epoch:
            raise GraphError(
                400,
                "Directory_ExpiredPageToken",
                "The specified page token value has expired and can no longer be included in your "
                "request.",
            )
        return cursor

    # -- what is answered -----------------------------------------------------------------------

    def link(self, path: str, cursor: Cursor, name: str = "$skiptoken", keep: str = "") -> str:
        """An absolute link; `keep` is the query that a list's links repeat."""
        before = f"{keep}&{name}=" if keep else f"{name}="
        token = self.tenant.tokens.write(cursor, f"{path}?{before}")
        if self.tenant.knobs.page_token_life or self.tenant.knobs.delta_token_life:
            self.tenant.issued.setdefault(token, monotonic())
        return f"{ROOT}{path}?{before}{token}"

    def first_query(self) -> str:
        """The query of the walk's first call, which later links of a list repeat."""
        if self.query.token is None:
            return self.query.raw
        return self.query.before.removesuffix("$skiptoken=").removesuffix("&")


def list_view(fields: Fields, mask: int) -> View:
    """Plain lists show unset properties as null; SharePoint leaves them out."""
    names = fields.selected(mask) if mask else fields.default or fields.names
    return View(tuple(n for n in names if n != MEMBERS), fields.resource != "sites")


def delta_view(fields: Fields, mask: int) -> View:
    """Delta pages leave out what was never set, and always have the id."""
    names = fields.selected(mask) if mask else fields.default or fields.names
    return View(("id", *(n for n in names if n not in ("id", MEMBERS))), nulls=False)


def page(context: str, texts: Sequence[bytes], **links: str) -> bytes:
    """A page's body; `links` are annotations such as `nextLink`."""
    content = {"@odata.context": f"{ROOT}$metadata#{context}"}
    content |= {f"@odata.{name}": link for name, link in links.items()}
    head = encode(content)[:-1] + b',"value":['
    if not texts:
        return head + b"]}"
    # A page may have a megabyte, which one join copies only once.
    pieces = list(texts)
    pieces[0] = head + pieces[0]
    pieces[-1] += b"]}"
    return b",".join(pieces)


def entity(context: str, text: bytes) -> bytes:
    """A single object's body."""
    head = encode({"@odata.context": f"{ROOT}$metadata#{context}/$entity"})
    return head[:-1] + (b"," + text[1:] if len(text) > 2 else b"}")
