"""The time in a tenant: it stands still, so that the same calls make the same directory."""

from datetime import UTC, datetime, timedelta

_START = datetime(2026, 6, 1, 8, tzinfo=UTC)


class TenantClock:
    """The time in a tenant. It moves by `advance`, and by itself only if it is `running`."""

    def __init__(self, *, running: bool = False) -> None:
        self._running = running
        self.advanced = 0.0
        """Seconds by which it was moved."""

    def tick(self, seconds: float) -> None:
        """Move the time, unless it moves by itself."""
        if not self._running:
            self.advanced += seconds

    def now(self) -> datetime:
        start = datetime.now(UTC) if self._running else _START
        return start + timedelta(seconds=self.advanced)

    def render(self, seconds: float = 0.0) -> str:
        """Return the time in as many seconds, in Graph's format."""
        return (self.now() + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
