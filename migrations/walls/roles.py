"""The roles that readers are granted, and the limits of their logins. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from models.base import ANALYTICS, ANALYTICS_PSEUDONYMOUS

CONNECTION_SETTING: Final = "tenant_mirror.connection_id"
"""The setting of a session that says whose rows an application means."""


class ReaderKind(StrEnum):
    """What kind of reader a login is, named as options name it."""

    READER = "reader"
    """The operator's own analysts: all customers."""
    APPLICATION = "application"
    """A program, which sees the customer that it names in a setting."""
    CUSTOMER = "customer"
    """A customer's login, which sees the connection that an operator lists for it."""

    PSEUDONYMOUS = "pseudonymous"
    """An analyst who must not know who people are: all customers, without names."""
    PSEUDONYMOUS_CUSTOMER = "pseudonymous_customer"
    """The same for a customer's login: the connection that is listed for it, without names."""

    @property
    def role(self) -> str:
        return f"tenant_mirror_{self.value}"

    @property
    def is_listed(self) -> bool:
        """Whether it sees the connection that is listed for the login."""
        return self in {ReaderKind.CUSTOMER, ReaderKind.PSEUDONYMOUS_CUSTOMER}

    @property
    def is_walled(self) -> bool:
        """Whether it sees one customer."""
        return self.is_listed or self is ReaderKind.APPLICATION

    @property
    def sees_names(self) -> bool:
        return self not in {ReaderKind.PSEUDONYMOUS, ReaderKind.PSEUDONYMOUS_CUSTOMER}

    @property
    def schema(self) -> str:
        """The schema whose views it reads."""
        return ANALYTICS if self.sees_names else ANALYTICS_PSEUDONYMOUS


ROLES: Final = tuple(kind.role for kind in ReaderKind)
WALLED: Final = tuple(kind for kind in ReaderKind if kind.is_walled)
NAMELESS: Final = tuple(kind.role for kind in ReaderKind if not kind.sees_names)
GUARDED: Final = tuple(kind.role for kind in ReaderKind if kind.is_walled or not kind.sees_names)
"""Roles that may have rights below the views only while there is row-level security: without it
they would see other customers, or names in the planner's statistics."""

ABOUT: Final[Mapping[ReaderKind, str]] = {
    ReaderKind.READER: "Tenant Mirror: reads schema analytics, all customers",
    ReaderKind.APPLICATION: "Tenant Mirror: reads schema analytics, the customer named in the"
    f" setting {CONNECTION_SETTING}",
    ReaderKind.CUSTOMER: "Tenant Mirror: reads schema analytics, the connection that"
    " sync.reader_connections has for the login",
    ReaderKind.PSEUDONYMOUS: f"Tenant Mirror: reads schema {ANALYTICS_PSEUDONYMOUS}, all customers",
    ReaderKind.PSEUDONYMOUS_CUSTOMER: f"Tenant Mirror: reads schema {ANALYTICS_PSEUDONYMOUS}, the"
    " connection that sync.reader_connections has for the login",
}


@dataclass(frozen=True)
class Limits:
    """What a login may take up. Settings of a role do not reach its members, only itself."""

    settings: Mapping[str, str]
    connections: int


_TIMES: Final = {
    "idle_in_transaction_session_timeout": "60s",
    "temp_file_limit": "2GB",
    "jit": "off",
}
"""Compiling a view of many tables takes longer than its answer: of all findings 20 s, beside 3."""
_APART: Final = {**_TIMES, "statement_timeout": "60s", "enable_seqscan": "off"}
"""Without scans of whole tables a plan reads the rows of one customer only, also where there are so
few customers that the planner would rather read all rows and leave others out."""

LIMITS: Final[Mapping[ReaderKind, Limits]] = {
    ReaderKind.READER: Limits({**_TIMES, "statement_timeout": "5min"}, connections=10),
    ReaderKind.APPLICATION: Limits(_APART, connections=20),
    ReaderKind.CUSTOMER: Limits(_APART, connections=5),
    ReaderKind.PSEUDONYMOUS: Limits({**_TIMES, "statement_timeout": "5min"}, connections=10),
    ReaderKind.PSEUDONYMOUS_CUSTOMER: Limits(_APART, connections=5),
}
FOR_SUPERUSERS: Final = frozenset({"temp_file_limit"})
"""Settings that only a superuser, or who was granted it, may set."""


def quote(name: str) -> str:
    """Return a name as an identifier of SQL."""
    return '"' + name.replace('"', '""') + '"'


def render_creation(kind: ReaderKind) -> str:
    """Return the statement that makes a role; it fails if there is one."""
    return (
        f"create role {kind.role} nologin nosuperuser nocreatedb nocreaterole noreplication"
        " nobypassrls"
    )


def render_limits(
    kind: ReaderKind, role: str, *, as_superuser: bool, with_connections: bool = True
) -> Iterator[str]:
    """Yield the statements that limit a role, with or without those for superusers."""
    limits = LIMITS[kind]
    for setting, value in limits.settings.items():
        if as_superuser or setting not in FOR_SUPERUSERS:
            yield f"alter role {quote(role)} set {setting} = '{value}'"
    if with_connections:
        yield f"alter role {quote(role)} connection limit {limits.connections}"
