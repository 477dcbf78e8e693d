"""The tree of errors is the one that is drawn, and every error keeps who it is about."""

import copy
import inspect
import pickle
import re

import pytest

from worker.core import errors
from worker.core.errors import MalformedResponse, MirrorError, ResourceRefused, RetryNow

CLASSES = [
    value
    for _, value in inspect.getmembers(errors, inspect.isclass)
    if value.__module__ == errors.__name__
]


def _drawn() -> dict[str, str]:
    """Class to parent, as the docstring of the module draws it."""
    found: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"^    ([\s\u2502\u251c\u2514\u2500]*)(\w+)(?:\s{2,}\S.*)?$", line)
        if match is None:
            continue
        depth = len(match[1]) // 4
        del path[depth:]
        found[match[2]] = path[-1] if path else "Exception"
        path.append(match[2])
    return found


def test_the_tree_that_is_drawn_is_the_tree() -> None:
    assert _drawn() == {kind.__name__: kind.__bases__[0].__name__ for kind in CLASSES}


def test_every_error_is_said_to_mean_something() -> None:
    assert all(kind.__doc__ for kind in CLASSES)
    assert all(len(kind.__bases__) == 1 for kind in CLASSES)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_error_survives_pickling_with_its_identity(
    kind: type[MirrorError], protocol: int
) -> None:
    error = kind("busy", connection="entra/contoso", resource="users", after=2.5)
    again = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301
    assert type(again) is kind
    assert (again.message, again.connection, again.resource, again.after) == (
        "busy",
        "entra/contoso",
        "users",
        2.5,
    )
    assert str(again) == str(error)


def test_an_identity_that_was_filled_in_later_survives() -> None:
    error = MalformedResponse("torn")
    error.connection, error.resource = "c", "groups"
    assert str(copy.copy(error)) == "c/groups: torn"


def test_a_refusal_keeps_its_status_and_code() -> None:
    refused = ResourceRefused("no")
    refused.status, refused.code = 403, "accessDenied"
    again = pickle.loads(pickle.dumps(refused))  # noqa: S301
    assert (again.status, again.code) == (403, "accessDenied")


@pytest.mark.parametrize(
    ("connection", "resource", "text"),
    [
        ("entra/contoso", "users", "entra/contoso/users: busy"),
        ("entra/contoso", None, "entra/contoso: busy"),
        (None, "users", "users: busy"),
        (None, None, "busy"),
    ],
)
def test_an_error_says_whom_it_is_about(
    connection: str | None, resource: str | None, text: str
) -> None:
    assert str(RetryNow("busy", connection=connection, resource=resource)) == text
