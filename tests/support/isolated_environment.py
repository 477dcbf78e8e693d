"""Servers, database and service of one acceptance test, not shared with other tests."""

from dataclasses import dataclass

import redis

from sandbox.servers import Servers
from tests.support.fault_proxy import FaultProxy
from tests.support.service import Service
from worker.store.engine import Database


@dataclass
class IsolatedEnvironment:
    """A service on servers that a test may kill: nobody else uses them."""

    service: Service
    servers: Servers
    database: Database
    nango_proxy: FaultProxy

    def get_pid(self, name: str) -> int:
        """The process of ``postgres`` or ``valkey``."""
        pid = self.servers.supervisor.get_pid(name)
        assert pid is not None, f"{name} does not run"
        return pid

    def run_redis(self, *command: str) -> object:
        """One command to Redis; its answer."""
        with redis.Redis.from_url(self.servers.redis_url) as client:
            answer: object = client.execute_command(*command)
            return answer
