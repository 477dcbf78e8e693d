"""One look at the fleet for all requests, a second old, or a few where it takes long to load."""

import time
from threading import Condition, Thread
from typing import Final

from worker.core.errors import ServerUnavailable
from worker.core.settings import Settings
from worker.overview.budget import FollowedLimiter
from worker.overview.fleet import Fleet, load_fleet
from worker.store.engine import Database

MIN_FRESH_SECONDS: Final = 1.0
MAX_FRESH_SECONDS: Final = 5.0
"""Ages up to which a look is used as it is; within these, three times as long as its load took."""
STALE_SECONDS: Final = 4.0
"""How much older a look may be while the next one is loaded."""
HEAD_START_SECONDS: Final = 0.05
"""For a request that is answered with an older look, before the next load competes with it."""
CLOSE_SECONDS: Final = 3.0
MAX_WAIT_SECONDS: Final = 9.0
"""A second less than the deadline of a request."""


class FleetCache:
    """Keeps the newest look. One thread at a time loads the next one. Safe to use from several."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._limiter = FollowedLimiter(settings)
        self._changed = Condition()
        self._fleet: Fleet | None = None
        self._readable: Fleet | None = None
        """The newest look for which Postgres answered."""
        self._begun_at = 0.0
        """When the load of the present look began."""
        self._wanted_at = 0.0
        """Looks whose load began before then are not used."""
        self._fresh_seconds = MIN_FRESH_SECONDS
        self._is_loading = False
        self._error: BaseException | None = None

    def get(self, usable_seconds: float = 0.0, stale_seconds: float = STALE_SECONDS) -> Fleet:
        """Return a look at the fleet; wait for one only if that at hand is too old.

        A look up to ``usable_seconds`` old is used as it is. One that is older than that by up to
        ``stale_seconds`` is used while the next one is loaded.
        """
        asked = time.monotonic()
        with self._changed:
            if self._is_usable(asked, usable_seconds - self._fresh_seconds):
                assert self._fleet is not None
                return self._fleet
            has_old = self._is_usable(asked, stale_seconds)
            self._start_loading(HEAD_START_SECONDS if has_old else 0.0)
            while not self._is_usable(asked, stale_seconds):
                left = MAX_WAIT_SECONDS - (time.monotonic() - asked)
                if not self._changed.wait(max(0.0, left)) and left <= 0:
                    raise ServerUnavailable("the state of the fleet could not be read in time")
                if self._error is not None:
                    raise self._error
                if not self._is_loading and not self._is_usable(asked, stale_seconds):
                    self._start_loading()
            assert self._fleet is not None
            return self._fleet

    def get_readable(
        self, usable_seconds: float = 0.0, stale_seconds: float = STALE_SECONDS
    ) -> Fleet:
        """Return a look as ``get`` does. Raises ServerUnavailable if Postgres cannot be read."""
        fleet = self.get(usable_seconds, stale_seconds)
        if fleet.service.database_problem is not None:
            raise ServerUnavailable(fleet.service.database_problem)
        return fleet

    def get_last_readable(self) -> Fleet | None:
        """Return the newest look for which Postgres answered, however old; None: no look yet."""
        with self._changed:
            return self._readable

    def invalidate(self) -> None:
        """Let the next request wait for a look that begins after now."""
        with self._changed:
            self._wanted_at = time.monotonic()

    def close(self) -> None:
        """Wait for the load that is under way, which uses the database, but not for long."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_loading, timeout=CLOSE_SECONDS)
        self._limiter.close()

    def _is_usable(self, asked: float, more_seconds: float) -> bool:
        is_wanted = self._fleet is not None and self._begun_at >= self._wanted_at
        return is_wanted and asked - self._begun_at < self._fresh_seconds + max(0.0, more_seconds)

    def _start_loading(self, delay: float = 0.0) -> None:
        if not self._is_loading:
            self._is_loading, self._error = True, None
            Thread(target=self._load, args=(delay,), name="fleet", daemon=True).start()

    def _load(self, delay: float) -> None:
        time.sleep(delay)
        begun = time.monotonic()
        fleet, error = None, None
        try:
            fleet = load_fleet(self._database, self._settings, limiter=self._limiter.get())
            if (previous := self._readable) is not None:
                fleet.prepare_like(previous)
        except BaseException as raised:  # noqa: BLE001 - raised again in the threads that wait
            error = raised
        with self._changed:
            self._is_loading, self._error = False, error
            if fleet is not None:
                self._fleet, self._begun_at = fleet, begun
                if fleet.service.database_problem is None:
                    self._readable = fleet
                took = 3 * (time.monotonic() - begun)
                self._fresh_seconds = min(MAX_FRESH_SECONDS, max(MIN_FRESH_SECONDS, took))
            self._changed.notify_all()
