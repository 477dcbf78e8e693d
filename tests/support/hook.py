"""Who stands behind a webhook: verifies each request, folds its events, and has moods."""

import time
from dataclasses import dataclass, field
from random import Random
from threading import Event, Lock
from typing import Any

from standardwebhooks import Webhook

from tests.support.consumer import Fold
from tests.support.receiver import Got, Receiver

Answer = tuple[int, dict[str, str]]
TAKEN: Answer = (204, {})


@dataclass
class Hook:
    """Answers for a receiver, as long as it is there."""

    receiver: Receiver
    rng: Random
    fold: Fold = field(default_factory=Fold)
    faults: float = 0.02
    """Share of the requests that are answered 500; four times as many are answered 429."""
    keep: bool = True
    """Whether the accepted events are kept."""
    accepted: list[dict[str, Any]] = field(default_factory=list)
    answers: dict[int, int] = field(default_factory=dict)
    hanging: bool = False
    hung: int = 0
    """Requests that were not answered for a while; whoever sent them may have gone meanwhile."""
    moody: bool = True

    def __post_init__(self) -> None:
        self._free, self._guard = Event(), Lock()
        self._free.set()
        self._verifier = Webhook(self.receiver.secret)
        self.receiver.answer = self.answer

    def answer(self, got: Got) -> Answer:
        """As the official library judges it; what is not ours raises, and gets no answer."""
        events = self._verifier.verify(got.body, got.headers)
        answer = self._mood()
        if answer is TAKEN:
            self._wait()
            self._take(events)
        self.answers[answer[0]] = self.answers.get(answer[0], 0) + 1
        return answer

    def hang(self) -> None:
        """From now on requests are taken and not answered."""
        self._free.clear()

    def release(self) -> None:
        self._free.set()
        self.hanging = False

    def _wait(self) -> None:
        if not self._free.is_set():
            self.hanging, self.hung = True, self.hung + 1
            self._free.wait(120)

    def _take(self, events: list[dict[str, Any]]) -> None:
        with self._guard:
            self.fold.take(events)
            if self.keep:
                self.accepted += events

    def _mood(self) -> Answer:
        """Slow, and mostly well.

        A failure without Retry-After costs the sink 5 s, and 5 min the second time in a row.
        """
        if not self.moody:
            return TAKEN
        time.sleep(0.02)
        chance = self.rng.random()
        if chance < self.faults:
            return 500, {}
        if chance < 5 * self.faults:
            return 429, {"Retry-After": "1"}
        return TAKEN
