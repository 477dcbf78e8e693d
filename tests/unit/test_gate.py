"""The budgets: when the next call may go out, and what replies teach."""

import threading
import time
from collections.abc import Iterator

import pytest
import redis

from models.run import RunTrigger
from sandbox.servers import Servers
from worker.core.errors import Away, Halt
from worker.nango.budget import WINDOW, Account, Rules, admitted, allowance, learn, paused, spend
from worker.nango.gate import Gate, service_of, wished_pause
from worker.nango.ledger import PREFIX, Ledger, LocalLedger, SharedLedger, redis_trouble
from worker.nango.reply import Reply

MANUAL, SCHEDULED, BACKFILL = RunTrigger.MANUAL, RunTrigger.SCHEDULED, RunTrigger.BACKFILL
RULES = Rules()
NOW = 1_800_000_000.0
USERS = "/v1.0/users?$select=id"


def window(left: int, limit: int = 200, **more: float) -> Account:
    return Account(limit=limit, left=left, resets_at=NOW + 30, **more)  # type: ignore[arg-type]


def headers(limit: int, left: int, seconds: float) -> dict[str, str]:
    return {
        "x-ratelimit-limit": str(limit),
        "x-ratelimit-remaining": str(left),
        "x-ratelimit-reset": str(int(time.time() + seconds)),
    }


# ---- Nango's budget


def test_nothing_is_held_back_before_a_limit_is_known() -> None:
    account = Account()
    for _ in range(1000):
        account, wait = spend(account, NOW, SCHEDULED, RULES)
        assert wait == 0
    assert allowance(account, NOW, RULES) is None


def test_a_spent_budget_waits_for_the_window_to_end() -> None:
    account, wait = spend(window(0), NOW, MANUAL, RULES)
    assert wait == 30
    assert spend(account, NOW + 30, MANUAL, RULES)[1] == 0


def test_people_may_use_the_last_call() -> None:
    account = window(1, wanted_at=NOW)
    assert spend(account, NOW, SCHEDULED, RULES)[1] > 0
    assert spend(account, NOW, MANUAL, RULES)[1] == 0


def test_the_clock_leaves_first_loads_their_share_while_they_want_it() -> None:
    assert spend(window(50, wanted_at=NOW - 5), NOW, SCHEDULED, RULES)[1] == 30
    assert spend(window(50, wanted_at=NOW - 61), NOW, SCHEDULED, RULES)[1] == 0
    assert spend(window(50, wanted_at=NOW, first_loads=10), NOW, SCHEDULED, RULES)[1] == 0


def test_first_loads_beyond_their_share_leave_what_the_clock_will_need() -> None:
    greedy = window(80, first_loads=50, others_before=100, others=20)
    assert spend(greedy, NOW, BACKFILL, RULES)[1] == 30
    assert spend(window(80, first_loads=49, others_before=100), NOW, BACKFILL, RULES)[1] == 0
    assert (
        spend(window(81, first_loads=50, others_before=100, others=20), NOW, BACKFILL, RULES)[1]
        == 0
    )


def test_an_operators_bound_stands_whatever_nango_tells() -> None:
    rules = Rules(calls_per_minute=3)
    account = Account()
    for _ in range(3):
        account, wait = spend(account, NOW, MANUAL, rules)
        account = learn(account, NOW, rules, limit=200, left=150, seconds=40)
        assert wait == 0
    assert spend(account, NOW, MANUAL, rules)[1] == WINDOW
    empty = learn(Account(), NOW, rules, limit=200, left=0, seconds=40)
    assert spend(empty, NOW, MANUAL, rules)[1] == 40


def test_the_lower_count_stands_and_a_new_window_is_taken_over() -> None:
    account = window(100)
    assert learn(account, NOW, RULES, limit=200, left=120, seconds=30).left == 100
    assert learn(account, NOW, RULES, limit=200, left=90, seconds=30).left == 90
    assert learn(account, NOW, RULES, limit=200, left=199, seconds=59).left == 199
    assert learn(account, NOW, RULES, limit=1000, left=700, seconds=30).left == 700


def test_a_reset_far_away_is_not_believed() -> None:
    account = learn(Account(), NOW, RULES, limit=1, left=0, seconds=1e9)
    assert account.resets_at <= NOW + 2 * WINDOW


def test_a_pause_holds_everybody_even_over_the_end_of_the_window() -> None:
    account = paused(window(100), NOW + 45)
    assert spend(account, NOW, MANUAL, RULES)[1] == 45
    assert spend(account, NOW + 40, MANUAL, RULES)[1] == pytest.approx(5)
    assert allowance(account, NOW, RULES) == 0


def test_the_dispatcher_counts_what_is_on_its_way() -> None:
    account = admitted(window(100), NOW, RULES, 40)
    assert allowance(account, NOW, RULES) == 60
    for _ in range(40):
        account, _ = spend(account, NOW, SCHEDULED, RULES)
    assert allowance(account, NOW, RULES) == 60


# ---- a customer's budget


@pytest.mark.parametrize(
    ("status", "sent", "seconds"),
    [
        (200, {}, 0),
        (200, {"x-ms-throttle-limit-percentage": "0.79"}, 0),
        (200, {"x-ms-throttle-limit-percentage": "0.8"}, 0.5),
        (200, {"x-ms-throttle-limit-percentage": "1.0"}, 2.5),
        (200, {"x-ms-throttle-limit-percentage": "900"}, 10.5),
        (200, {"x-ms-throttle-limit-percentage": "much"}, 0),
        (200, {"ratelimit-remaining": "5", "ratelimit-reset": "20"}, 4),
        (200, {"ratelimit-remaining": "0", "ratelimit-reset": "900"}, 60),
        (429, {"retry-after": "7"}, 0),
        (429, {"retry-after": "7", "x-ms-throttle-scope": "Tenant_Application/Read/a/b"}, 7),
        (429, {"retry-after": "7", "ratelimit-reset": "31"}, 31),
        (503, {"retry-after": "40", "ratelimit-reset": "31"}, 40),
    ],
)
def test_graph_is_heeded_before_it_refuses(
    status: int, sent: dict[str, str], seconds: float
) -> None:
    assert wished_pause(Reply(status, b"", sent), NOW) == pytest.approx(seconds)


def test_sites_are_sharepoints() -> None:
    assert service_of("/v1.0/sites/getAllSites?$select=id") == "sharepoint"
    assert service_of("/v1.0/sites?search=*") == "sharepoint"
    assert service_of("/v1.0/users?$filter=a/sites") == "directory"
    assert service_of("/v1.0/$batch") == "directory"


@pytest.fixture(params=["local", "shared"])
def ledger(request: pytest.FixtureRequest, servers: Servers) -> Iterator[Ledger]:
    if request.param == "local":
        yield LocalLedger()
        return
    broker = redis.Redis.from_url(servers.redis_url)
    broker.flushall()
    shared = SharedLedger(servers.redis_url)
    yield shared
    shared.close()
    broker.close()


def test_a_throttled_customer_slows_nobody_else_and_no_other_service(ledger: Ledger) -> None:
    gate = Gate(ledger)
    busy = Reply(200, b"", {"x-ms-throttle-limit-percentage": "1.3"})
    gate.heed("entra/contoso", USERS, busy, time.time())
    seconds, why = gate.wait("entra/contoso", USERS, SCHEDULED)
    assert 3 < seconds <= 5.5
    assert "slow down" in why
    assert gate.wait("entra/contoso", "/v1.0/sites/getAllSites", SCHEDULED)[0] == 0
    assert gate.wait("entra/fabrikam", USERS, SCHEDULED)[0] == 0


def test_a_shorter_pause_does_not_end_a_longer_one(ledger: Ledger) -> None:
    gate = Gate(ledger)
    for used in ("1.8", "0.8"):
        reply = Reply(200, b"", {"x-ms-throttle-limit-percentage": used})
        gate.heed("entra/contoso", USERS, reply, time.time())
    assert gate.wait("entra/contoso", USERS, SCHEDULED)[0] > 8


def test_replies_teach_the_budget(ledger: Ledger) -> None:
    gate = Gate(ledger)
    assert gate.allowance() is None
    gate.learn(Reply(200, b"", headers(200, 2, 50)), time.time())
    assert gate.allowance() == 2
    assert [gate.wait("a", USERS, MANUAL)[0] for _ in range(2)] == [0, 0]
    assert 40 < gate.wait("a", USERS, MANUAL)[0] <= 51


def test_a_servers_clock_that_is_off_does_not_matter(ledger: Ledger) -> None:
    gate = Gate(ledger)
    late = time.time() - 1800
    told = headers(200, 0, 20 - 1800) | {
        "date": time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(late))
    }
    gate.learn(Reply(200, b"", told), time.time())
    assert 17 < gate.wait("a", USERS, MANUAL)[0] < 23


@pytest.mark.parametrize("odd", ["", "-1", "nan", "inf", "soon", "1e400"])
def test_odd_headers_teach_nothing(ledger: Ledger, odd: str) -> None:
    gate = Gate(ledger)
    gate.learn(Reply(200, b"", headers(200, 5, 50) | {"x-ratelimit-remaining": odd}), time.time())
    assert gate.allowance() is None


def test_threads_together_never_spend_more_than_there_is(ledger: Ledger) -> None:
    gate = Gate(ledger)
    gate.learn(Reply(200, b"", headers(200, 40, 50)), time.time())
    passed: list[float] = []

    def run() -> None:
        passed.extend(gate.wait("a", USERS, MANUAL)[0] for _ in range(10))

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(seconds == 0 for seconds in passed) == 40


# ---- Redis comes and goes


def test_two_processes_share_one_budget(servers: Servers) -> None:
    redis.Redis.from_url(servers.redis_url).flushall()
    one, other = (Gate(SharedLedger(servers.redis_url), account="x") for _ in range(2))
    one.learn(Reply(200, b"", headers(200, 1, 50)), time.time())
    assert other.wait("a", USERS, MANUAL)[0] == 0
    assert one.wait("a", USERS, MANUAL)[0] > 0


def test_a_flushed_redis_opens_the_gate_until_the_next_reply(servers: Servers) -> None:
    broker = redis.Redis.from_url(servers.redis_url)
    broker.flushall()
    gate = Gate(SharedLedger(servers.redis_url))
    gate.learn(Reply(200, b"", headers(200, 0, 50)), time.time())
    assert gate.wait("a", USERS, MANUAL)[0] > 0
    broker.flushall()
    assert gate.wait("a", USERS, MANUAL)[0] == 0
    gate.learn(Reply(200, b"", headers(200, 0, 50)), time.time())
    assert gate.wait("a", USERS, MANUAL)[0] > 0


def test_what_somebody_else_wrote_under_our_keys_is_started_over(servers: Servers) -> None:
    broker = redis.Redis.from_url(servers.redis_url)
    broker.flushall()
    gate = Gate(SharedLedger(servers.redis_url))
    gate.learn(Reply(200, b"", headers(200, 9, 50)), time.time())
    for key in broker.scan_iter(f"{PREFIX}*"):
        broker.set(key, b"\xff{")
    assert gate.wait("a", USERS, MANUAL)[0] == 0


def test_without_redis_a_process_keeps_its_own_budget() -> None:
    gate = Gate(SharedLedger("redis://127.0.0.1:9/0"))
    gate.learn(Reply(200, b"", headers(200, 1, 50)), time.time())
    assert gate.wait("a", USERS, MANUAL)[0] == 0
    began = time.monotonic()
    assert gate.wait("a", USERS, MANUAL)[0] > 0
    assert time.monotonic() - began < 0.5, "Redis is left alone for a while"


def _all(kind: type[BaseException]) -> Iterator[type[BaseException]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _all(below)


@pytest.mark.parametrize("kind", sorted(set(_all(redis.RedisError)), key=str), ids=str)
def test_every_failure_of_redis_has_a_meaning(kind: type[redis.RedisError]) -> None:
    fault = kind.__new__(kind)
    refused = redis.AuthenticationError | redis.exceptions.AuthorizationError
    wants = Halt if isinstance(fault, refused | redis.exceptions.NoPermissionError) else Away
    assert type(redis_trouble(fault)) is wants
