"""Refusals of Graph and Nango, as exceptions that carry the response."""

from __future__ import annotations

import json
from collections.abc import Mapping


class GraphError(Exception):
    """A refusal by Graph; the response has Graph's error body."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        headers: Mapping[str, str] | None = None,
        inner_error: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.headers, self.inner_error = dict(headers or {}), dict(inner_error or {})


class NangoError(Exception):
    """A refusal by Nango; `extra` is added to code and message in the error object."""

    def __init__(self, status: int, code: str, message: str | None = None, **extra: object) -> None:
        super().__init__(message or code)
        self.status, self.code, self.message, self.extra = status, code, message, extra


def build_not_found(object_id: str) -> GraphError:
    return GraphError(
        404,
        "Request_ResourceNotFound",
        f"Resource '{object_id}' does not exist or one of its queried reference-property objects "
        "are not present.",
    )


def build_bad_request(message: str) -> GraphError:
    return GraphError(400, "Request_BadRequest", message)


def build_denied() -> GraphError:
    return GraphError(
        403,
        "Authorization_RequestDenied",
        "Insufficient privileges to complete the operation.",
    )


def build_scope_not_granted(permission: str) -> GraphError:
    """Return the refusal of the service for privileged identity management, a document within."""
    either = f"{permission},{permission.replace('.Read.', '.ReadWrite.')}"
    document = {
        "errorCode": "PermissionScopeNotGranted",
        "message": f"Authorization failed due to missing permission scope {either}.",
        "instanceAnnotations": [],
    }
    return GraphError(403, "UnknownError", json.dumps(document, separators=(",", ":")))


def build_not_licensed() -> GraphError:
    return GraphError(
        400,
        "AadPremiumLicenseRequired",
        "The tenant needs to have Microsoft Entra ID P2 or Microsoft Entra ID Governance license.",
    )


def build_not_premium() -> GraphError:
    """Return the refusal of sign-in activity in a tenant without a premium licence."""
    return GraphError(
        403,
        "Authentication_RequestFromNonPremiumTenantOrB2CTenant",
        "Neither tenant is B2C or tenant doesn't have premium license",
    )


def build_report_denied() -> GraphError:
    """Return the refusal of sign-in activity without the permission for reports."""
    return GraphError(
        403,
        "Authentication_MSGraphPermissionMissing",
        "The principal does not have required Microsoft Graph permission(s): AuditLog.Read.All to "
        "call this API.",
    )


def build_rejected_token() -> GraphError:
    return GraphError(
        401, "InvalidAuthenticationToken", "Access token has expired or is not yet valid."
    )


def build_unknown_property(name: str, type_name: str) -> GraphError:
    return GraphError(
        400,
        "BadRequest",
        "Parsing OData Select and Expand failed: Could not find a property named "
        f"'{name}' on type 'microsoft.graph.{type_name}'.",
    )


REFRESH_REASON = (
    "The external API returned an error when trying to refresh the access token. Please try again "
    "later."
)
REFRESH_FAILED = f"Failed to get connection credentials: '{REFRESH_REASON}'"
REFRESH_BACKOFF = "A recent refresh attempt failed. Backing off before retrying."
REFRESH_EXHAUSTED = (
    "Failed to get connection credentials: 'The refresh limit has been reached for this "
    "connection.'"
)


def build_sharepoint_throttled(status: int, headers: dict[str, str]) -> GraphError:
    """Return SharePoint's refusal, whose reason is nested."""
    if status == 503:
        return GraphError(503, "serviceNotAvailable", "The service is unavailable.", headers)
    inner = {"code": "throttledRequest", "innerError": {"code": "quota"}}
    return GraphError(
        status, "activityLimitReached", "The request has been throttled", headers, inner
    )
