"""What the calls of a probe were like: links, headers, budgets, permissions, times. Pure.

Values of headers are told only where they are numbers.
"""

import re
import time
from collections.abc import Iterator
from statistics import median
from typing import Final
from urllib.parse import urlsplit

from worker.core.errors import Torn
from worker.graph.links import MAX_LENGTH, target_of
from worker.graph.probe.answers import Answers, is_passing
from worker.graph.probe.findings import Check, Finding, Verdict, plural
from worker.nango.reply import Reply, http_time
from worker.nango.verdict import GRAPH_HEADERS

TOKENS: Final = ("$skiptoken", "$deltatoken", "token")
UNITS: Final = "x-ms-resource-unit"
PERCENTAGE: Final = "x-ms-throttle-limit-percentage"
THROTTLING: Final = (
    PERCENTAGE,
    "x-ms-throttle-scope",
    "x-ms-throttle-information",
    "ratelimit-limit",
    "ratelimit-remaining",
)
BUDGET: Final = ("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset")

_NUMBER = re.compile(r"\d{1,12}(\.\d{1,9})?")


def number_in(reply: Reply, name: str) -> float | None:
    """A header's value where it is a plain number."""
    value = reply.headers.get(name, "")
    return float(value) if _NUMBER.fullmatch(value) else None


def _replies(answers: Answers) -> list[Reply]:
    return [answer.reply for answer in answers.by.values() if answer.reply is not None]


def understood(answers: Answers) -> Finding:
    name = "every object can be understood"
    pages = [answer.page for answer in answers.by.values() if answer.page is not None]
    count, rejects = sum(page.count for page in pages), sum(len(page.rejects) for page in pages)
    seen = f"{plural(count, 'object')} on {plural(len(pages), 'page')}, {rejects:,} malformed"
    does = "keeps malformed objects out and reads them again by id"
    if not count:
        return Finding(name, Verdict.UNKNOWN, seen, does)
    return Finding(name, Verdict.FAILS if rejects else Verdict.HOLDS, seen, does)


def _links(answers: Answers) -> Iterator[str]:
    for answer in answers.by.values():
        for link in (answer.page.next_link, answer.page.delta_link) if answer.page else ():
            if link is not None:
                yield link


def _leads_to_graph(link: str) -> bool:
    try:
        target_of(link)
    except Torn:
        return False
    return True


def _token(link: str) -> str:
    """Which of the known tokens a link carries; its value stays where it is."""
    try:
        query = urlsplit(link).query.lower()
    except ValueError:
        return "none that we know"
    named = (name for name in TOKENS if f"&{name}=" in f"&{query.replace('%24', '$')}")
    return next(named, "none that we know")


def links(answers: Answers) -> Finding:
    name = "links lead to Graph's v1.0"
    found = list(_links(answers))
    does = f"sends them back as they are, up to {MAX_LENGTH:,} letters"
    if not found:
        return Finding(name, Verdict.UNKNOWN, "no links", does)
    good = sum(map(_leads_to_graph, found))
    tokens = ", ".join(sorted({_token(link) for link in found}))
    longest = max(map(len, found))
    seen = f"{good} of {plural(len(found), 'link')}; longest {longest:,} letters; token: {tokens}"
    if good == len(found):
        return Finding(name, Verdict.HOLDS, seen, does)
    return Finding(name, Verdict.FAILS, seen, "never follows a link elsewhere; tries again later")


def headers(answers: Answers) -> Finding:
    name = "Graph's headers come through on a success"
    good = [reply for reply in _replies(answers) if reply.ok]
    told = sum(any(header in reply.headers for header in GRAPH_HEADERS) for reply in good)
    framed = sum("content-length" in reply.headers for reply in good)
    json = sum(_is_json(reply) for reply in good)
    seen = f"on {told} of {len(good)}; {framed} with a length, {json} said to be JSON"
    does = "needs none of them: goes by status and body"
    if not good:
        return Finding(name, Verdict.UNKNOWN, seen, does)
    return Finding(name, Verdict.HOLDS if told == len(good) else Verdict.FAILS, seen, does)


def _is_json(reply: Reply) -> bool:
    return reply.headers.get("content-type", "").lower().startswith("application/json")


def cost(answers: Answers) -> Finding:
    name = "Graph tells what calls cost"
    replies = _replies(answers)
    units = [found for reply in replies if (found := number_in(reply, UNITS)) is not None]
    shares = [found for reply in replies if (found := number_in(reply, PERCENTAGE)) is not None]
    throttling = sum(any(header in reply.headers for header in THROTTLING) for reply in replies)
    seen = f"{plural(round(sum(units)), 'resource unit')} on {plural(len(units), 'call')}"
    if shares:
        seen += f", {max(shares) * 100:.0f} % of the limit at most"
    seen += f"; throttling headers on {throttling}"
    if not replies:
        return Finding(name, Verdict.UNKNOWN, "no answers", "keeps every Retry-After")
    if units:
        does = "slows down from 80 % of the limit on, and keeps every Retry-After"
        return Finding(name, Verdict.HOLDS, seen, does)
    return Finding(name, Verdict.FAILS, seen, "keeps every Retry-After, which is all it needs")


def budget(answers: Answers) -> Finding:
    name = "Nango tells its limit"
    found = [reply for reply in _replies(answers) if number_in(reply, BUDGET[0]) is not None]
    if not _replies(answers):
        return Finding(name, Verdict.UNKNOWN, "no answers", "waits as Nango's 429 says")
    if not found:
        return Finding(name, Verdict.FAILS, "on no answer", "waits as Nango's 429 says")
    limit, left, reset = (number_in(found[-1], header) for header in BUDGET)
    seen = f"{limit:,.0f} calls in a window"
    if left is not None:
        seen += f", {left:,.0f} left"
    if reset is not None:
        there = http_time(found[-1].headers.get("date"))
        clock = time.time() if there is None else there
        seen += f", renewed in {max(0.0, min(reset - clock, 86_400.0)):,.0f} s"
    return Finding(name, Verdict.HOLDS, seen, "shares them between all workers")


def permissions(answers: Answers) -> Finding:
    name = "no permission is missing"
    lacking = [a for a in answers.by.values() if a.status == 403 and a.permission]
    asked = [answer for answer in answers.by.values() if answer.status is not None]
    if lacking:
        resources = ", ".join(answer.asked for answer in lacking)
        wanted = ", ".join(dict.fromkeys(answer.permission for answer in lacking))
        seen, does = f"status 403 for {resources}", f"leaves them out until you grant {wanted}"
        return Finding(name, Verdict.FAILS, seen, does)
    seen = f"status 403 for none of {plural(len(asked), 'call')}"
    if answers.stop is not None:
        return Finding(name, Verdict.UNKNOWN, f"{seen}; not all was asked", "goes on")
    does = "cannot see whether Member.Read.Hidden is granted: Graph leaves such members out"
    return Finding(name, Verdict.HOLDS, seen, does)


def times(answers: Answers) -> Finding:
    name = "calls are answered in time"
    sent = [answer for answer in answers.by.values() if answer.sent]
    silent = sum(answer.reply is None or is_passing(answer.trouble) for answer in sent)
    if not sent:
        return Finding(name, Verdict.UNKNOWN, "no calls", "asks again")
    taken = sorted(answer.seconds * 1000 for answer in sent)
    seen = (
        f"median {median(taken):,.0f} ms, slowest {taken[-1]:,.0f} ms of "
        f"{plural(len(sent), 'call')}, {silent} without a usable answer"
    )
    verdict = Verdict.FAILS if silent else Verdict.HOLDS
    return Finding(name, verdict, seen, "tries a call again, up to five times and a minute")


TRAFFIC: Final[tuple[Check, ...]] = (
    understood,
    links,
    headers,
    cost,
    budget,
    permissions,
    times,
)
