"""Whether the connection can be used at all, whose tenant it is, and how ``$batch`` does. Pure."""

from typing import Final

from worker.core.errors import Broken, Halt
from worker.graph.probe.answers import Answers, Asked, Stop, items_of
from worker.graph.probe.asking import IN_BATCH
from worker.graph.probe.findings import (
    AGAIN,
    Check,
    Finding,
    Verdict,
    plural,
    usable,
    what_follows,
)


def connection(answers: Answers) -> Finding:
    name = "Nango reaches Graph for this connection"
    troubles = [answer.trouble for answer in answers.by.values()]
    if any(isinstance(trouble, Halt) for trouble in troubles):
        does = "halts everything; 'tenant-mirror sync' says what is wrong"
        return Finding(name, Verdict.FAILS, str(Stop.SETTINGS), does, needed=True)
    if any(isinstance(trouble, Broken) for trouble in troubles):
        does = "marks the connection broken and tries again after 1, 2, 4 ... minutes"
        seen = "it is unknown to Nango, or its token is refused or not renewed"
        return Finding(name, Verdict.FAILS, seen, does, needed=True)
    answered = sum(answer.status is not None for answer in answers.by.values())
    seen = f"Graph answered {answered:,} of {plural(len(answers.by), 'call')}"
    if not answered:
        return Finding(name, Verdict.UNKNOWN, seen, AGAIN, needed=True)
    return Finding(name, Verdict.HOLDS, seen, "asks through Nango only")


def organization(answers: Answers) -> Finding:
    name = "the organization can be read"
    verdict, seen = usable(answers, Asked.ORGANIZATION)
    fails = "reads nothing else, as it cannot know whose tenant it is"
    if verdict is not Verdict.HOLDS:
        does = what_follows(verdict, answers.by.get(Asked.ORGANIZATION), fails)
        return Finding(name, verdict, seen, does, needed=True)
    number = len(answers.organizations)
    seen = plural(number, "organization")
    if number != 1:
        return Finding(name, Verdict.FAILS, seen, fails, needed=True)
    return Finding(name, Verdict.HOLDS, seen, "reads it first in every slice", needed=True)


def same_tenant(answers: Answers) -> Finding:
    name = "it is the tenant that it was before"
    if answers.known_tenant is None or len(answers.organizations) != 1:
        seen = "nothing to compare with"
        return Finding(name, Verdict.UNKNOWN, seen, "compares them in every slice")
    if answers.known_tenant in answers.organizations:
        return Finding(name, Verdict.HOLDS, "the same", "compares them in every slice")
    does = "never reads it: delete it in Nango and connect anew"
    return Finding(name, Verdict.FAILS, "another one", does, needed=True)


def batch(answers: Answers) -> Finding:
    name = "$batch is accepted"
    verdict, seen = usable(answers, Asked.BATCH)
    answer = answers.by.get(Asked.BATCH)
    if verdict is Verdict.HOLDS and answer is not None:
        return Finding(name, verdict, f"status {answer.status}", "asks up to 20 things in a call")
    does = AGAIN if verdict is Verdict.UNKNOWN else "falls back to single calls"
    return Finding(name, verdict, seen, does)


def batch_items(answers: Answers) -> Finding:
    name = "every item of a $batch is answered by its id"
    verdict, seen = usable(answers, Asked.BATCH)
    answer = answers.by.get(Asked.BATCH)
    if verdict is not Verdict.HOLDS or answer is None or answer.reply is None:
        return Finding(name, Verdict.UNKNOWN, seen or "no items", "asks one by one")
    items = items_of(answer.reply)
    wanted = [str(index) for index in range(len(IN_BATCH))]
    told = [identity for item in items if (identity := item.get("id")) in wanted]
    ours = [item for item in items if item.get("id") in wanted]
    headers = sum(isinstance(item.get("headers"), dict) for item in ours)
    good = sum(item.get("status") == 200 for item in ours)
    order = "in the order asked" if told == wanted else "in another order"
    seen = (
        f"{len(set(told))} of {len(wanted)} answered, {order}; "
        f"{good} with status 200, {headers} with headers of their own"
    )
    if sorted(told) == wanted:
        return Finding(name, Verdict.HOLDS, seen, "goes by the ids, so any order will do")
    return Finding(name, Verdict.FAILS, seen, "asks again, alone, for what is missing")


OPENING: Final[tuple[Check, ...]] = (connection, organization, same_tenant, batch, batch_items)
