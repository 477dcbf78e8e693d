"""Clocks and bounds of one connection, and what its metadata in Nango may change."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.resources import RESOURCES
from models.source import Mode
from worker.core.settings import load_settings
from worker.store.state.streams import Stream
from worker.sync.policy import METADATA_KEY, Policy, apply_overrides

DEFAULT = Policy()


def test_our_key_in_the_metadata_is_a_contract() -> None:
    assert METADATA_KEY == "tenant_mirror"


def test_the_defaults_are_those_of_the_settings() -> None:
    assert Policy.from_settings(load_settings()) == DEFAULT


def test_a_policy_follows_the_settings() -> None:
    policy = Policy.from_settings(load_settings(delta_seconds=77, guard_percent=33, cursor_days=3))
    assert (policy.delta_seconds, policy.guard_percent, policy.cursor_days) == (77, 33, 3)
    assert policy.enabled


@pytest.mark.parametrize("wanted", [None, {}])
def test_without_wishes_the_policy_stands(wanted: object) -> None:
    assert apply_overrides(DEFAULT, wanted) == (DEFAULT, None)


def test_wishes_within_bounds_are_granted() -> None:
    wanted = {
        "enabled": False,
        "initial_events": False,
        "delta_seconds": 60,
        "roles_seconds": 604_800,
        "sites_seconds": 300,
        "app_roles_seconds": 300,
        "other_app_roles_seconds": 3600,
        "full_walk_seconds": 3600,
        "guard_percent": 100,
        "guard_rows": 0,
    }
    policy, problem = apply_overrides(DEFAULT, wanted)
    assert problem is None
    assert {name: getattr(policy, name) for name in wanted} == wanted
    assert policy.cursor_days == DEFAULT.cursor_days


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("delta_seconds", 59, "from 60 to 86400"),
        ("delta_seconds", 86_401, "from 60 to 86400"),
        ("delta_seconds", 300.0, "whole number"),
        ("delta_seconds", "300", "whole number"),
        ("delta_seconds", True, "whole number"),
        ("delta_seconds", None, "whole number"),
        ("delta_seconds", [300], "whole number"),
        ("guard_percent", 0, "from 1 to 100"),
        ("guard_percent", 101, "from 1 to 100"),
        ("guard_percent", 12.5, "whole number"),
        ("guard_rows", -1, "from 0 to 1000000, not -1"),
        pytest.param("guard_rows", 10**400, "from 0", id="guard_rows-huge"),
        ("enabled", "yes", "true or false"),
        ("enabled", 1, "true or false"),
        ("enabled", None, "true or false"),
        ("initial_events", "no", "true or false"),
        ("cursor_days", 7, "not a setting"),
        ("first_full_walk_seconds", 60, "not a setting"),
        ("nonsense", 1, "not a setting"),
        ("", 1, "not a setting"),
        ("\ud800", 1, "not a setting"),
        ("delta_seconds", "\x00\ud800", "not '\\x00\\ud800'"),
    ],
)
def test_a_bad_wish_is_told_and_the_default_stands(name: str, value: Any, told: str) -> None:
    policy, problem = apply_overrides(DEFAULT, {name: value})
    assert policy == DEFAULT
    assert problem is not None
    assert told in problem
    assert repr(name[:40])[1:-1] in problem
    assert problem.isprintable()


def test_a_bad_wish_does_not_cost_a_good_one() -> None:
    policy, problem = apply_overrides(DEFAULT, {"delta_seconds": "x", "guard_rows": 7, "zzz": 1})
    assert (policy.delta_seconds, policy.guard_rows) == (300, 7)
    assert problem is not None
    assert problem == (
        "delta_seconds must be a whole number from 60 to 86400, not 'x'; 'zzz' is not a setting "
        "(enabled, delta_seconds, roles_seconds, sites_seconds, daily_seconds, app_roles_seconds, "
        "other_app_roles_seconds, full_walk_seconds, guard_percent, guard_rows, initial_events, "
        "resources, leave_out)"
    )


@pytest.mark.parametrize("wanted", ["x", 7, True, [], [{"enabled": False}], 1.5])
def test_wishes_that_are_no_object_are_told(wanted: object) -> None:
    policy, problem = apply_overrides(DEFAULT, wanted)
    assert policy == DEFAULT
    assert problem == "metadata key tenant_mirror must hold an object"


def test_a_long_name_is_not_repeated_whole() -> None:
    _, problem = apply_overrides(DEFAULT, {"x" * 5000: 1})
    assert problem is not None
    assert len(problem) < 300


wishes = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
names = st.sampled_from(
    ["enabled", "delta_seconds", "guard_rows", "guard_percent", "resources", "leave_out", "x"]
)


@given(wanted=wishes | st.dictionaries(names, wishes))
@settings(max_examples=200, deadline=None)
def test_any_wish_leaves_a_policy_within_bounds(wanted: Any) -> None:
    policy, _ = apply_overrides(DEFAULT, wanted)
    assert 60 <= policy.delta_seconds <= 86_400
    assert 1 <= policy.guard_percent <= 100
    assert 0 <= policy.guard_rows <= 1_000_000
    assert isinstance(policy.enabled, bool)


def test_a_customer_who_wants_fewer_rounds_gets_fewer_listings() -> None:
    policy, _ = apply_overrides(DEFAULT, {"delta_seconds": 86_400})
    listed = Stream(resource=RESOURCES["groups"], mode=Mode.LIST_ONLY)
    assert policy.get_interval(listed) == 86_400


@pytest.mark.parametrize(
    ("name", "mode", "seconds"),
    [
        ("users", Mode.PLAIN, 300),
        ("users", Mode.LIST_ONLY, 3600),
        ("groups", Mode.LIST_ONLY, 3600),
        ("groups", Mode.PLAIN, 300),
        ("sites", Mode.PLAIN, 21_600),
        ("sites", Mode.SEARCH, 21_600),
        ("role_definitions", Mode.PLAIN, 900),
        ("role_assignments", Mode.PLAIN, 900),
        ("role_assignments", Mode.BY_DEFINITION, 3600),
    ],
)
def test_every_stream_has_its_clock(name: str, mode: Mode, seconds: float) -> None:
    assert DEFAULT.get_interval(Stream(resource=RESOURCES[name], mode=mode)) == seconds
