"""The password of Redis is replaced as docs/how-to/rotate-secrets.md says."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import redis

from models.run import RunTrigger
from sandbox.servers import Servers
from worker.nango.kv_store import RedisStore
from worker.nango.limiter import RateLimiter

USER = "rotated"


@pytest.fixture
def admin(servers: Servers) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(servers.redis_url) as client:
        client.execute_command("ACL", "SETUSER", USER, "reset", "on", ">old", "~*", "&*", "+@all")
        yield client
        client.execute_command("ACL", "DELUSER", USER)


def test_both_passwords_work_until_the_old_one_is_dropped(
    admin: redis.Redis, servers: Servers
) -> None:
    place = urlsplit(servers.redis_url)

    def works(password: str) -> bool:
        url = place._replace(netloc=f"{USER}:{password}@{place.hostname}:{place.port}").geturl()
        with redis.Redis.from_url(url) as client:
            try:
                client.ping()
            except redis.AuthenticationError:
                return False
        limiter = RateLimiter(RedisStore(url))
        limiter.try_acquire("entra/contoso", "directory", RunTrigger.SCHEDULED)
        limiter.close()
        return True

    assert works("old")
    assert not works("new")
    admin.execute_command("ACL", "SETUSER", USER, ">new")  # type: ignore[no-untyped-call]
    assert works("old")
    assert works("new")
    admin.execute_command("ACL", "SETUSER", USER, "<old")  # type: ignore[no-untyped-call]
    assert not works("old")
    assert works("new")
