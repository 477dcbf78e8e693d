"""Events are described by the names of what they are about."""

from tests.support.analysts import Analysts
from worker.events.event import Position
from worker.events.object_names import describe_object, load_object_names
from worker.events.read import read_events_after


def test_a_permission_is_named_and_whose_it_is(analysts: Analysts) -> None:
    graph = analysts.contoso.service_principals.props_at(0)
    robot = analysts.contoso.service_principals.props_at(3)["displayName"]
    with analysts.database.open_transaction() as db:
        every = read_events_after(db, Position(1, 0, None), 100_000)
        events = [one for one in every if one.resource == "app_role_assignments"]
        names = load_object_names(db, 1, events)
    described = {describe_object(one, names) for one in events}
    role = graph["appRoles"][0]["value"]
    assert f"{robot} as {role} of {graph['displayName']}" in described
