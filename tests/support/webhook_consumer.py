"""A webhook receiver that verifies requests, folds their events, and can fail on purpose."""

import time
from dataclasses import dataclass, field
from random import Random
from threading import Event, Lock
from typing import Any

from standardwebhooks import Webhook

from tests.support.consumer import Fold
from tests.support.webhook_receiver import ReceivedRequest, WebhookReceiver

WebhookAnswer = tuple[int, dict[str, str]]
ACCEPTED: WebhookAnswer = (204, {})


@dataclass
class WebhookConsumer:
    """Answers for a receiver, as long as it is there."""

    receiver: WebhookReceiver
    rng: Random
    fold: Fold = field(default_factory=Fold)
    fault_share: float = 0.02
    """Share of the requests that are answered 500; four times as many are answered 429."""
    keeps_events: bool = True
    """Whether the accepted events are kept."""
    accepted: list[dict[str, Any]] = field(default_factory=list)
    answer_counts: dict[int, int] = field(default_factory=dict)
    is_hanging: bool = False
    hung_count: int = 0
    """Requests that were not answered for a while; whoever sent them may have gone meanwhile."""
    fails_randomly: bool = True

    def __post_init__(self) -> None:
        self._free, self._guard = Event(), Lock()
        self._free.set()
        self._verifier = Webhook(self.receiver.secret)
        self.receiver.answer = self.answer

    def answer(self, got: ReceivedRequest) -> WebhookAnswer:
        """As the official library judges it; what is not ours raises, and gets no answer."""
        events = self._verifier.verify(got.body, got.headers)
        answer = self._draw_answer()
        if answer is ACCEPTED:
            self._wait_while_hanging()
            self._accept(events)
        self.answer_counts[answer[0]] = self.answer_counts.get(answer[0], 0) + 1
        return answer

    def hang(self) -> None:
        """From now on requests are taken and not answered."""
        self._free.clear()

    def release(self) -> None:
        self._free.set()
        self.is_hanging = False

    def _wait_while_hanging(self) -> None:
        if not self._free.is_set():
            self.is_hanging, self.hung_count = True, self.hung_count + 1
            self._free.wait(120)

    def _accept(self, events: list[dict[str, Any]]) -> None:
        with self._guard:
            self.fold.apply(events)
            if self.keeps_events:
                self.accepted += events

    def _draw_answer(self) -> WebhookAnswer:
        """Slow, and mostly well.

        A failure without Retry-After costs the sink 5 s, and 5 min the second time in a row.
        """
        if not self.fails_randomly:
            return ACCEPTED
        time.sleep(0.02)
        chance = self.rng.random()
        if chance < self.fault_share:
            return 500, {}
        if chance < 5 * self.fault_share:
            return 429, {"Retry-After": "1"}
        return ACCEPTED
