"""Checks the organization of a response, which proves the tenant that answered."""

import time
from typing import Final

import msgspec

from models.record import Guid
from worker.conditions.reasons import OTHER_TENANT, TENANT_UNKNOWN
from worker.core.errors import (
    ConnectionBroken,
    CursorExpired,
    MalformedResponse,
    ResourceRefused,
    RetryLater,
)
from worker.graph.errors import classify_graph_response
from worker.graph.json_scanner import split_object
from worker.graph.page_scanner import scan_page
from worker.graph.salvage import ValueFaults, salvage_value
from worker.nango.response import JSON_ERRORS, ApiResponse

ORGANIZATION_PERMISSION: Final = "Organization.Read.All"


class Organization(msgspec.Struct):
    """A tenant's organization in Graph."""

    id: Guid
    display_name: str | None = None

    @property
    def tenant_id(self) -> str:
        return self.id.lower()


def parse_organization(response: ApiResponse, expected_tenant: str | None) -> Organization:
    """Return the organization in a response.

    ``expected_tenant`` is the tenant that it must be, if one is known.

    Raises ConnectionBroken (another tenant, no access), RetryLater, MalformedResponse.
    """
    found = _decode_response(response)
    if expected_tenant is not None and found.tenant_id != expected_tenant:
        raise ConnectionBroken(
            f"{OTHER_TENANT} ({found.tenant_id}) than before "
            f"({expected_tenant}); no data was read. Delete it in Nango and connect it again"
        )
    return found


def _decode_response(response: ApiResponse) -> Organization:
    error = classify_graph_response(response, time.time(), ORGANIZATION_PERMISSION)
    if isinstance(error, ResourceRefused):
        raise ConnectionBroken(f"{TENANT_UNKNOWN}: {error.message}")
    if isinstance(error, RetryLater):
        error.status = 0  # this status is not about the other requests of the batch
    if isinstance(error, CursorExpired):
        raise MalformedResponse(f"Graph answers {response.status} for the organization", after=300)
    if error is not None:
        raise error
    try:
        listed = [_salvage_organization(text) for text in scan_page(response.body)[1]]
    except (MalformedResponse, KeyError, *JSON_ERRORS, ValueError):
        raise MalformedResponse("the organization cannot be read", after=300) from None
    if len(listed) != 1:
        raise MalformedResponse(
            f"Graph names {len(listed)} organizations instead of one", after=300
        )
    return listed[0]


def _salvage_organization(text: str) -> Organization:
    """Parse the organization, without a malformed name."""
    sent = split_object(text)
    identity = msgspec.json.decode(sent["id"].encode(), type=Guid)
    return Organization(
        identity, salvage_value(str | None, sent.get("displayName", "null"), ValueFaults())
    )
