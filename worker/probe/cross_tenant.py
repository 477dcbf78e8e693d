"""Checks that Graph refuses one tenant's links to another tenant. Only such links are sent alone.

All other requests prove their tenant by the organization in the same ``$batch``.
"""

from collections.abc import Iterator

from worker.core.errors import MalformedResponse, MirrorError, ServerUnavailable
from worker.graph.links import is_tenant_bound, path_from_link
from worker.graph.urls import ORGANIZATION_PATH
from worker.nango.client import ConnectionRef, NangoClient
from worker.nango.response import ApiResponse
from worker.probe.answers import ProbeAnswers, ProbeCall
from worker.probe.findings import Finding, Verdict, pluralize
from worker.probe.requests import PERMISSION, OnCall, parse_organization_ids, parse_response

MAX_CROSS_TENANT_CALLS = 5
"""Calls through the other connection: its organization and up to four links."""

FINDING_NAME = "links are refused to another tenant"


def send_across_tenants(
    nango: NangoClient, other: ConnectionRef, answers: ProbeAnswers, on_call: OnCall
) -> None:
    """Send the links that the probe received through a connection of another tenant.

    Errors of Nango or Graph are recorded, not raised.
    """
    answers.other_organizations = []
    on_call(ProbeCall.OTHER_ORGANIZATION, 1)
    response = _send(nango, other, ORGANIZATION_PATH)
    if response is not None and parse_response(response, PERMISSION, None)[1] is None:
        answers.other_organizations = parse_organization_ids(response)
    if not answers.other_organizations or set(answers.other_organizations) & set(
        answers.organizations
    ):
        return
    for number, target in enumerate(list(_iter_bound_paths(answers))[: MAX_CROSS_TENANT_CALLS - 1]):
        on_call(ProbeCall.CROSS_TENANT_LINK, number + 2)
        response = _send(nango, other, target)
        answers.cross_tenant_statuses.append(response.status if response is not None else None)


def _iter_bound_paths(answers: ProbeAnswers) -> Iterator[str]:
    """Yield the links that a sync sends alone, one of each kind."""
    for answer in answers.requests:
        for link in (answer.page.next_link, answer.page.delta_link) if answer.page else ():
            try:
                target = path_from_link(link) if link is not None else ""
            except MalformedResponse:
                continue
            if is_tenant_bound(target):
                yield target


def _send(nango: NangoClient, other: ConnectionRef, target: str) -> ApiResponse | None:
    try:
        return nango.proxy(other, target, single_attempt=True)
    except ServerUnavailable:
        raise
    except MirrorError:
        return None  # neither answered nor refused by Graph; the finding reports that


def check_cross_tenant(answers: ProbeAnswers) -> Finding | None:
    """Return the finding; None if no other connection was named."""
    if answers.other_organizations is None:
        return None
    does = "sends next and delta links of users and groups alone, all else with the organization"
    if not answers.other_organizations:
        seen = "the other connection does not say whose tenant it is"
        return Finding(FINDING_NAME, Verdict.UNKNOWN, seen, does)
    if set(answers.other_organizations) & set(answers.organizations):
        return Finding(FINDING_NAME, Verdict.UNKNOWN, "both connections are of one tenant", does)
    if not answers.cross_tenant_statuses:
        return Finding(FINDING_NAME, Verdict.UNKNOWN, "there was no link to send", does)
    taken = [
        status for status in answers.cross_tenant_statuses if status is not None and status < 400
    ]
    statuses = ", ".join(
        "no answer" if one is None else str(one) for one in answers.cross_tenant_statuses
    )
    seen = (
        f"{pluralize(len(answers.cross_tenant_statuses), 'link')} sent for another tenant: "
        f"{statuses}"
    )
    if taken:
        does = "may take a page of another tenant if a customer authorises one during a slice"
        return Finding(FINDING_NAME, Verdict.FAILS, seen, does)
    refused = all(
        one is not None and one < 500 and one != 429 for one in answers.cross_tenant_statuses
    )
    return Finding(FINDING_NAME, Verdict.HOLDS if refused else Verdict.UNKNOWN, seen, does)
