"""Injects a failure every few seconds, drawn from a seeded generator: kills, restarts, lost leases.

A blow that needs mending later (a connection that is cut, a process that is stopped) puts that
on a list; `rest` does all of it at once, before a calm.
"""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Final

import redis
from celery import Celery
from kombu.exceptions import OperationalError
from sqlalchemy import text

from tests.soak.consumers import STREAM, Consumers
from tests.soak.fault_schedule import REVOKED, FaultSchedule
from tests.soak.fleet import Customer, Fleet
from tests.soak.processes import is_alive
from tests.soak.service import CONSUMER, LEASE_SECONDS, RELAYS, WORKERS, SoakService
from worker.app import build_configuration
from worker.core.errors import MirrorError
from worker.core.process.identity import parse_identity
from worker.core.settings import load_settings
from worker.delivery.deliver import LEASE_SECONDS as SINK_SECONDS
from worker.store.lease import interrupt_writer
from worker.store.state.connections import request_resync
from worker.sync.finish.approve import approve_held, reject_held

REFUSABLE: Final = ("users", "groups", "role_definitions", "role_assignments")
"""Resources that may be refused for a while and come back whole; sites would go on by search."""


class NothingToHit(Exception):
    """There was nothing to hit just now."""


@dataclass
class Chaos:
    """Strikes blows; knows how to mend them."""

    service: SoakService
    fleet: Fleet
    fault_schedule: FaultSchedule
    downstream: Consumers
    rng: Random
    faults_injected: Counter[str] = field(default_factory=Counter)
    faults_skipped: Counter[str] = field(default_factory=Counter)
    history: list[str] = field(default_factory=list)
    """Every blow, with the time of day."""

    def __post_init__(self) -> None:
        self._repairs: list[tuple[float, Callable[[], object]]] = []
        self._celery = _build_sender(self.service)
        self._redis = redis.Redis.from_url(
            self.service.redis_url, socket_timeout=3, socket_connect_timeout=2
        )
        self._faults: Mapping[str, tuple[int, Callable[[], str]]] = {
            "expire delta tokens": (6, self._expire_delta),
            "expire page tokens": (6, self._expire_pages),
            "delete a third of the users": (4, self._delete_many),
            "disconnect for a while": (6, self._disconnect),
            "revoke a token for a while": (6, self._revoke),
            "refuse a resource for a while": (6, self._refuse),
            "refuse Nango's key for a while": (1, self._refuse_key),
            "ask for a full resync": (4, self._resync),
            "an operator decides on held deletions": (8, self._decide_held),
            "kill a pool process": (12, self._kill_pool),
            "kill a worker": (4, self._kill_worker),
            "kill maintenance": (2, lambda: self._kill("maintenance")),
            "kill beat": (2, lambda: self._kill("beat")),
            "stop a worker politely": (2, self._stop_worker),
            "freeze a pool process past its lease": (8, self._freeze),
            "empty the broker": (4, self._flush_broker),
            "cut the broker's clients": (4, self._cut_clients),
            "kill the broker": (2, lambda: self._kill("valkey")),
            "crash Postgres": (2, self._crash_postgres),
            "double messages": (10, self._duplicate_messages),
            "steal a lease": (8, self._steal),
            "kill a relay": (6, lambda: self._kill(self.rng.choice(RELAYS))),
            "stop a relay politely": (2, self._stop_relay),
            "freeze a relay past its lease": (4, self._freeze_relay),
            "kill the consumer": (4, lambda: self._kill(CONSUMER)),
            "lose entries that nobody has read": (4, self._lose_entries),
            "have the webhook hang for a while": (4, self._hang_webhook),
            "an operator resumes sinks": (4, self._resume),
        }

    @property
    def kills(self) -> int:
        killing = ("kill", "crash", "stop")
        return sum(n for name, n in self.faults_injected.items() if name.startswith(killing))

    # ---- from outside

    def inject_fault(self) -> None:
        """One blow, of a kind drawn by weight."""
        names = list(self._faults)
        (name,) = self.rng.choices(names, [self._faults[one][0] for one in names])
        try:
            what = self._faults[name][1]()
        except (NothingToHit, LookupError):
            self.faults_skipped[name] += 1
            return
        except (MirrorError, redis.RedisError, OperationalError, OSError) as error:
            # Blows fall on a service that is down already, too.
            self.faults_skipped[name] += 1
            self._note(f"{name}: not possible ({type(error).__name__})")
            return
        self.faults_injected[name] += 1
        self._note(f"{name}: {what}")

    def repair_due(self) -> None:
        """Mend what is due to be mended."""
        now = time.monotonic()
        due = [act for at, act in self._repairs if at <= now]
        self._repairs = [(at, act) for at, act in self._repairs if at > now]
        for act in due:
            act()

    def repair_all(self) -> None:
        """Mend everything; nothing is broken from now on."""
        for _, act in self._repairs:
            act()
        self._repairs.clear()
        self.fault_schedule.stop()
        self.downstream.stop_faults()
        self.fleet.stop_changes()

    def _note(self, line: str) -> None:
        self.history.append(f"{time.strftime('%H:%M:%S')} {line}")

    def _schedule_repair(self, low: float, high: float, act: Callable[[], object]) -> None:
        self._repairs.append((time.monotonic() + self.rng.uniform(low, high), act))

    # ---- tenants and connections

    def _pick_customer(self) -> Customer:
        return self.rng.choice(self.fleet.connected_customers)

    def _expire_delta(self) -> str:
        customer = self._pick_customer()
        customer.tenant.expire_delta_tokens()
        return customer.name

    def _expire_pages(self) -> str:
        customer = self._pick_customer()
        customer.tenant.expire_page_tokens()
        return customer.name

    def _delete_many(self) -> str:
        customer = self._pick_customer()
        return f"{self.fleet.delete_many(customer, self.rng)} of {customer.name}"

    def _disconnect(self) -> str:
        customer = self._pick_customer()
        if len(self.fleet.connected_customers) < len(self.fleet.customers) - 3:
            raise NothingToHit
        self.fleet.disconnect(customer)
        self._schedule_repair(2, 60, lambda: self._reconnect(customer))
        return customer.name

    def _reconnect(self, customer: Customer) -> None:
        """As it was, or anew: under another id, whether or not it was found gone meanwhile."""
        anew = self.rng.random() < 0.4
        self.faults_injected["reconnect anew" if anew else "reconnect"] += 1
        self.fleet.reconnect(customer, anew=anew)

    def _revoke(self) -> str:
        name = self._pick_customer().connection_id
        kind = self.fault_schedule.revoked[name] = self.rng.choice(REVOKED)
        self._schedule_repair(5, 60, lambda: self.fault_schedule.revoked.pop(name, None))
        return f"{name}: {kind}"

    def _refuse_key(self) -> str:
        self.fault_schedule.key_is_refused = True
        self._schedule_repair(2, 10, self._accept_key)
        return "for everybody"

    def _accept_key(self) -> None:
        self.fault_schedule.key_is_refused = False

    def _refuse(self) -> str:
        connection = self.fleet.get_connection(self._pick_customer())
        resource = self.rng.choice(REFUSABLE)
        connection.refused_resources.add(resource)
        self._schedule_repair(5, 60, lambda: connection.refused_resources.discard(resource))
        return f"{resource} of {connection.connection_id}"

    # ---- operators

    def _pick_connection(self, condition: str) -> int:
        """One of the mirrored connections that meet a condition."""
        statement = text(f"select c.id from sync.connections c where {condition} order by id")
        with self.service.database.open_transaction() as db:
            found = list(db.execute(statement).scalars())
        if not found:
            raise NothingToHit
        return int(self.rng.choice(found))

    def _resync(self) -> str:
        connection_id = self._pick_connection("c.status = 'active'")
        with self.service.database.open_transaction() as db:
            request_resync(db, connection_id, None, full=self.rng.random() < 0.5)
        return f"connection {connection_id}"

    def _decide_held(self) -> str:
        connection_id = self._pick_connection(
            "exists (select from sync.streams s where s.connection_id = c.id and s.phase = 'held')"
        )
        if self.rng.random() < 0.2:
            dropped = reject_held(self.service.database, connection_id)
            return f"connection {connection_id}: rejected {dropped}"
        deleted = approve_held(self.service.database, connection_id)
        return f"connection {connection_id}: approved {deleted}"

    # ---- processes

    def _pick_pool_process(self) -> int:
        """A process that runs tasks; one that holds a lease, where there is one."""
        pools = [pid for name in WORKERS for pid in self.service.list_pool(name)]
        busy = [pid for pid in self._list_holders() if pid in pools]
        if not pools:
            raise NothingToHit
        return self.rng.choice(busy or pools)

    def _list_holders(self) -> list[int]:
        statement = text("select holder from sync.leases where expires_at > clock_timestamp()")
        with self.service.database.open_transaction() as db:
            holders = db.execute(statement).scalars()
            found = [parse_identity(holder) for holder in holders]
            return [holder.pid for holder in found if holder is not None]

    def _kill_pool(self) -> str:
        pid = self._pick_pool_process()
        self.service.killed_pids.add(pid)
        os.kill(pid, signal.SIGKILL)
        return f"process {pid}"

    def _kill_worker(self) -> str:
        return self._kill(self.rng.choice(WORKERS))

    def _stop_worker(self) -> str:
        return self._kill(self.rng.choice(WORKERS), signal.SIGTERM)

    def _crash_postgres(self) -> str:
        return self._kill("postgres", signal.SIGQUIT)

    def _kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> str:
        pid = self.service.expect_death(name)
        if pid is None:
            raise NothingToHit
        os.kill(pid, number)
        return f"{name} ({pid})"

    def _freeze(self) -> str:
        pid = self._pick_pool_process()
        os.kill(pid, signal.SIGSTOP)
        self._schedule_repair(LEASE_SECONDS + 2, LEASE_SECONDS + 15, lambda: _resume_process(pid))
        return f"process {pid}"

    # ---- relays, and who gets the events

    def _stop_relay(self) -> str:
        return self._kill(self.rng.choice(RELAYS), signal.SIGTERM)

    def _freeze_relay(self) -> str:
        pid = self.service.supervisor.get_pid(self.rng.choice(RELAYS))
        if pid is None:
            raise NothingToHit
        os.kill(pid, signal.SIGSTOP)
        self._schedule_repair(SINK_SECONDS + 2, SINK_SECONDS + 15, lambda: _resume_process(pid))
        return f"process {pid}"

    def _lose_entries(self) -> str:
        """The stream goes while its consumer is stopped."""
        pid = self.service.supervisor.get_pid(CONSUMER)
        if pid is None:
            raise NothingToHit
        os.kill(pid, signal.SIGSTOP)
        self._schedule_repair(2, 15, lambda: self._lose_stream(pid))
        return f"while process {pid} is stopped"

    def _lose_stream(self, pid: int) -> None:
        with suppress(redis.RedisError):
            self._redis.delete(STREAM)
        _resume_process(pid)

    def _hang_webhook(self) -> str:
        self.downstream.hang_webhook()
        self._schedule_repair(2, 30, self.downstream.webhook.release)
        return "every request"

    def _resume(self) -> str:
        names = self.downstream.resume_sinks()
        if not names:
            raise NothingToHit
        return ", ".join(names)

    # ---- the broker and its messages

    def _flush_broker(self) -> str:
        self._redis.flushall()
        return "everything"

    def _cut_clients(self) -> str:
        number = self._redis.client_kill_filter(_type="normal", skipme=True)
        return f"{number} connections"

    def _duplicate_messages(self) -> str:
        connection_id = self._pick_connection("c.status in ('active', 'broken')")
        number = self.rng.randint(2, 6)
        for _ in range(number):
            self._celery.send_task(
                "sync.slice", (connection_id, "scheduled"), queue="scheduled", retry=False
            )
        return f"{number} for connection {connection_id}"

    def _steal(self) -> str:
        """What every write from outside a run does: raise the token, free the lease."""
        held = "exists (select from sync.leases l where l.connection_id = c.id {})"
        try:
            connection_id = self._pick_connection(
                held.format("and l.expires_at > clock_timestamp()")
            )
        except NothingToHit:
            connection_id = self._pick_connection(held.format(""))
        with interrupt_writer(self.service.database, connection_id):
            pass
        return f"connection {connection_id}"


def _resume_process(pid: int) -> None:
    with suppress(ProcessLookupError):
        if is_alive(pid):
            os.kill(pid, signal.SIGCONT)


def _build_sender(service: SoakService) -> Celery:
    """Someone else who sends our messages."""
    sender = Celery("soak", set_as_current=False)
    sender.config_from_object(build_configuration(load_settings(redis_url=service.redis_url)))
    return sender
