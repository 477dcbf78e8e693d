"""What a message that cannot be sent means for a task."""

from typing import Any

import pytest
import redis
from kombu.exceptions import OperationalError

from worker.core.errors import ServerUnavailable
from worker.tasks.base import send_task


class Task:
    """A Celery task whose message cannot be sent."""

    def __init__(self, fail: Any) -> None:
        self._fail = fail

    def apply_async(self, arguments: tuple[object, ...], *, queue: str) -> None:
        assert (arguments, queue) == ((1,), "manual")
        self._fail()


def refuse(error: Exception) -> Any:
    def fail() -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    "fail",
    [
        refuse(OperationalError("away")),
        refuse(redis.exceptions.ConnectionError("away")),
        lambda: getattr(None, "client"),  # noqa: B009 - as kombu does with a closed channel
    ],
)
def test_a_broker_that_takes_no_message_is_away(fail: Any) -> None:
    with pytest.raises(ServerUnavailable):
        send_task(Task(fail), "manual", 1)


@pytest.mark.parametrize("fail", [lambda: getattr(None, "name"), lambda: getattr(1, "client")])  # noqa: B009
def test_a_bug_stays_one(fail: Any) -> None:
    with pytest.raises(AttributeError):
        send_task(Task(fail), "manual", 1)
