"""The views for people."""

from sqlalchemy import text

from tests.conftest import Mirror
from tests.support.mirror import mirrored, scalar


def test_the_views_show_live_rows_with_names(mirror: Mirror) -> None:
    truth = mirrored(mirror.database)
    for name in ("users", "groups", "group_members", "sites", "role_assignments"):
        assert (
            scalar(mirror.database, f"select count(*) from analytics.{name}") == truth[name].count
        )
    with mirror.database.begin() as connection:
        row = (
            connection.execute(
                text(
                    "select * from analytics.group_members"
                    " where member_type = 'user' and member_name is not null limit 1"
                )
            )
            .mappings()
            .one()
        )
    assert row["organization"] == "Contoso"
    assert row["group_name"]
    assert scalar(mirror.database, "select count(*) from analytics.connections") == 1


def test_a_retired_connection_is_not_shown(mirror: Mirror) -> None:
    with mirror.database.begin() as connection:
        connection.execute(text("update sync.connections set status = 'retired'"))
    assert scalar(mirror.database, "select count(*) from analytics.users") == 0
    assert scalar(mirror.database, "select count(*) from directory.users") == 60
