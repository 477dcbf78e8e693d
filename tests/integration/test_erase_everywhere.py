"""Erasing a person removes every row and event that names them, in all declared resources."""

import pytest
from msgspec import structs

from models.property import Property
from models.resource import Resource
from models.resources import ERASABLE_REFERENCES, RESOURCES
from sandbox.tenant import KindCounts, Tenant
from tests.support.erasure import assert_exact_without, find_traces
from tests.support.mirror import MakeMirror, Mirror
from worker.core.settings import Settings
from worker.erasure.erase import erase
from worker.erasure.target import find_target
from worker.store.state.connections import find_connection

NAMES = ["Vance-Quill", "adele.quill"]


class EverywherePerson:
    """A user whom something of every kind names, in all the ways there are."""

    def __init__(self, tenant: Tenant) -> None:
        self.tenant = tenant
        self.id, self.other = tenant.users.id_at(4), tenant.users.id_at(5)
        self.names = [self.id, *NAMES]
        self._rename()
        self._hold_roles()
        self._join()
        self._use_applications()

    def _rename(self) -> None:
        self.tenant.update_user(
            self.id,
            displayName="Adele Vance-Quill",
            userPrincipalName="Adele.Quill@contoso.example",
            onPremisesUserPrincipalName="adele.quill@contoso.example",
            employeeOrgData={"division": "Vance-Quill", "costCenter": None},
        )

    def _hold_roles(self) -> None:
        tenant = self.tenant
        role, another = (tenant.role_definitions.id_at(n) for n in (0, 1))
        self.names.append(tenant.assign_role(role, self.id))
        eligibility = tenant.make_eligible(another, self.id)
        self.names += [eligibility, tenant.activate_role(eligibility)]

    def _join(self) -> None:
        tenant, group = self.tenant, self.tenant.groups.id_at(0)
        for resource, parent in (
            ("group_members", group),
            ("group_owners", group),
            ("administrative_unit_members", tenant.administrative_units.id_at(0)),
        ):
            tenant.add_edge(resource, parent, self.id)
        tenant.set_manager(self.id, self.other)
        tenant.set_manager(self.other, self.id)
        tenant.set_sign_in(self.id, interactive=tenant.clock.render(-60))

    def _use_applications(self) -> None:
        tenant = self.tenant
        graph, application = (tenant.service_principals.id_at(n) for n in (0, 1))
        self.names += [
            tenant.assign_app_role(graph, self.id),
            tenant.assign_app_role(application, self.id),
            tenant.grant_permissions(application, graph, "Mail.Read", self.id),
        ]

    def change(self) -> None:
        """Let something of each happen again, so that events name the person before and after."""
        tenant = self.tenant
        tenant.update_user(self.id, department="Keepers")
        tenant.remove_edge("group_owners", tenant.groups.id_at(0), self.id)
        tenant.set_manager(self.other, None)
        tenant.set_sign_in(self.id, interactive=tenant.clock.render())


@pytest.fixture
def person() -> EverywherePerson:
    return EverywherePerson(Tenant(seed=3, users=20, groups=4, sites=3, kinds=KINDS))


KINDS = KindCounts(
    owners=1,
    managers=True,
    sign_ins=True,
    service_principals=4,
    administrative_units=2,
    unit_members=2,
    pim=True,
    skus=2,
)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Every resource is on, those included that are off by default."""
    return structs.replace(settings, resources_on=tuple(RESOURCES))


@pytest.fixture
def mirror(make_mirror: MakeMirror, person: EverywherePerson) -> Mirror:
    made = make_mirror(person.tenant)
    made.sync()
    return made


def list_columns_with_people() -> list[tuple[Resource, Property]]:
    """Each column that can hold a user's id."""
    return [
        (RESOURCES[name], column)
        for name, columns in ERASABLE_REFERENCES.items()
        for column in columns
        if "users" in column.references
    ]


def erase_person(mirror: Mirror, person: EverywherePerson) -> None:
    with mirror.database.open_transaction() as db:
        target = find_target(db, find_connection(db, "1"), person.id, None)
    erase(mirror.database, target, lambda _table, _rows: None)


def test_whoever_every_resource_names_is_erased_from_all_and_stays_away(
    mirror: Mirror, person: EverywherePerson
) -> None:
    named = find_traces(mirror.database, person.names)
    everywhere = {
        f"directory.{one.name}.{column.name}" for one, column in list_columns_with_people()
    }
    assert everywhere <= named.keys(), "the test is about every reference"
    person.change()
    mirror.sync()
    erase_person(mirror, person)
    assert find_traces(mirror.database, person.names) == {}
    person.tenant.update_user(person.id, department="Keepers again")
    person.tenant.add_edge("group_owners", person.tenant.groups.id_at(0), person.id)
    mirror.sync(full=True)
    assert find_traces(mirror.database, person.names) == {}
    assert_exact_without(mirror, person.tenant, person.id)
