"""Checks of a probe's traffic: links, headers, budgets, permissions, times. Pure.

Values of headers are reported only if they are numbers.
"""

import re
import time
from collections.abc import Iterator
from statistics import median
from typing import Final
from urllib.parse import urlsplit

from worker.core.errors import MalformedResponse
from worker.core.net.retry_after import parse_http_date
from worker.graph.links import MAX_LINK_LENGTH, path_from_link
from worker.graph.throttle import PERCENTAGE_HEADER, THROTTLE_HEADERS, UNITS_HEADER
from worker.nango.errors import GRAPH_HEADERS
from worker.nango.response import ApiResponse
from worker.probe.answers import ProbeAnswers, is_transient
from worker.probe.findings import Check, Finding, Verdict, pluralize

TOKEN_PARAMETERS: Final = ("$skiptoken", "$deltatoken", "token")
BUDGET_HEADERS: Final = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset")

_NUMBER = re.compile(r"\d{1,12}(\.\d{1,9})?")


def get_plain_number(response: ApiResponse, name: str) -> float | None:
    """Return a header's value if it is a plain number, else None."""
    value = response.headers.get(name, "")
    return float(value) if _NUMBER.fullmatch(value) else None


def _list_responses(answers: ProbeAnswers) -> list[ApiResponse]:
    return [answer.response for answer in answers.by_call.values() if answer.response is not None]


def check_objects(answers: ProbeAnswers) -> Finding:
    name = "every object can be understood"
    pages = [answer.page for answer in answers.requests if answer.page is not None]
    count, rejects = sum(page.count for page in pages), sum(len(page.rejects) for page in pages)
    seen = f"{pluralize(count, 'object')} on {pluralize(len(pages), 'page')}, {rejects:,} malformed"
    does = "quarantines malformed objects and reads them again by id"
    if not count:
        return Finding(name, Verdict.UNKNOWN, seen, does)
    return Finding(name, Verdict.FAILS if rejects else Verdict.HOLDS, seen, does)


def _iter_links(answers: ProbeAnswers) -> Iterator[str]:
    for answer in answers.requests:
        for link in (answer.page.next_link, answer.page.delta_link) if answer.page else ():
            if link is not None:
                yield link


def _is_graph_link(link: str) -> bool:
    try:
        path_from_link(link)
    except MalformedResponse:
        return False
    return True


def _find_token_name(link: str) -> str:
    """Return the name of the known token in a link, never its value."""
    try:
        query = urlsplit(link).query.lower()
    except ValueError:
        return "none that we know"
    named = (name for name in TOKEN_PARAMETERS if f"&{name}=" in f"&{query.replace('%24', '$')}")
    return next(named, "none that we know")


def check_links(answers: ProbeAnswers) -> Finding:
    name = "links lead to Graph's v1.0"
    links = list(_iter_links(answers))
    does = f"sends them back as they are, up to {MAX_LINK_LENGTH:,} letters"
    if not links:
        return Finding(name, Verdict.UNKNOWN, "no links", does)
    good = sum(map(_is_graph_link, links))
    tokens = ", ".join(sorted({_find_token_name(link) for link in links}))
    longest = max(map(len, links))
    seen = (
        f"{good} of {pluralize(len(links), 'link')}; longest {longest:,} letters; token: {tokens}"
    )
    if good == len(links):
        return Finding(name, Verdict.HOLDS, seen, does)
    return Finding(name, Verdict.FAILS, seen, "never follows a link elsewhere; tries again later")


def check_headers(answers: ProbeAnswers) -> Finding:
    name = "Graph's headers come through on a success"
    good = [response for response in _list_responses(answers) if response.is_success]
    with_headers = sum(
        any(header in response.headers for header in GRAPH_HEADERS) for response in good
    )
    framed = sum("content-length" in response.headers for response in good)
    json = sum(_is_json(response) for response in good)
    seen = f"on {with_headers} of {len(good)}; {framed} with a length, {json} said to be JSON"
    does = "needs none of them: uses status and body"
    if not good:
        return Finding(name, Verdict.UNKNOWN, seen, does)
    return Finding(name, Verdict.HOLDS if with_headers == len(good) else Verdict.FAILS, seen, does)


def _is_json(response: ApiResponse) -> bool:
    return response.headers.get("content-type", "").lower().startswith("application/json")


def check_cost(answers: ProbeAnswers) -> Finding:
    name = "Graph tells what calls cost"
    replies = _list_responses(answers)
    units = [
        found
        for response in replies
        if (found := get_plain_number(response, UNITS_HEADER)) is not None
    ]
    shares = [
        found
        for response in replies
        if (found := get_plain_number(response, PERCENTAGE_HEADER)) is not None
    ]
    throttling = sum(
        any(header in response.headers for header in THROTTLE_HEADERS) for response in replies
    )
    seen = f"{pluralize(round(sum(units)), 'resource unit')} on {pluralize(len(units), 'call')}"
    if shares:
        seen += f", {max(shares) * 100:.0f} % of the limit at most"
    seen += f"; throttling headers on {throttling}"
    if not replies:
        return Finding(name, Verdict.UNKNOWN, "no answers", "respects every Retry-After")
    if units:
        does = "slows down from 80 % of the limit on, and respects every Retry-After"
        return Finding(name, Verdict.HOLDS, seen, does)
    return Finding(name, Verdict.FAILS, seen, "respects every Retry-After, which suffices")


def check_budget(answers: ProbeAnswers) -> Finding:
    name = "Nango tells its limit"
    found = [
        response
        for response in _list_responses(answers)
        if get_plain_number(response, BUDGET_HEADERS[0]) is not None
    ]
    if not _list_responses(answers):
        return Finding(name, Verdict.UNKNOWN, "no answers", "waits as Nango's 429 says")
    if not found:
        return Finding(name, Verdict.FAILS, "on no answer", "waits as Nango's 429 says")
    limit, left, reset = (get_plain_number(found[-1], header) for header in BUDGET_HEADERS)
    seen = f"{limit:,.0f} calls in a window"
    if left is not None:
        seen += f", {left:,.0f} left"
    if reset is not None:
        there = parse_http_date(found[-1].headers.get("date"))
        clock = time.time() if there is None else there
        seen += f", renewed in {max(0.0, min(reset - clock, 86_400.0)):,.0f} s"
    return Finding(name, Verdict.HOLDS, seen, "shares them between all workers")


def check_permissions(answers: ProbeAnswers) -> Finding:
    name = "no permission is missing"
    lacking = [a for a in answers.requests if a.status == 403 and a.permission]
    asked = [answer for answer in answers.requests if answer.status is not None]
    if lacking:
        resources = ", ".join(answer.call for answer in lacking)
        wanted = ", ".join(dict.fromkeys(answer.permission for answer in lacking))
        seen, does = f"status 403 for {resources}", f"leaves them out until you grant {wanted}"
        return Finding(name, Verdict.FAILS, seen, does)
    seen = f"status 403 for none of {pluralize(len(asked), 'request')}"
    if answers.stop_reason is not None:
        return Finding(name, Verdict.UNKNOWN, f"{seen}; not everything was requested", "continues")
    does = "cannot see whether Member.Read.Hidden is granted: Graph omits such members"
    return Finding(name, Verdict.HOLDS, seen, does)


def check_times(answers: ProbeAnswers) -> Finding:
    name = "calls are answered in time"
    sent = [answer for answer in answers.by_call.values() if answer.was_sent]
    silent = sum(answer.response is None or is_transient(answer.error) for answer in sent)
    if not sent:
        return Finding(name, Verdict.UNKNOWN, "no calls", "asks again")
    taken = sorted(answer.seconds * 1000 for answer in sent)
    seen = (
        f"median {median(taken):,.0f} ms, slowest {taken[-1]:,.0f} ms of "
        f"{pluralize(len(sent), 'call')}, {silent} without a usable answer"
    )
    verdict = Verdict.FAILS if silent else Verdict.HOLDS
    return Finding(name, verdict, seen, "retries a call up to five times, for up to a minute")


TRAFFIC_CHECKS: Final[tuple[Check, ...]] = (
    check_objects,
    check_links,
    check_headers,
    check_cost,
    check_budget,
    check_permissions,
    check_times,
)
