"""Build conditions of connections, and the texts to send to customers."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from msgspec.structs import replace

from worker.conditions.condition import Code, Condition, Severity
from worker.conditions.facts import ConnectionFacts

CLIENT_ID: Final = "YOUR-CLIENT-ID"
"""Stands for the id of the application that customers consent to, where no setting has it."""
CLIENT_ID_HINT: Final = (
    f"replace {CLIENT_ID} by the client id that the integration has in Nango, or set "
    "TENANT_MIRROR_CLIENT_IDS"
)
"""What to do with a text that has no client id."""

MAX_LISTED: Final = 5
"""Most names in a sentence; the rest is counted."""


def build_condition(
    facts: ConnectionFacts,
    code: Code,
    severity: Severity,
    sentence: str,
    remedy: str,
    *,
    since: datetime | None = None,
    resource: str | None = None,
    customer_text: str | None = None,
) -> Condition:
    """Return a condition of a connection."""
    return Condition(
        code=code,
        severity=severity,
        subject=facts.title,
        sentence=sentence,
        remedy=remedy,
        since=since,
        connection_id=facts.id,
        resource=resource,
        customer_text=customer_text,
    )


def insert_client_id(
    conditions: tuple[Condition, ...], integration: str, client_ids: Sequence[str]
) -> tuple[Condition, ...]:
    """Return the conditions with the client id of an integration in the texts to customers.

    ``client_ids`` are as the setting has them: ids, or ``integration=id``.
    """
    if not client_ids:
        return conditions
    return tuple(
        one
        if one.customer_text is None
        else replace(
            one, customer_text=fill_in_client_id(one.customer_text, integration, client_ids)
        )
        for one in conditions
    )


def fill_in_client_id(customer_text: str, integration: str, client_ids: Sequence[str]) -> str:
    """Return a text to a customer with the client id of an integration, if a setting has it."""
    client_id = find_client_id(integration, client_ids)
    return customer_text if client_id is None else customer_text.replace(CLIENT_ID, client_id)


def find_client_id(integration: str, client_ids: Sequence[str]) -> str | None:
    """Return the client id of an integration, else the one that is for all; None if none is."""
    found = None
    for one in client_ids:
        name, _, client_id = one.rpartition("=")
        if name.strip() == integration:
            return client_id
        if not name:
            found = client_id
    return found


def list_names(names: Sequence[str]) -> str:
    """Return "a", "a and b" or "a, b and c"; of many the first ones."""
    shown = list(names[:MAX_LISTED])
    if len(names) > MAX_LISTED:
        shown.append(f"{len(names) - MAX_LISTED} more")
    *others, last = shown
    return f"{', '.join(others)} and {last}" if others else last


def write_permission_text(facts: ConnectionFacts, permission: str, resource: str) -> str:
    """Return what to send to a customer whose tenant lacks a permission."""
    return write_permissions_text(facts, [permission], [resource])


def write_permissions_text(
    facts: ConnectionFacts, permissions: Sequence[str], resources: Sequence[str]
) -> str:
    """Return what to send to a customer whose tenant lacks permissions, which resources need."""
    what = list_names([one.replace("_", " ") for one in resources])
    noun = "permission" if len(permissions) == 1 else "permissions"
    return (
        f"We cannot read {what} of your Microsoft 365 tenant{_name_tenant(facts)}, because our "
        f"application lacks the {noun} {list_names(permissions)}. "
        f"Please let a Global Administrator open {_build_consent_link(facts)}, review the "
        "permissions and accept."
    )


def write_reconnect_text(facts: ConnectionFacts, permission: str | None = None) -> str:
    """Return what to send to a customer who must connect again."""
    needs = (
        f"our application lacks the permission {permission}"
        if permission
        else "our access can no longer be renewed, as a rule because the consent was withdrawn or "
        "has expired"
    )
    return (
        f"We can no longer read your Microsoft 365 tenant{_name_tenant(facts)}: {needs}. Please "
        f"let a Global Administrator open {_build_consent_link(facts)} and accept, or connect "
        "Microsoft 365 again in our product."
    )


def _name_tenant(facts: ConnectionFacts) -> str:
    return f" ({facts.name})" if facts.name else ""


def _build_consent_link(facts: ConnectionFacts) -> str:
    """Return the address where an administrator consents, without the client id."""
    tenant = facts.tenant_id or "organizations"
    return f"https://login.microsoftonline.com/{tenant}/adminconsent?client_id={CLIENT_ID}"
