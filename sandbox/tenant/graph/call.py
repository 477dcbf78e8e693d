"""One Graph call: the tenant, the path, the query, and the requested projection."""

from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from urllib.parse import unquote_plus

from sandbox.tenant.directory.fields import (
    PERMISSIONS,
    ROLE_ELIGIBILITIES,
    ROLE_INSTANCES,
    SIGN_INS,
    ResourceFields,
)
from sandbox.tenant.directory.object_store import Projection
from sandbox.tenant.directory.state import Directory
from sandbox.tenant.directory.tokens import TokenCursor, TokenMode
from sandbox.tenant.errors import (
    GraphError,
    build_bad_request,
    build_denied,
    build_not_licensed,
    build_not_premium,
    build_report_denied,
    build_scope_not_granted,
    build_unknown_property,
)
from sandbox.tenant.http import encode

GRAPH_HOST = "https://graph.microsoft.com"
GRAPH_ROOT = f"{GRAPH_HOST}/v1.0/"
TOKENS = ("$skiptoken", "$deltatoken")
MAX_TOP = 999
LATEST = "latest"
_NEED_P2 = frozenset({ROLE_ELIGIBILITIES.resource, ROLE_INSTANCES.resource})


@dataclass(slots=True)
class GraphQuery:
    """A query string: its parameters, or the token of a link.

    A link must come back byte for byte: `token` is set only if its name was not re-encoded, and
    `before` is everything before it.
    """

    raw: str
    params: dict[str, str]
    token: str | None = None
    prefix: str = ""

    @classmethod
    def parse(cls, raw: str) -> "GraphQuery":
        pairs = [part.partition("=") for part in raw.split("&") if part]
        params = {unquote_plus(name): unquote_plus(value) for name, _, value in pairs}
        query = cls(raw, params)
        for name in TOKENS:
            if params.get(name, LATEST) in (LATEST, ""):
                continue
            before, found, token = raw.rpartition(f"{name}=")
            if not found or "&" in token:
                raise build_bad_request("The link was changed; send it as it was given.")
            query.token, query.prefix = token, before + found
        return query

    def check_parameters(self, *names: str) -> None:
        """Raise GraphError for unknown parameters of this call."""
        if self.token is not None:
            return
        for name in self.params:
            if name not in names:
                raise GraphError(
                    400, "Request_UnsupportedQuery", f"The query option '{name}' is not supported."
                )


@dataclass(slots=True)
class GraphCall:
    """The input of a handler; `path` is relative to the version, without a leading slash."""

    tenant: Directory
    path: str
    query: GraphQuery
    refused_resources: frozenset[str] = frozenset()
    path_template: str = ""
    """The path with `{id}` for ids."""

    def check_permission(self, *resources: str) -> None:
        """Raise GraphError if the tenant does not permit, or has no licence for, a resource."""
        options = self.tenant.options
        for resource in resources:
            if resource in self.refused_resources or resource in options.refused_resources:
                raise build_report_denied() if resource == SIGN_INS else build_denied()
            if resource in options.ungranted_resources:
                raise build_scope_not_granted(PERMISSIONS[resource])
            if resource in options.unlicensed_resources or self._lacks_licence(resource):
                raise build_not_premium() if resource == SIGN_INS else build_not_licensed()

    def _lacks_licence(self, resource: str) -> bool:
        licences = self.tenant.options.licences
        if resource == SIGN_INS:
            return not licences
        return resource in _NEED_P2 and "p2" not in licences

    # -- requests -------------------------------------------------------------------------------

    def parse_select(self, fields: ResourceFields) -> int:
        mask = fields.parse_select(self.query.params.get("$select"))
        self.check_properties(fields, mask)
        return mask

    def check_properties(self, fields: ResourceFields, mask: int) -> None:
        """Raise 400 if this tenant's Graph does not know a selected property."""
        knobs = self.tenant.options
        for name in fields.select_names(mask):
            if f"{fields.resource}.{name}" not in knobs.unknown_properties:
                continue
            if knobs.names_unknown_property:
                raise build_unknown_property(name, fields.type_name)
            raise GraphError(400, "BadRequest", "Parsing OData Select and Expand failed.")

    def parse_top(self, default: int) -> int:
        text = self.query.params.get("$top")
        if text is None:
            return default
        if not text.isdigit() or not 1 <= int(text) <= MAX_TOP:
            raise build_bad_request(
                f"Invalid page size specified: '{text}'. Must be between 1 and {MAX_TOP} inclusive."
            )
        knobs, top = self.tenant.options, int(text)
        if knobs.refuse_top_above and top > knobs.refuse_top_above:
            raise build_bad_request(
                f"Invalid page size specified: '{text}'. "
                f"Must be between 1 and {knobs.refuse_top_above} inclusive."
            )
        return min(top, knobs.max_page_size)

    def check_page_size(self, size: int, most: int) -> None:
        """Raise 504 if a page of `size` is larger than `most`; 0 for no limit."""
        if most and size > most:
            raise GraphError(504, "UnknownError", "")

    def read_cursor(self, link: str) -> TokenCursor | None:
        """Return the cursor in the link's token; None on a first call."""
        token = self.query.token
        if token is None:
            return None
        return self.tenant.tokens.decode(token, f"{link}?{self.query.prefix}")

    def has_expired_token(self, life: float) -> bool:
        """Whether the call's token is older than `life` seconds; 0 for no expiry."""
        written = self.tenant.token_issue_times.get(self.query.token or "")
        return life > 0 and written is not None and monotonic() - written > life

    def read_list_cursor(self, link: str, fields: ResourceFields, default: int) -> TokenCursor:
        cursor = self.read_cursor(link)
        if cursor is None:
            mask, top = self.parse_select(fields), self.parse_top(default)
            return TokenCursor(TokenMode.LIST, self.tenant.page_epoch, mask, page_size=top)
        self.check_properties(fields, cursor.select_mask)
        if cursor.mode is not TokenMode.LIST:
            raise build_bad_request("The page token is not one of a list.")
        expired = self.has_expired_token(self.tenant.options.page_token_ttl)
        if expired or cursor.epoch != self.tenant.page_epoch:
            raise GraphError(
                400,
                "Directory_ExpiredPageToken",
                "The specified page token value has expired and can no longer be included in your "
                "request.",
            )
        return cursor

    # -- responses ------------------------------------------------------------------------------

    def build_link(
        self, path: str, cursor: TokenCursor, name: str = "$skiptoken", keep: str = ""
    ) -> str:
        """Return an absolute link; `keep` is the query that a list's links repeat."""
        before = f"{keep}&{name}=" if keep else f"{name}="
        token = self.tenant.tokens.encode(cursor, f"{path}?{before}")
        if self.tenant.options.page_token_ttl or self.tenant.options.delta_token_ttl:
            self.tenant.token_issue_times.setdefault(token, monotonic())
        return f"{GRAPH_ROOT}{path}?{before}{token}"

    def get_first_query(self) -> str:
        """Return the query of the walk's first call, which a list's later links repeat."""
        if self.query.token is None:
            return self.query.raw
        return self.query.prefix.removesuffix("$skiptoken=").removesuffix("&")


def build_list_projection(fields: ResourceFields, mask: int) -> Projection:
    """Return a list's projection: unset properties are null, but absent for SharePoint."""
    return Projection(fields.choose_names(mask), fields.shows_unset)


def build_delta_projection(fields: ResourceFields, mask: int) -> Projection:
    """Return a delta's projection: without properties never set, always with the id."""
    names = (name for name in fields.choose_names(mask) if name != "id")
    return Projection(("id", *names), with_nulls=False)


def render_page(context: str, texts: Sequence[bytes], **links: str) -> bytes:
    """Return a page's body; `links` are annotations such as `nextLink`."""
    content = {"@odata.context": f"{GRAPH_ROOT}$metadata#{context}"}
    content |= {f"@odata.{name}": link for name, link in links.items()}
    head = encode(content)[:-1] + b',"value":['
    if not texts:
        return head + b"]}"
    # A page may have a megabyte, which a single join copies only once.
    pieces = list(texts)
    pieces[0] = head + pieces[0]
    pieces[-1] += b"]}"
    return b",".join(pieces)


def render_object(context: str, text: bytes) -> bytes:
    """Return a single object's body."""
    head = encode({"@odata.context": f"{GRAPH_ROOT}$metadata#{context}/$entity"})
    return head[:-1] + (b"," + text[1:] if len(text) > 2 else b"}")
