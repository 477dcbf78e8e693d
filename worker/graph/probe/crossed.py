"""Does Graph refuse one tenant's links to another tenant? Only such links may go alone.

All other requests prove their tenant by the organization that travels with them in a ``$batch``.
"""

from collections.abc import Iterator

from worker.core.errors import Away, Torn, Trouble
from worker.graph.links import is_bound, target_of
from worker.graph.probe.answers import Answers, Asked
from worker.graph.probe.asking import PERMISSION, Told, organizations_of, understood
from worker.graph.probe.findings import Finding, Verdict, plural
from worker.graph.targets import ORGANIZATION
from worker.nango.client import Address, NangoClient
from worker.nango.reply import Reply

CROSSED_LIMIT = 5
"""Calls for the other connection: its organization and up to four links."""

NAME = "links are refused to another tenant"


def cross(nango: NangoClient, other: Address, answers: Answers, told: Told) -> None:
    """Send the links that the probe was given through a connection of another tenant.

    Raises nothing for what Nango or Graph answer.
    """
    answers.others = []
    told(Asked.OTHER_ORGANIZATION, 1)
    reply = _sent(nango, other, ORGANIZATION)
    if reply is not None and understood(reply, PERMISSION, None)[1] is None:
        answers.others = organizations_of(reply)
    if not answers.others or set(answers.others) & set(answers.organizations):
        return
    for number, target in enumerate(list(_bound_links(answers))[: CROSSED_LIMIT - 1]):
        told(Asked.CROSSED, number + 2)
        reply = _sent(nango, other, target)
        answers.crossed.append(reply.status if reply is not None else None)


def _bound_links(answers: Answers) -> Iterator[str]:
    """The links that a sync sends alone, each kind once."""
    for answer in answers.by.values():
        for link in (answer.page.next_link, answer.page.delta_link) if answer.page else ():
            try:
                target = target_of(link) if link is not None else ""
            except Torn:
                continue
            if is_bound(target):
                yield target


def _sent(nango: NangoClient, other: Address, target: str) -> Reply | None:
    try:
        return nango.proxy(other, target, once=True)
    except Away:
        raise
    except Trouble:
        return None  # neither answered nor refused by Graph: the finding says so


def crossed(answers: Answers) -> Finding | None:
    """None where no other connection was named."""
    if answers.others is None:
        return None
    does = "sends next and delta links of users and groups alone, all else with the organization"
    if not answers.others:
        seen = "the other connection does not say whose tenant it is"
        return Finding(NAME, Verdict.UNKNOWN, seen, does)
    if set(answers.others) & set(answers.organizations):
        return Finding(NAME, Verdict.UNKNOWN, "both connections are of one tenant", does)
    if not answers.crossed:
        return Finding(NAME, Verdict.UNKNOWN, "there was no link to send", does)
    taken = [status for status in answers.crossed if status is not None and status < 400]
    statuses = ", ".join("no answer" if one is None else str(one) for one in answers.crossed)
    seen = f"{plural(len(answers.crossed), 'link')} sent for another tenant: {statuses}"
    if taken:
        does = "may take a page of another tenant if a customer authorises one during a slice"
        return Finding(NAME, Verdict.FAILS, seen, does)
    refused = all(one is not None and one < 500 and one != 429 for one in answers.crossed)
    return Finding(NAME, Verdict.HOLDS if refused else Verdict.UNKNOWN, seen, does)
