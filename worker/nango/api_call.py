"""A request to Nango, and the budgets that it uses."""

from dataclasses import dataclass, field
from threading import Event

from models.run import RunTrigger
from worker.nango.transport import ResponseObserver


@dataclass(frozen=True)
class ApiCall:
    """A request and the budgets that it uses; without a connection it goes to Nango itself."""

    method: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    body: object = None
    connection: str | None = None
    lane: RunTrigger = RunTrigger.MANUAL
    single_attempt: bool = False
    batched_path: str | None = None
    observer: ResponseObserver | None = None
    response_seen: Event = field(default_factory=Event)
    """Set once an attempt has brought a response that proves that Nango works."""

    @property
    def charged_path(self) -> str:
        """The path that decides which of the customer's budgets is used."""
        return self.batched_path or self.path

    @property
    def wire_path(self) -> bytes:
        return (b"" if self.connection is None else b"/proxy") + self.path.encode("ascii")
