"""Views without names: the declared ones again, with pseudonyms for ids. Pure.

Each view of schema ``analytics`` has one. It is read with its owner's rights, as it needs the key,
and selects from the view with names, which is read with the rights and walls of whoever asks
(``security_invoker``), whichever functions are between: these are bound to their tables when they
are made, so that readers need no USAGE on any schema but this one, and can call none themselves.

What is not known to be harmless is left out, so that a column that is added tells nothing until
somebody has looked at it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from migrations.views.findings import FINDING_KINDS
from migrations.views.view import SCHEMA, AnalyticsView, Column, render_comment
from models.base import ANALYTICS_PSEUDONYMOUS

_PLAIN_TYPES: Final = ("boolean", "smallint", "integer", "bigint", "double precision", "numeric")
_TIMES: Final = ("timestamp with time zone", "date")
ABOUT_NOBODY: Final[Mapping[str, str]] = {
    "connections": "the organizations of customers",
    "freshness": "what was read when",
    "licenses": "the products that an organization bought",
    "license_plans": "the services in these products",
    "license_summary": "how many of them are in use",
}
"""Views that are shown as they are, each with what it is about."""

_KEPT_IDS: Final = frozenset(
    {
        *("connection_id", "tenant_id", "sku_id", "app_id", "app_role_id", "role_definition_id"),
        *("service_plan_id", "role_template_id", "template_id", "app_owner_organization_id"),
    }
)
_KEPT_TEXTS: Final = frozenset(
    {
        *("organization", "user_type", "usage_location", "external_user_state", "creation_type"),
        *("home_domain", "invitation_state", "domain", "kind", "visibility", "member_type"),
        *("owner_type", "principal_type", "membership_type", "data_location_code"),
        *("membership_rule_processing_state", "preferred_data_location", "sku_part_number"),
        *("product_name", "licensed_through", "service_principal_type", "sign_in_audience"),
        *("permission", "password_policies", "resource", "change", "property", "phase", "state"),
        *("holder_type", "object_type", "code", "severity", "deleted_reason", "action"),
        "service_plan_name",
    }
)
"""Texts out of closed vocabularies, and domains."""


@dataclass(frozen=True)
class PseudonymousColumn:
    """A column of a view without names."""

    name: str
    sql: str
    meaning: str


def render_pseudonym(value: str) -> str:
    """Return SQL for the pseudonym of a value: HMAC-SHA256 with the connection, 16 bytes in hex.

    The pads are the key's, so that the built-in hash serves: a function that could be called would
    tell whoever knows an id its pseudonym.
    """
    message = f"convert_to(v.connection_id || ':' || {value}, 'UTF8')"
    return (
        f"encode(substring(sha256(k.outer_pad || sha256(k.inner_pad || {message})) for 16), 'hex')"
    )


_BUILT_IN: Final = "case when v.is_built_in then v.{} end"
_CUSTOM: Final = "; null where it is not built in"
_GUID: Final = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_SCOPED_ID: Final = "substring(v.directory_scope_id from '[^/]+$')"
_SCOPE: Final = (
    "case when v.directory_scope_id = '/' then '/'"
    f" when v.directory_scope_id ~ '^/(administrativeUnits/)?{_GUID}$'"
    f" then substring(v.directory_scope_id from '^.*/') || {render_pseudonym(_SCOPED_ID)}"
    f" else {render_pseudonym('v.directory_scope_id')} end"
)
_SCOPE_ABOUT: Final = "; with the pseudonym of the unit, group or application"
_FOUND_ID: Final = (
    "case when v.object_type in ('license', 'organization') then v.object_id"
    f" else {render_pseudonym('v.object_id')} end"
)
_KINDS: Final = " ".join(
    f"when '{one.code}' then {render_comment(one.meaning)}" for one in FINDING_KINDS
)
_AS: Final[Mapping[tuple[str, str], tuple[str, str]]] = {
    ("role_definitions", "id"): ("v.id", ""),
    ("role_definitions", "display_name"): (_BUILT_IN.format("display_name"), _CUSTOM),
    ("role_permissions", "role_name"): (_BUILT_IN.format("role_name"), _CUSTOM),
    ("role_assignments", "role_name"): (_BUILT_IN.format("role_name"), _CUSTOM),
    ("role_assignments", "directory_scope_id"): (_SCOPE, _SCOPE_ABOUT),
    ("effective_role_holders", "role_name"): (_BUILT_IN.format("role_name"), _CUSTOM),
    ("effective_role_holders", "directory_scope_id"): (_SCOPE, _SCOPE_ABOUT),
    ("findings", "object_id"): (_FOUND_ID, "; a pseudonym, but of a licence or the organization"),
    ("findings", "sentence"): (f"case v.code {_KINDS} end", ": of its kind, without names"),
}
"""Columns with a rule of their own, and what it adds to their meaning."""


def choose_columns(view: AnalyticsView, types: Mapping[str, str]) -> list[PseudonymousColumn]:
    """Return the columns of a view without names; ``types`` are those of its own columns."""
    found = (_choose(view, column, types[column.name]) for column in view.columns)
    return [one for one in found if one is not None]


def render_view(view: AnalyticsView, types: Mapping[str, str]) -> Iterator[str]:
    """Yield the statements that make a view without names.

    It has its owner's rights, for the key; the view below it has the rights, and the walls, of who
    reads it.
    """
    place = f"{ANALYTICS_PSEUDONYMOUS}.{view.name}"
    columns = choose_columns(view, types)
    chosen = ",\n       ".join(f"{one.sql} as {one.name}" for one in columns)
    yield (
        f"create view {place} with (security_barrier = true) as\nselect {chosen}\n"
        f"  from {SCHEMA}.{view.name} v cross join sync.pseudonym_key k"
    )
    yield f"comment on view {place} is {render_comment(f'{view.meaning}; without names')}"
    for one in columns:
        yield f"comment on column {place}.{one.name} is {render_comment(one.meaning)}"


def _choose(view: AnalyticsView, column: Column, kind: str) -> PseudonymousColumn | None:
    name, place = column.name, f"v.{column.name}"
    if (view.name, name) in _AS:
        sql, about = _AS[view.name, name]
        return PseudonymousColumn(name, sql, column.meaning + about)
    if view.name in ABOUT_NOBODY or name in _KEPT_IDS:
        return PseudonymousColumn(name, place, column.meaning)
    if name == "id" or name.endswith("_id"):
        return PseudonymousColumn(name, render_pseudonym(place), f"pseudonym: {column.meaning}")
    if kind in _TIMES:
        return _show_time(column)
    return _choose_value(column, kind)


def _choose_value(column: Column, kind: str) -> PseudonymousColumn | None:
    name, place = column.name, f"v.{column.name}"
    if name in {"mail", "address"} or name.endswith("user_principal_name"):
        sql = f"lower(substring({place} from '@([^@]+)$'))"
        return PseudonymousColumn(f"{name}_domain", sql, f"domain of {name}; null without one")
    if kind in _PLAIN_TYPES or (name in _KEPT_TEXTS and not column.personal):
        return PseudonymousColumn(name, place, column.meaning)
    return None


def _show_time(column: Column) -> PseudonymousColumn:
    """Show the day, or the month of what is about a person: exact times are as good as names."""
    unit = "month" if column.personal else "day"
    sql = f"date_trunc('{unit}', v.{column.name}::timestamptz at time zone 'UTC')::date"
    return PseudonymousColumn(column.name, sql, f"{column.meaning}; the {unit}, in UTC")
