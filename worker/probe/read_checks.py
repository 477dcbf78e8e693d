"""Checks whether each resource can be read in the preferred way. Pure."""

from functools import partial
from typing import Final

from models.resource import Resource
from models.resources import RESOURCES
from models.resources.group_members import GROUP_MEMBERS
from models.resources.groups import GROUPS
from models.resources.role_assignments import ROLE_ASSIGNMENTS
from models.resources.role_definitions import ROLE_DEFINITIONS
from models.resources.sites import SITES
from models.resources.users import USERS
from worker.probe.answers import ProbeAnswers, ProbeCall
from worker.probe.findings import (
    MEMBERSHIP,
    TRIES_LATER,
    Check,
    Finding,
    Verdict,
    describe_consequence,
    describe_page,
    judge_call,
    name_edge,
    pluralize,
)
from worker.probe.further import FURTHER, find_missing_parents, name_delta
from worker.probe.requests import NO_DELTA_STATUSES
from worker.probe.scope import ProbeScope
from worker.rows.shape import get_shape


def check_read(
    answers: ProbeAnswers, *, name: str, asked: str, noun: str, does: str
) -> Finding | None:
    """Check a page without which a resource cannot be mirrored."""
    page = answers.get_page(asked)
    if page is not None:
        verdict, _ = judge_call(answers, asked)
        return Finding(name, verdict, describe_page(page, noun), does, needed=True)
    return _build_unread(answers, name, asked)


def _build_unread(answers: ProbeAnswers, name: str, asked: str) -> Finding:
    """Return that a resource cannot be read; nothing is lacking where it is not licensed."""
    verdict, seen = judge_call(answers, asked)
    answer = answers.get(asked)
    does = describe_consequence(verdict, answer)
    is_licensed = answer is None or not answer.is_not_licensed
    return Finding(name, verdict, seen, does, needed=is_licensed)


def check_next_page(
    answers: ProbeAnswers, *, name: str, first: ProbeCall, asked: str, noun: str
) -> Finding | None:
    """Check that a next link, sent back byte for byte, returns the next page."""
    before, page = answers.get_page(first), answers.get_page(asked)
    if before is not None and before.next_link is None:
        return Finding(name, Verdict.UNKNOWN, "there is one page only", "follows next links")
    verdict, seen = judge_call(answers, asked)
    if page is not None:
        return Finding(name, verdict, describe_page(page, noun), "follows next links as they are")
    does = describe_consequence(verdict, answers.get(asked), "restarts that walk later")
    return Finding(name, verdict, seen, does, needed=before is not None)


def check_page_size(answers: ProbeAnswers) -> Finding:
    name = f"{USERS.source.page_size} users come on a page"
    page = answers.get_page(ProbeCall.USERS)
    if page is None:
        return Finding(name, Verdict.UNKNOWN, judge_call(answers, ProbeCall.USERS)[1], TRIES_LATER)
    seen = describe_page(page, "user")
    if page.count >= (USERS.source.page_size or 0):
        return Finding(name, Verdict.HOLDS, seen, "loads with the fewest calls")
    if page.next_link is None:
        return Finding(name, Verdict.UNKNOWN, seen, "takes pages of any size")
    return Finding(name, Verdict.FAILS, seen, "takes pages of any size, in more calls")


def check_properties(answers: ProbeAnswers) -> Finding:
    name = "every property that we select is sent"
    page = answers.get_page(ProbeCall.USERS)
    if page is None or not page.rows:
        return Finding(name, Verdict.UNKNOWN, "no users to look at", TRIES_LATER)
    without = USERS.columns_of(answers.scope.list_left_out(USERS))
    names, bits = get_shape(USERS).names, 0
    for incoming in page.rows.values():
        bits |= incoming.present
    wanted = [(index, name) for index, name in enumerate(names) if not without >> index & 1]
    missing = [name for index, name in wanted if not bits >> index & 1]
    seen = f"{len(wanted) - len(missing)} of {len(wanted)}"
    if not missing:
        return Finding(name, Verdict.HOLDS, seen, "mirrors them all")
    return Finding(name, Verdict.FAILS, f"{seen}; never {', '.join(missing)}", "stores null")


def check_delta_token(answers: ProbeAnswers) -> Finding:
    name = "users/delta starts from now"
    tokens = (ProbeCall.TOKEN, ProbeCall.TOKEN_NEXT)
    last = [asked for asked in tokens if asked in answers.by_call]
    verdict, seen = judge_call(answers, last[-1] if last else ProbeCall.TOKEN)
    pages = [page for asked in tokens if (page := answers.get_page(asked)) is not None]
    if verdict is Verdict.HOLDS:
        rows = pluralize(sum(page.count for page in pages), "row")
        seen = f"{pluralize(len(pages), 'page')} with {rows}"
        if pages[-1].delta_link is not None:
            does = "lists users, then follows their changes from this token"
            return Finding(name, verdict, f"a delta link after {seen}", does, needed=True)
        if pages[-1].next_link is None:
            seen, does = f"neither link after {seen}", "waits ten minutes and tries again"
            return Finding(name, Verdict.FAILS, seen, does, needed=True)
        return Finding(name, Verdict.UNKNOWN, f"not yet after {seen}", "reads up to 100 pages")
    if answers.is_refused(ProbeCall.TOKEN, *NO_DELTA_STATUSES):
        return Finding(name, verdict, seen, "reads the whole list of users each time")
    does = describe_consequence(verdict, answers.get(ProbeCall.TOKEN))
    return Finding(name, verdict, seen, does, needed=True)


def check_delta_link(answers: ProbeAnswers) -> Finding:
    name = "a delta link can be sent back"
    verdict, seen = judge_call(answers, ProbeCall.DELTA)
    page = answers.get_page(ProbeCall.DELTA)
    if page is not None:
        return Finding(name, verdict, describe_page(page, "user"), "reads changes only")
    does = describe_consequence(verdict, None, "re-reads everything if a delta link is lost")
    return Finding(name, verdict, seen, does)


def check_groups_delta(answers: ProbeAnswers) -> Finding:
    name = "groups/delta brings groups"
    verdict, seen = judge_call(answers, ProbeCall.GROUPS)
    page = answers.get_page(ProbeCall.GROUPS)
    if page is not None:
        seen, does = describe_page(page, "group"), "loads groups by delta"
        return Finding(name, verdict, seen, does, needed=True)
    if answers.is_refused(ProbeCall.GROUPS, *NO_DELTA_STATUSES):
        return Finding(name, verdict, seen, "lists groups and the members of each")
    does = describe_consequence(verdict, answers.get(ProbeCall.GROUPS))
    return Finding(name, verdict, seen, does, needed=True)


def check_group_listing(
    answers: ProbeAnswers, *, name: str, asked: str, noun: str
) -> Finding | None:
    """Check the listing that is read if groups have no delta."""
    if not answers.is_refused(ProbeCall.GROUPS, *NO_DELTA_STATUSES):
        return None
    listed = answers.get_page(ProbeCall.GROUP_LIST)
    if asked is ProbeCall.MEMBERS and listed is not None and not listed.rows:
        return None
    return check_read(answers, name=name, asked=asked, noun=noun, does="reads it whole each time")


def check_members(answers: ProbeAnswers) -> Finding | None:
    name = "groups/delta brings memberships"
    if answers.is_refused(ProbeCall.GROUPS, *NO_DELTA_STATUSES):
        return None
    answered = [answers.get_page(asked) for asked in (ProbeCall.GROUPS, ProbeCall.GROUPS_NEXT)]
    pages = [page for page in answered if page is not None]
    edges = sum(
        len(edges.found) + len(edges.removed)
        for page in pages
        for name, edges in page.edges.items()
        if name_edge(RESOURCES[name]) == MEMBERSHIP
    )
    seen = f"{pluralize(edges, MEMBERSHIP)} in {pluralize(sum(p.count for p in pages), 'group')}"
    if edges:
        return Finding(name, Verdict.HOLDS, seen, "needs no call for the members of a group")
    return Finding(name, Verdict.UNKNOWN, seen, "treats groups as empty until members are reported")


def check_all_sites(answers: ProbeAnswers) -> Finding:
    name = "all sites are listed"
    page = answers.get_page(ProbeCall.ALL_SITES)
    verdict, seen = judge_call(answers, ProbeCall.ALL_SITES)
    if page is not None:
        return Finding(name, verdict, describe_page(page, "site"), "mirrors them all", needed=True)
    if verdict is Verdict.FAILS and answers.is_refused(ProbeCall.ALL_SITES):
        does = "falls back to the search, which may leave some out"
        if answers.is_refused(ProbeCall.ALL_SITES, 403):
            does += f"; app-only access with {SITES.permission} lists them all"
        return Finding(name, verdict, seen, does)
    return Finding(name, verdict, seen, describe_consequence(verdict, None), needed=True)


def check_site_search(answers: ProbeAnswers) -> Finding | None:
    if not answers.is_refused(ProbeCall.ALL_SITES):
        return None
    does = "mirrors what it finds; deletes a site only when its id is gone"
    name = "sites are found by search"
    return check_read(answers, name=name, asked=ProbeCall.SITE_SEARCH, noun="site", does=does)


def check_assignments(answers: ProbeAnswers) -> Finding:
    name = "role assignments are listed without a filter"
    verdict, seen = judge_call(answers, ProbeCall.ROLE_ASSIGNMENTS)
    page = answers.get_page(ProbeCall.ROLE_ASSIGNMENTS)
    if page is not None:
        seen = describe_page(page, "role assignment")
        return Finding(name, verdict, seen, "reads the whole list", needed=True)
    if answers.is_refused(ProbeCall.ROLE_ASSIGNMENTS, 400):
        return Finding(
            name, verdict, seen, "sends a request for each role definition, at a longer interval"
        )
    return _build_unread(answers, name, ProbeCall.ROLE_ASSIGNMENTS)


def check_filtered_assignments(answers: ProbeAnswers) -> Finding | None:
    if not answers.is_refused(ProbeCall.ROLE_ASSIGNMENTS, 400):
        return None
    name, noun = "role assignments are listed by role definition", "role assignment"
    does = "does so for every role definition"
    return check_read(answers, name=name, asked=ProbeCall.FILTERED, noun=noun, does=does)


def check_further_resource(answers: ProbeAnswers, *, resource: Resource) -> Finding:
    """Check that a resource can be read that has no steps of its own."""
    noun = resource.name.replace("_", " ")
    name = f"{noun} can be read"
    if missing := find_missing_parents(resource, answers.scope):
        does = f"waits until {missing} is switched on as well"
        return Finding(name, Verdict.UNKNOWN, f"not asked: {missing} is off", does)
    verdict, seen = judge_call(answers, resource.name)
    if verdict is not Verdict.HOLDS:
        return _build_unread(answers, name, resource.name)
    does = "mirrors them; asked for a small page only"
    return Finding(name, verdict, seen or "a page came", does, needed=True)


def check_further_delta(answers: ProbeAnswers, *, resource: Resource) -> Finding | None:
    """Check that a resource's changes can be read; not if it cannot be read at all."""
    asked = name_delta(resource)
    if answers.get_page(resource.name) is None:
        return None
    name = f"changes of {resource.name.replace('_', ' ')} come by delta"
    verdict, seen = judge_call(answers, asked)
    if verdict is Verdict.HOLDS:
        return Finding(name, verdict, "a page came", "reads changes only")
    does = describe_consequence(verdict, answers.get(asked))
    if answers.is_refused(asked, *NO_DELTA_STATUSES):
        does = "reads the whole list each time"
    return Finding(name, verdict, seen, does)


_USER_CHECKS: Final[tuple[Check, ...]] = (
    partial(
        check_read,
        name="users are listed with all our properties",
        asked=ProbeCall.USERS,
        noun="user",
        does="loads users by list",
    ),
    check_page_size,
    check_properties,
    partial(
        check_next_page,
        name="the next page of a list comes",
        first=ProbeCall.USERS,
        asked=ProbeCall.USERS_NEXT,
        noun="user",
    ),
    check_delta_token,
    check_delta_link,
)
_GROUP_CHECKS: Final[tuple[Check, ...]] = (
    check_groups_delta,
    partial(
        check_group_listing, name="groups are listed", asked=ProbeCall.GROUP_LIST, noun="group"
    ),
    partial(
        check_next_page,
        name="the next page of a delta comes",
        first=ProbeCall.GROUPS,
        asked=ProbeCall.GROUPS_NEXT,
        noun="group",
    ),
)
_MEMBER_CHECKS: Final[tuple[Check, ...]] = (
    partial(
        check_group_listing,
        name="the members of a group are listed",
        asked=ProbeCall.MEMBERS,
        noun="member",
    ),
    check_members,
)
_ROLE_CHECKS: Final[tuple[Check, ...]] = (
    partial(
        check_read,
        name="role definitions are listed",
        asked=ProbeCall.ROLE_DEFINITIONS,
        noun="role definition",
        does="reads the whole list",
    ),
)
_CHECKS: Final[tuple[tuple[Resource, tuple[Check, ...]], ...]] = (
    (USERS, _USER_CHECKS),
    (GROUPS, _GROUP_CHECKS),
    (GROUP_MEMBERS, _MEMBER_CHECKS),
    (SITES, (check_all_sites, check_site_search)),
    (ROLE_DEFINITIONS, _ROLE_CHECKS),
    (ROLE_ASSIGNMENTS, (check_assignments, check_filtered_assignments)),
)


def list_read_checks(scope: ProbeScope) -> list[Check]:
    """Return the checks of all resources that are on, in display order."""
    checks = [one for resource, some in _CHECKS if scope.includes(resource) for one in some]
    further = [one for one in FURTHER if scope.includes(one)]
    checks += [partial(check_further_resource, resource=one) for one in further]
    deltas = [one for one in further if one.source.follows_delta]
    return checks + [partial(check_further_delta, resource=one) for one in deltas]
