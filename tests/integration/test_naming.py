"""Customers are named by what people call them, and what is ambiguous is listed."""

from collections.abc import Iterator

import pytest
from sqlalchemy import text

from tests.support.databases import DatabaseFactory
from tests.support.mirror import Mirror, fetch_scalar
from worker.core.errors import NotFound
from worker.overview.fleet import load_fleet
from worker.overview.listing import ConnectionFilter, match_ids
from worker.store.engine import Database
from worker.store.state.connections import find_connection

FIRST = "0d6a3f52-aaaa-4bbb-8ccc-000000000001"
SECOND = "0d6a3f52-aaaa-4bbb-8ccc-000000000002"
TENANT = "11112222-3333-4444-5555-666677778888"
CUSTOMERS = (
    (FIRST, "entra", TENANT, "Contoso", "active"),
    (SECOND, "entra", None, "Fabrikam", "active"),
    ("fabrikam", "other", None, "Tailspin", "active"),
    ("old", "entra", None, "Contoso", "retired"),
    ("1", "entra", None, "365", "active"),
    ("x1", "entra", None, "Twin", "active"),
    ("x2", "entra", None, "twin", "active"),
)


@pytest.fixture(scope="module")
def customers(cluster: DatabaseFactory) -> Iterator[Database]:
    url = cluster.create_migrated()
    database = Database(url)
    statement = text(
        "insert into sync.connections (nango_connection_id, provider_config_key, provider,"
        " tenant_id, display_name, status)"
        " values (:id, :integration, 'microsoft', :tenant, :name, :status)"
    )
    names = ("id", "integration", "tenant", "name", "status")
    with database.open_transaction() as db:
        for one in CUSTOMERS:
            db.execute(statement, dict(zip(names, one, strict=True)))
    yield database
    database.close()
    cluster.drop(url)


@pytest.mark.parametrize(
    ("named", "number"),
    [
        ("1", 1),
        ("5", 5),
        ("365", 5),
        (FIRST, 1),
        (f"entra/{SECOND}", 2),
        (TENANT, 1),
        (TENANT.upper(), 1),
        ("contoso", 1),
        ("CONTOSO", 1),
        ("Tailspin", 3),
        ("fabrikam", 3),
        ("Fabrikam", 2),
        ("1111", 1),
        ("11112222-33", 1),
        (SECOND[:-1] + "2", 2),
        ("old", 4),
    ],
)
def test_a_customer_is_found_by_what_people_call_it(
    customers: Database, named: str, number: int
) -> None:
    with customers.open_transaction() as db:
        assert find_connection(db, named).id == number


@pytest.mark.parametrize(
    ("named", "listed"),
    [("0d6a3f52", ("1 (Contoso", "2 (Fabrikam")), ("TWIN", ("6 (Twin", "7 (twin"))],
)
def test_what_is_ambiguous_is_listed_with_its_numbers(
    customers: Database, named: str, listed: tuple[str, ...]
) -> None:
    with customers.open_transaction() as db, pytest.raises(NotFound) as caught:
        find_connection(db, named)
    assert all(one in str(caught.value) for one in listed)
    assert "is ambiguous" in str(caught.value)


def test_a_customer_is_found_by_a_domain_of_its_tenant(mirror: Mirror) -> None:
    mirror.sync()
    domain = mirror.tenant.domain
    with mirror.database.open_transaction() as db:
        assert find_connection(db, domain.upper()).id == 1
        with pytest.raises(NotFound, match="there is no"):
            find_connection(db, f"x{domain}")
    fleet = load_fleet(mirror.database, mirror.runtime.settings)
    for words in (domain, domain[2:].upper()):
        assert match_ids(fleet, ConnectionFilter(text=words)) == [1]
    assert match_ids(fleet, ConnectionFilter(text=f"x{domain}")) == []


def test_a_full_walk_stores_the_domains_that_users_sign_in_with_now(mirror: Mirror) -> None:
    mirror.sync()
    users, domain = mirror.tenant.users, mirror.tenant.domain
    for index in range(3):
        name = f"ann{index}@Sub.{domain}" if index < 2 else "nobody"
        mirror.tenant.update_user(users.id_at(index), userPrincipalName=name)
    mirror.tenant.delete_user(mirror.tenant.create_user(userPrincipalName=f"x@old.{domain}"))
    mirror.sync()
    statement = "select array_to_string(domains, ' ') from sync.connections"
    assert fetch_scalar(mirror.database, statement) == domain, "a round of changes stores none"
    mirror.sync(full=True)
    assert fetch_scalar(mirror.database, statement) == f"{domain} sub.{domain}"


@pytest.mark.parametrize(
    "named", ["", "0d6", "111", "9999", "%", "cont%", "a.b", "99999999999999999999"]
)
def test_what_names_no_customer_is_refused(customers: Database, named: str) -> None:
    with customers.open_transaction() as db, pytest.raises(NotFound, match="there is no"):
        find_connection(db, named)
