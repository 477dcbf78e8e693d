"""What the page can do about each condition."""

import pytest

from worker.conditions.condition import Code
from worker.page.page_actions import CONNECTION_ACTIONS, SERVICE_ACTIONS, WITHOUT_ACTION
from worker.page.routes import PAGES


@pytest.mark.parametrize("code", Code)
def test_each_condition_has_an_action_or_says_where_it_is_corrected(code: Code) -> None:
    assert code in {*CONNECTION_ACTIONS, *SERVICE_ACTIONS, *WITHOUT_ACTION}
    assert not (code in SERVICE_ACTIONS and code in WITHOUT_ACTION)


def test_actions_lead_to_pages_that_exist() -> None:
    paths = {one.path for one in PAGES if one.method == "GET"}
    for actions in CONNECTION_ACTIONS.values():
        assert all(
            one.path.startswith("#") or f"/connections/{{connection_id}}{one.path}" in paths
            for one in actions
        )
    assert {one.path for actions in SERVICE_ACTIONS.values() for one in actions} <= paths
