"""Does Graph refuse one tenant's links to another tenant? Only such links may go alone.

All other requests prove their tenant by the organization that travels with them in a ``$batch``.
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
"""Calls for the other connection: its organization and up to four links."""

FINDING_NAME = "links are refused to another tenant"


def send_across_tenants(
    nango: NangoClient, other: ConnectionRef, answers: ProbeAnswers, told: OnCall
) -> None:
    """Send the links that the probe was given through a connection of another tenant.

    Raises nothing for what Nango or Graph answer.
    """
    answers.other_organizations = []
    told(ProbeCall.OTHER_ORGANIZATION, 1)
    reply = _send(nango, other, ORGANIZATION_PATH)
    if reply is not None and parse_response(reply, PERMISSION, None)[1] is None:
        answers.other_organizations = parse_organization_ids(reply)
    if not answers.other_organizations or set(answers.other_organizations) & set(
        answers.organizations
    ):
        return
    for number, target in enumerate(list(_iter_bound_paths(answers))[: MAX_CROSS_TENANT_CALLS - 1]):
        told(ProbeCall.CROSS_TENANT_LINK, number + 2)
        reply = _send(nango, other, target)
        answers.cross_tenant_statuses.append(reply.status if reply is not None else None)


def _iter_bound_paths(answers: ProbeAnswers) -> Iterator[str]:
    """The links that a sync sends alone, each kind once."""
    for answer in answers.by_call.values():
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
        return None  # neither answered nor refused by Graph: the finding says so


def check_cross_tenant(answers: ProbeAnswers) -> Finding | None:
    """None where no other connection was named."""
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
