"""The budgets: when the next call may go out, and what replies teach."""

import threading
import time
from collections.abc import Iterator

import pytest
import redis
from celery import Celery

from models.run import RunTrigger
from sandbox.servers import Servers
from worker.core.errors import ConfigurationError, MirrorError, ServerUnavailable, StorageFull
from worker.core.net.retry_after import MAX_RETRY_AFTER
from worker.core.redis.errors import classify_redis_error
from worker.nango.budget import (
    WINDOW,
    AccountBudget,
    BudgetRules,
    ReportedWindow,
    compute_allowance,
    count_dispatched,
    learn_window,
    pause_until,
    roll_window,
    spend,
)
from worker.nango.kv_store import KEY_PREFIX, InMemoryStore, KeyValueStore, RedisStore
from worker.nango.limiter import RateLimiter
from worker.nango.response import ApiResponse
from worker.tasks.base import send_task

MANUAL, SCHEDULED, BACKFILL = RunTrigger.MANUAL, RunTrigger.SCHEDULED, RunTrigger.BACKFILL
RULES = BudgetRules()
NOW = 1_800_000_000.0
DIRECTORY = "directory"
SERVICES = (DIRECTORY, "sharepoint")


def window(left: int, limit: int = 200, **more: float) -> AccountBudget:
    """A window that ends in half a minute, as Nango has told."""
    return AccountBudget(limit, left, NOW + 30, int(NOW) + 30, **more)  # type: ignore[arg-type]


def told(left: int, seconds: int, limit: int = 200) -> ReportedWindow:
    return ReportedWindow(limit, left, int(NOW) + seconds, seconds)


def headers(limit: int, left: int, seconds: float) -> dict[str, str]:
    return {
        "x-ratelimit-limit": str(limit),
        "x-ratelimit-remaining": str(left),
        "x-ratelimit-reset": str(int(time.time() + seconds)),
    }


# ---- Nango's budget


def test_nothing_is_held_back_before_a_limit_is_known() -> None:
    account = AccountBudget()
    for _ in range(1000):
        account, wait = spend(account, NOW, SCHEDULED, RULES)
        assert wait == 0
    assert compute_allowance(account, NOW, SCHEDULED, RULES) is None


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
    assert spend(window(50, wanted_at=NOW - 121), NOW, SCHEDULED, RULES)[1] == 0
    assert spend(window(50, wanted_at=NOW, first_loads=10), NOW, SCHEDULED, RULES)[1] == 0


def test_first_loads_beyond_their_share_leave_what_the_clock_will_need() -> None:
    assert roll_window(window(80, by_clock=20), NOW + 31, RULES).others_before == 20
    assert roll_window(window(80, by_clock=20), NOW + 300, RULES).others_before == 0, "long ago"
    greedy = window(80, first_loads=50, others_before=100, by_clock=15, by_hand=5)
    assert spend(greedy, NOW, BACKFILL, RULES)[1] == 30
    assert spend(window(80, first_loads=49, others_before=100), NOW, BACKFILL, RULES)[1] == 0
    enough = window(81, first_loads=50, others_before=100, by_clock=20)
    assert spend(enough, NOW, BACKFILL, RULES)[1] == 0


def test_an_operators_bound_stands_whatever_nango_tells() -> None:
    rules = BudgetRules(calls_per_minute=3)
    account = AccountBudget()
    for _ in range(3):
        account, wait = spend(account, NOW, MANUAL, rules)
        account = learn_window(account, NOW, told(150, 40), rules)
        assert wait == 0
    assert spend(account, NOW, MANUAL, rules)[1] == WINDOW
    empty = learn_window(AccountBudget(), NOW, told(0, 40), rules)
    assert spend(empty, NOW, MANUAL, rules)[1] == 40


def test_the_lower_count_stands_and_a_new_window_is_taken_over() -> None:
    account = window(100)
    assert learn_window(account, NOW, told(120, 30), RULES).left == 100
    assert learn_window(account, NOW, told(90, 30), RULES).left == 90
    assert learn_window(account, NOW, told(199, 59), RULES).left == 199
    assert learn_window(account, NOW, told(700, 30, limit=1000), RULES).left == 700


def test_a_second_more_or_less_is_the_same_window_and_its_earlier_end_counts() -> None:
    for rounded in (29, 30, 31):
        account = learn_window(window(100), NOW, told(120, rounded), RULES)
        assert account.left == 100
        assert account.resets_at == NOW + min(30, rounded)


def test_an_answer_that_was_long_on_its_way_does_not_open_a_new_window() -> None:
    over = ReportedWindow(200, 3, int(NOW) - 5, -4.0)
    fresh = roll_window(window(0), NOW + 31, RULES)
    assert learn_window(fresh, NOW + 31, over, RULES) == fresh
    assert learn_window(window(90), NOW, over, RULES) == window(90)
    late = ReportedWindow(200, 3, int(NOW) + 30, 1.0)
    assert learn_window(fresh, NOW + 31, late, RULES) == fresh, "of the window before, by its name"
    assert learn_window(AccountBudget(), NOW, over, RULES).limit is None


def test_calls_under_way_count_when_a_limit_is_told_first() -> None:
    account = AccountBudget()
    for _ in range(10):
        account, _ = spend(account, NOW, SCHEDULED, RULES)
    assert learn_window(account, NOW, told(199, 59), RULES).left == 190


def test_a_limit_that_no_reply_tells_any_more_is_forgotten() -> None:
    account, _ = spend(window(0), NOW + 30, MANUAL, RULES)
    assert account.limit == 200
    account, _ = spend(account, NOW + 30 + WINDOW, MANUAL, RULES)
    assert account.limit is None
    idle = roll_window(roll_window(window(0), NOW + 30, RULES), NOW + 30 + WINDOW, RULES)
    assert idle.limit == 200, "nobody called, so nobody could tell"


def test_a_clock_that_was_set_back_holds_nobody_up() -> None:
    ahead = AccountBudget(200, 0, NOW + 9000, int(NOW) + 9000, paused_until=NOW + 900_000)
    assert spend(ahead, NOW, MANUAL, RULES)[1] == 0


def test_a_reset_far_away_is_not_believed() -> None:
    account = learn_window(AccountBudget(), NOW, ReportedWindow(1, 0, int(NOW) + 10**9, 1e9), RULES)
    assert account.resets_at <= NOW + 2 * WINDOW


def test_who_had_to_wait_by_the_clock_has_its_part_of_the_next_window() -> None:
    """What it got is not what it needed: first loads had taken the rest."""
    account = window(0, by_clock=3, first_loads=197)
    for _ in range(20):
        account, wait = spend(account, NOW, SCHEDULED, RULES)
        assert wait == 30
    for _ in range(177):
        account, wait = spend(account, NOW + 30, BACKFILL, RULES)
        assert wait == 0
    assert spend(account, NOW + 30, BACKFILL, RULES)[1] > 0
    for _ in range(23):
        account, wait = spend(account, NOW + 31, SCHEDULED, RULES)
        assert wait == 0


def test_a_dispatcher_that_finds_more_due_than_there_is_room_for_says_so() -> None:
    account = window(0, first_loads=190, by_clock=10)
    for waiting in (30, 40, 35):
        account = count_dispatched(account, NOW, RULES, 0, waiting)
    assert roll_window(account, NOW + 30, RULES).others_before == 50
    account = count_dispatched(account, NOW, RULES, 0, 9000)
    assert roll_window(account, NOW + 30, RULES).others_before == 150, (
        "first loads keep their share"
    )


def test_a_pause_holds_everybody_even_over_the_end_of_the_window() -> None:
    account = pause_until(window(100), NOW + 45)
    assert spend(account, NOW, MANUAL, RULES)[1] == 45
    assert spend(account, NOW + 40, MANUAL, RULES)[1] == pytest.approx(5)
    assert compute_allowance(account, NOW, SCHEDULED, RULES) == 0


def test_the_longer_of_a_pause_and_an_empty_window_is_told() -> None:
    assert spend(pause_until(window(0), NOW + 5), NOW, MANUAL, RULES)[1] == 30
    assert spend(pause_until(window(0), NOW + 45), NOW, MANUAL, RULES)[1] == 45


def test_the_dispatcher_counts_what_is_on_its_way() -> None:
    account = count_dispatched(window(100), NOW, RULES, 40, 0)
    assert compute_allowance(account, NOW, SCHEDULED, RULES) == 60
    for _ in range(40):
        account, _ = spend(account, NOW, SCHEDULED, RULES)
    assert compute_allowance(account, NOW, SCHEDULED, RULES) == 60
    for _ in range(20):
        account, _ = spend(account, NOW, MANUAL, RULES)
    assert compute_allowance(account, NOW, SCHEDULED, RULES) == 40, (
        "people are nobody's connection to come"
    )


def test_the_dispatcher_leaves_the_share_of_first_loads_alone() -> None:
    account = window(50, wanted_at=NOW)
    assert compute_allowance(account, NOW, SCHEDULED, RULES) == 0
    assert compute_allowance(account, NOW, BACKFILL, RULES) == 50


@pytest.mark.parametrize("limit", [1, 2, 3])
@pytest.mark.parametrize("lane", list(RunTrigger))
def test_of_the_smallest_budget_everybody_may_have_the_first_call(
    limit: int, lane: RunTrigger
) -> None:
    account = window(limit, limit, wanted_at=NOW, others_before=limit, first_loads=0)
    assert spend(account, NOW, lane, RULES)[1] == 0


def test_of_a_small_budget_a_first_load_has_one_call() -> None:
    assert spend(window(1, 3, wanted_at=NOW), NOW, SCHEDULED, RULES)[1] == 30
    assert spend(window(1, 3, wanted_at=NOW), NOW, BACKFILL, RULES)[1] == 0
    nothing = BudgetRules(first_load_share=0)
    assert spend(window(1, 3, wanted_at=NOW), NOW, SCHEDULED, nothing)[1] == 0


# ---- a customer's budget


@pytest.fixture(params=["local", "shared"])
def store(request: pytest.FixtureRequest, servers: Servers) -> Iterator[KeyValueStore]:
    if request.param == "local":
        yield InMemoryStore()
        return
    broker = redis.Redis.from_url(servers.redis_url)
    broker.flushall()
    shared = RedisStore(servers.redis_url)
    yield shared
    shared.close()
    broker.close()


def test_a_throttled_customer_slows_nobody_else_and_no_other_service(store: KeyValueStore) -> None:
    limiter = RateLimiter(store)
    limiter.pause_connection("entra/contoso", DIRECTORY, 5.8)
    seconds, why = limiter.try_acquire("entra/contoso", DIRECTORY, SCHEDULED)
    assert 5 < seconds <= 5.8
    assert "slow down" in why
    assert limiter.try_acquire("entra/contoso", "sharepoint", SCHEDULED)[0] == 0
    assert limiter.try_acquire("entra/fabrikam", DIRECTORY, SCHEDULED)[0] == 0


def test_a_shorter_pause_does_not_end_a_longer_one(store: KeyValueStore) -> None:
    limiter = RateLimiter(store)
    for seconds in (10, 0.5):
        limiter.pause_connection("entra/contoso", DIRECTORY, seconds)
    assert limiter.try_acquire("entra/contoso", DIRECTORY, SCHEDULED)[0] > 8


def test_replies_teach_the_budget(store: KeyValueStore) -> None:
    limiter = RateLimiter(store)
    assert limiter.read_allowance(SCHEDULED) is None
    limiter.learn_window(ApiResponse(200, b"", headers(200, 2, 50)), time.time())
    assert limiter.read_allowance(SCHEDULED) == 2
    assert [limiter.try_acquire("a", DIRECTORY, MANUAL)[0] for _ in range(2)] == [0, 0]
    assert 40 < limiter.try_acquire("a", DIRECTORY, MANUAL)[0] <= 51


def test_a_servers_clock_that_is_off_does_not_matter(store: KeyValueStore) -> None:
    limiter = RateLimiter(store)
    late = time.time() - 1800
    told = headers(200, 0, 20 - 1800) | {
        "date": time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(late))
    }
    limiter.learn_window(ApiResponse(200, b"", told), time.time())
    assert 17 < limiter.try_acquire("a", DIRECTORY, MANUAL)[0] < 23


@pytest.mark.parametrize("off", [4, -4, 3600, -3600, 7200, -7200, 10 * 86_400])
def test_a_hosts_clock_that_is_off_does_not_matter(store: KeyValueStore, off: int) -> None:
    limiter = RateLimiter(store)
    told = headers(200, 0, 20) | {
        "date": time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time()))
    }
    limiter.learn_window(ApiResponse(200, b"", told), time.time() + off)
    assert 17 < limiter.try_acquire("a", DIRECTORY, MANUAL)[0] < 23


@pytest.mark.parametrize("off", [7200, -7200])
def test_a_date_by_which_no_window_could_end_then_is_passed_over(
    store: KeyValueStore, off: int
) -> None:
    """It is of another server than the one that counts."""
    limiter = RateLimiter(store)
    told = headers(200, 0, 20) | {
        "date": time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + off))
    }
    limiter.learn_window(ApiResponse(200, b"", told), time.time())
    assert 17 < limiter.try_acquire("a", DIRECTORY, MANUAL)[0] < 23


def test_what_first_loads_wanted_at_a_time_to_come_is_forgotten_in_time() -> None:
    """Redis's clock was set back by an hour."""
    account = window(50, wanted_at=NOW + 3600)
    account, _ = spend(account, NOW, SCHEDULED, RULES)
    assert account.wanted_at == NOW


def test_an_operators_bound_has_a_ledger_of_its_own(store: KeyValueStore) -> None:
    """Else it would stay in force after it has been taken away."""
    bound = RateLimiter(store, rules=BudgetRules(calls_per_minute=1))
    assert [bound.try_acquire("a", DIRECTORY, MANUAL)[0] > 0 for _ in range(2)] == [False, True]
    assert RateLimiter(store).try_acquire("a", DIRECTORY, MANUAL)[0] == 0


def test_pauses_are_told_by_connection_and_service(store: KeyValueStore) -> None:
    limiter = RateLimiter(store)
    limiter.pause_connection("entra/contoso", "sharepoint", 31)
    found = limiter.read_pauses(["entra/contoso", "entra/fabrikam"], SERVICES)
    assert found.keys() == {"entra/contoso"}
    assert found["entra/contoso"].keys() == {"sharepoint"}
    assert 30 < found["entra/contoso"]["sharepoint"] <= 31
    assert limiter.read_pauses([], SERVICES) == {}


def test_a_pause_is_kept_under_the_key_that_workers_of_other_versions_read(
    store: KeyValueStore,
) -> None:
    RateLimiter(store).pause_connection("entra/contoso", "sharepoint", 31)
    _, (held,) = store.read(["pause:sharepoint:bc71d584701f55845e8cc35d"])
    assert held is not None


def test_no_pause_is_kept_for_longer_than_the_longest(store: KeyValueStore) -> None:
    limiter = RateLimiter(store)
    limiter.pause_connection("entra/contoso", "sharepoint", 1e9)
    pauses = limiter.read_pauses(["entra/contoso"], ["sharepoint"])
    assert pauses["entra/contoso"]["sharepoint"] <= MAX_RETRY_AFTER


@pytest.mark.parametrize("odd", ["", "-1", "nan", "inf", "soon", "1e400"])
def test_odd_headers_teach_nothing(store: KeyValueStore, odd: str) -> None:
    limiter = RateLimiter(store)
    limiter.learn_window(
        ApiResponse(200, b"", headers(200, 5, 50) | {"x-ratelimit-remaining": odd}), time.time()
    )
    assert limiter.read_allowance(SCHEDULED) is None


def test_threads_together_never_spend_more_than_there_is(store: KeyValueStore) -> None:
    limiter = RateLimiter(store)
    limiter.learn_window(ApiResponse(200, b"", headers(200, 40, 50)), time.time())
    passed: list[float] = []

    def run() -> None:
        passed.extend(limiter.try_acquire("a", DIRECTORY, MANUAL)[0] for _ in range(10))

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(seconds == 0 for seconds in passed) == 40


# ---- Redis comes and goes


def test_two_processes_share_one_budget(servers: Servers) -> None:
    redis.Redis.from_url(servers.redis_url).flushall()
    one, other = (RateLimiter(RedisStore(servers.redis_url), account="x") for _ in range(2))
    one.learn_window(ApiResponse(200, b"", headers(200, 1, 50)), time.time())
    assert other.try_acquire("a", DIRECTORY, MANUAL)[0] == 0
    assert one.try_acquire("a", DIRECTORY, MANUAL)[0] > 0


def test_a_flushed_redis_opens_the_gate_until_the_next_reply(servers: Servers) -> None:
    broker = redis.Redis.from_url(servers.redis_url)
    broker.flushall()
    limiter = RateLimiter(RedisStore(servers.redis_url))
    limiter.learn_window(ApiResponse(200, b"", headers(200, 0, 50)), time.time())
    assert limiter.try_acquire("a", DIRECTORY, MANUAL)[0] > 0
    broker.flushall()
    assert limiter.try_acquire("a", DIRECTORY, MANUAL)[0] == 0
    limiter.learn_window(ApiResponse(200, b"", headers(200, 0, 50)), time.time())
    assert limiter.try_acquire("a", DIRECTORY, MANUAL)[0] > 0


def test_what_somebody_else_wrote_under_our_keys_is_started_over(servers: Servers) -> None:
    broker = redis.Redis.from_url(servers.redis_url)
    broker.flushall()
    limiter = RateLimiter(RedisStore(servers.redis_url))
    limiter.learn_window(ApiResponse(200, b"", headers(200, 9, 50)), time.time())
    for key in broker.scan_iter(f"{KEY_PREFIX}*"):
        broker.set(key, b"\xff{")
    assert limiter.try_acquire("a", DIRECTORY, MANUAL)[0] == 0


def test_without_redis_a_process_keeps_its_own_budget() -> None:
    limiter = RateLimiter(RedisStore("redis://127.0.0.1:9/0"))
    limiter.learn_window(ApiResponse(200, b"", headers(200, 1, 50)), time.time())
    assert limiter.try_acquire("a", DIRECTORY, MANUAL)[0] == 0
    began = time.monotonic()
    assert limiter.try_acquire("a", DIRECTORY, MANUAL)[0] > 0
    assert time.monotonic() - began < 0.5, "Redis is left alone for a while"


def _all(kind: type[BaseException]) -> Iterator[type[BaseException]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _all(below)


@pytest.mark.parametrize("kind", sorted(set(_all(redis.RedisError)), key=str), ids=str)
def test_every_failure_of_redis_has_a_meaning(kind: type[redis.RedisError]) -> None:
    error = kind.__new__(kind)
    refused = redis.AuthenticationError | redis.exceptions.AuthorizationError
    wants: type[MirrorError] = ServerUnavailable
    if isinstance(error, refused | redis.exceptions.NoPermissionError):
        wants = ConfigurationError
    elif isinstance(error, redis.exceptions.OutOfMemoryError):
        wants = StorageFull
    assert type(classify_redis_error(error, "it needs all")) is wants


@pytest.fixture
def guest(servers: Servers) -> Iterator[str]:
    """The URL of Redis for a user who may do next to nothing."""
    admin = redis.Redis.from_url(servers.redis_url)
    admin.acl_setuser("guest", enabled=True, nopass=True, commands=["+ping"])
    yield servers.redis_url.replace("redis://", "redis://guest:any@")
    admin.acl_deluser("guest")
    admin.close()


def test_a_user_without_rights_is_told_those_that_the_budgets_need(guest: str) -> None:
    limiter = RateLimiter(RedisStore(guest))
    reason = limiter.find_write_error() or ""
    assert "Redis denies the user a command; the rate-limit budgets need GET" in reason
    assert f"on {KEY_PREFIX}*" in reason
    limiter.close()


def test_a_user_without_rights_is_told_those_that_the_queues_need(guest: str) -> None:
    app = Celery(broker=guest)
    app.conf.broker_transport_options = {"global_keyprefix": "tenant-mirror:"}

    @app.task
    def nothing() -> None: ...

    with pytest.raises(ConfigurationError, match="the queues need LPUSH"):
        send_task(nothing, "manual")
    app.close()


def test_a_redis_that_cannot_write_to_its_disk_is_full() -> None:
    error = classify_redis_error(
        redis.ResponseError("MISCONF Redis is configured to save RDB snapshots"), "it needs all"
    )
    assert isinstance(error, StorageFull)
    assert "space on that disk" in str(error)


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ("NOREPLICAS Not enough good replicas to write.", "(NOREPLICAS)"),
        ("UNBLOCKED force unblock from blocking operation", "(UNBLOCKED)"),
        ("ERR something with a value in it", "(ResponseError)"),
        ("unknown command", "(ResponseError)"),
    ],
)
def test_what_redis_refuses_is_named_by_its_code_alone(said: str, named: str) -> None:
    assert str(classify_redis_error(redis.ResponseError(said), "it needs all")).endswith(named)
