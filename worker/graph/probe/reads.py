"""Whether each resource can be read in the way that we prefer. Pure."""

from functools import partial
from typing import Final

from models.resources.sites import SITES
from models.resources.users import USERS
from models.row import shape_of
from worker.graph.probe.answers import Answers, Asked
from worker.graph.probe.asking import NO_DELTA
from worker.graph.probe.findings import (
    AGAIN,
    Check,
    Finding,
    Verdict,
    described,
    plural,
    usable,
    what_follows,
)


def a_read(answers: Answers, *, name: str, asked: Asked, noun: str, does: str) -> Finding | None:
    """A page that a resource cannot be mirrored without."""
    verdict, seen = usable(answers, asked)
    page = answers.page(asked)
    if page is not None:
        return Finding(name, verdict, described(page, noun), does, needed=True)
    return Finding(name, verdict, seen, what_follows(verdict, answers.by.get(asked)), needed=True)


def a_next_page(
    answers: Answers, *, name: str, first: Asked, asked: Asked, noun: str
) -> Finding | None:
    """A next link that is sent back byte for byte brings the next page."""
    before, page = answers.page(first), answers.page(asked)
    if before is not None and before.next_link is None:
        return Finding(name, Verdict.UNKNOWN, "there is one page only", "follows next links")
    verdict, seen = usable(answers, asked)
    if page is not None:
        return Finding(name, verdict, described(page, noun), "follows next links as they are")
    does = what_follows(verdict, answers.by.get(asked), "begins that walk anew, later")
    return Finding(name, verdict, seen, does, needed=before is not None)


def page_size(answers: Answers) -> Finding:
    name = f"{USERS.page_size} users come on a page"
    page = answers.page(Asked.USERS)
    if page is None:
        return Finding(name, Verdict.UNKNOWN, usable(answers, Asked.USERS)[1], AGAIN)
    seen = described(page, "user")
    if page.count >= (USERS.page_size or 0):
        return Finding(name, Verdict.HOLDS, seen, "loads with the fewest calls")
    if page.next_link is None:
        return Finding(name, Verdict.UNKNOWN, seen, "takes pages of any size")
    return Finding(name, Verdict.FAILS, seen, "takes pages of any size, in more calls")


def properties(answers: Answers) -> Finding:
    name = "every property that we select is sent"
    page = answers.page(Asked.USERS)
    if page is None or not page.rows:
        return Finding(name, Verdict.UNKNOWN, "no users to look at", AGAIN)
    names, bits = shape_of(USERS).names, 0
    for incoming in page.rows.values():
        bits |= incoming.present
    missing = [name for index, name in enumerate(names) if not bits >> index & 1]
    seen = f"{len(names) - len(missing)} of {len(names)}"
    if not missing:
        return Finding(name, Verdict.HOLDS, seen, "mirrors them all")
    return Finding(name, Verdict.FAILS, f"{seen}; never {', '.join(missing)}", "stores null")


def delta_token(answers: Answers) -> Finding:
    name = "users/delta starts from now"
    tokens = (Asked.TOKEN, Asked.TOKEN_NEXT)
    last = [asked for asked in tokens if asked in answers.by]
    verdict, seen = usable(answers, last[-1] if last else Asked.TOKEN)
    pages = [page for asked in tokens if (page := answers.page(asked)) is not None]
    if verdict is Verdict.HOLDS:
        rows = plural(sum(page.count for page in pages), "row")
        seen = f"{plural(len(pages), 'page')} with {rows}"
        if pages[-1].delta_link is not None:
            does = "lists users, then follows their changes from this token"
            return Finding(name, verdict, f"a delta link after {seen}", does, needed=True)
        if pages[-1].next_link is None:
            seen, does = f"neither link after {seen}", "waits ten minutes and asks again"
            return Finding(name, Verdict.FAILS, seen, does, needed=True)
        return Finding(name, Verdict.UNKNOWN, f"not yet after {seen}", "reads up to 100 pages")
    if answers.refused(Asked.TOKEN, *NO_DELTA):
        return Finding(name, verdict, seen, "reads the whole list of users each time")
    does = what_follows(verdict, answers.by.get(Asked.TOKEN))
    return Finding(name, verdict, seen, does, needed=True)


def delta_link(answers: Answers) -> Finding:
    name = "a delta link can be sent back"
    verdict, seen = usable(answers, Asked.DELTA)
    page = answers.page(Asked.DELTA)
    if page is not None:
        return Finding(name, verdict, described(page, "user"), "reads changes only")
    does = what_follows(verdict, None, "reads everything anew where a delta link is lost")
    return Finding(name, verdict, seen, does)


def groups_delta(answers: Answers) -> Finding:
    name = "groups/delta brings groups"
    verdict, seen = usable(answers, Asked.GROUPS)
    page = answers.page(Asked.GROUPS)
    if page is not None:
        seen, does = described(page, "group"), "loads groups by delta"
        return Finding(name, verdict, seen, does, needed=True)
    if answers.refused(Asked.GROUPS, *NO_DELTA):
        return Finding(name, verdict, seen, "lists groups and the members of each")
    does = what_follows(verdict, answers.by.get(Asked.GROUPS))
    return Finding(name, verdict, seen, does, needed=True)


def instead_of_delta(answers: Answers, *, name: str, asked: Asked, noun: str) -> Finding | None:
    """What is read where groups have no delta."""
    if not answers.refused(Asked.GROUPS, *NO_DELTA):
        return None
    listed = answers.page(Asked.GROUP_LIST)
    if asked is Asked.MEMBERS and listed is not None and not listed.rows:
        return None
    return a_read(answers, name=name, asked=asked, noun=noun, does="reads it whole each time")


def members(answers: Answers) -> Finding | None:
    name = "groups/delta brings memberships"
    if answers.refused(Asked.GROUPS, *NO_DELTA):
        return None
    found = [answers.page(asked) for asked in (Asked.GROUPS, Asked.GROUPS_NEXT)]
    pages = [page for page in found if page is not None]
    edges = sum(len(page.edges) + len(page.edges_removed) for page in pages)
    seen = f"{plural(edges, 'membership')} in {plural(sum(p.count for p in pages), 'group')}"
    if edges:
        return Finding(name, Verdict.HOLDS, seen, "needs no call for the members of a group")
    return Finding(name, Verdict.UNKNOWN, seen, "takes groups for empty until members are told")


def all_sites(answers: Answers) -> Finding:
    name = "all sites are listed"
    page = answers.page(Asked.ALL_SITES)
    verdict, seen = usable(answers, Asked.ALL_SITES)
    if page is not None:
        return Finding(name, verdict, described(page, "site"), "mirrors them all", needed=True)
    if verdict is Verdict.FAILS and answers.refused(Asked.ALL_SITES):
        does = "falls back to the search, which may leave some out"
        if answers.refused(Asked.ALL_SITES, 403):
            does += f"; app-only access with {SITES.permission} lists them all"
        return Finding(name, verdict, seen, does)
    return Finding(name, verdict, seen, what_follows(verdict, None), needed=True)


def site_search(answers: Answers) -> Finding | None:
    if not answers.refused(Asked.ALL_SITES):
        return None
    does = "mirrors what it finds; deletes a site only when its id is gone"
    name = "sites are found by search"
    return a_read(answers, name=name, asked=Asked.SITE_SEARCH, noun="site", does=does)


def assignments(answers: Answers) -> Finding:
    name = "role assignments are listed without a filter"
    verdict, seen = usable(answers, Asked.ROLE_ASSIGNMENTS)
    page = answers.page(Asked.ROLE_ASSIGNMENTS)
    if page is not None:
        seen = described(page, "role assignment")
        return Finding(name, verdict, seen, "reads the whole list", needed=True)
    if answers.refused(Asked.ROLE_ASSIGNMENTS, 400):
        return Finding(name, verdict, seen, "asks for each role definition, on a slower clock")
    does = what_follows(verdict, answers.by.get(Asked.ROLE_ASSIGNMENTS))
    return Finding(name, verdict, seen, does, needed=True)


def filtered(answers: Answers) -> Finding | None:
    if not answers.refused(Asked.ROLE_ASSIGNMENTS, 400):
        return None
    name, noun = "role assignments are listed by role definition", "role assignment"
    does = "asks so for every role definition"
    return a_read(answers, name=name, asked=Asked.FILTERED, noun=noun, does=does)


READS: Final[tuple[Check, ...]] = (
    partial(
        a_read,
        name="users are listed with all our properties",
        asked=Asked.USERS,
        noun="user",
        does="loads users by list",
    ),
    page_size,
    properties,
    partial(
        a_next_page,
        name="the next page of a list comes",
        first=Asked.USERS,
        asked=Asked.USERS_NEXT,
        noun="user",
    ),
    delta_token,
    delta_link,
    groups_delta,
    partial(instead_of_delta, name="groups are listed", asked=Asked.GROUP_LIST, noun="group"),
    partial(
        instead_of_delta,
        name="the members of a group are listed",
        asked=Asked.MEMBERS,
        noun="member",
    ),
    members,
    partial(
        a_next_page,
        name="the next page of a delta comes",
        first=Asked.GROUPS,
        asked=Asked.GROUPS_NEXT,
        noun="group",
    ),
    all_sites,
    site_search,
    partial(
        a_read,
        name="role definitions are listed",
        asked=Asked.ROLE_DEFINITIONS,
        noun="role definition",
        does="reads the whole list",
    ),
    assignments,
    filtered,
)
