"""What the audit says of the parameters of an action."""

from typing import Any

import pytest

from worker.operations.parameter_text import describe_parameters


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({}, ""),
        ({"resources": [], "full": False, "even_if_paused": False}, ""),
        ({"resources": ["users", "sites"], "full": True}, "only users, sites, full"),
        ({"reason": None, "until": None}, ""),
        (
            {"reason": "moving", "until": "2126-12-01T06:00:00+02:00"},
            "reason: moving, until 2126-12-01 04:00 UTC",
        ),
        (
            {
                "expected": {
                    "users": {"count": 1234, "digest": "1f6c"},
                    "group_members": {"count": 2},
                }
            },
            "seen: 1,234 users, 2 group members",
        ),
        ({"filter": {"conditions": [], "statuses": [], "text": ""}}, "filter: all"),
        (
            {"filter": {"conditions": ["late"], "statuses": ["broken"], "text": "fab"}},
            "filter: condition late, status broken, text 'fab'",
        ),
        (
            {"filter": {"attention": True, "ids": [1, 2]}},
            "filter: those that need attention, 2 listed connections",
        ),
        ({"connections": [1, 2, 3, 4, 5, 6, 7]}, "connections: 1, 2, 3, 4, 5 and 2 more"),
        (
            {
                "kind": "webhook",
                "from": None,
                "settings": {"allow_http": True, "host": "a.example"},
            },
            "kind: webhook, allow http: yes, host: a.example",
        ),
    ],
)
def test_parameters_are_told_in_words_without_defaults(given: dict[str, Any], text: str) -> None:
    assert describe_parameters(given) == text
