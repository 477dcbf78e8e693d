"""What a tenant begins with besides users, groups and sites, and how schedules end."""

from collections.abc import Iterable
from random import Random

from sandbox.tenant.directory.few_edges import FewEdges, FirstObjects, Managers
from sandbox.tenant.directory.fields import (
    MEMBERS,
    OWNERS,
)
from sandbox.tenant.directory.ids import guid_from_parts
from sandbox.tenant.directory.members import Edges, Member
from sandbox.tenant.directory.object_store import LifecycleState, ObjectStore
from sandbox.tenant.directory.stores import Stores
from sandbox.tenant.directory.templates import applications
from sandbox.tenant.directory.templates.activations import make_eligibility, make_instance
from sandbox.tenant.directory.templates.licences import make_numbered_sku
from sandbox.tenant.directory.templates.roles import make_assignment, make_definition
from sandbox.tenant.directory.templates.template import Props
from sandbox.tenant.directory.templates.units import make_unit
from sandbox.tenant.directory.templates.users import SKUS


class FilledStores(Stores):
    """A tenant's stores with what follows from its numbers."""

    def _make_further(self, definitions: int) -> None:
        self._make_eligibilities(definitions)
        self._make_units_and_skus()
        self._make_permissions()

    def _make_edges(self) -> Iterable[Edges]:
        average, units = self.kinds.owners, self.administrative_units
        users, groups, principals = (
            FirstObjects.of(self.users, "user"),
            FirstObjects.of(self.groups, "group"),
            FirstObjects.of(self.service_principals, "servicePrincipal"),
        )

        def draw_owners(rng: Random) -> list[Member]:
            count = rng.randrange(2 * average + 1)
            applications = int(count > 1 and rng.random() < 0.2)
            return [*users.draw(rng, count - applications), *principals.draw(rng, applications)]

        def draw_unit(rng: Random) -> list[Member]:
            count = rng.randrange(2 * self.kinds.unit_members + 1)
            return [*users.draw(rng, count - count // 5), *groups.draw(rng, count // 5)]

        owned = self.groups.generated_count if average else 0
        yield self.members
        yield FewEdges(
            self.seed, "group_owners", OWNERS, self.groups, count=owned, draw=draw_owners
        )
        yield FewEdges(
            self.seed,
            "administrative_unit_members",
            MEMBERS,
            units,
            count=units.total,
            draw=draw_unit,
        )
        yield Managers(self.users, generated=self.kinds.managers)

    def _make_units_and_skus(self) -> None:
        for number in range(self.kinds.administrative_units):
            unit = make_unit(self.seed, number)
            self.administrative_units.add(unit, unit["id"])
        for number in range(self.kinds.skus):
            sku = make_numbered_sku(self.tenant_id, self.display_name, number, SKUS)
            self.further["subscribed_skus"].add(sku, sku["id"])

    def _make_permissions(self) -> None:
        """Make app role assignments and consents."""
        rng, principals = Random(f"{self.seed}/permissions"), self.service_principals
        if not principals.total:
            return
        graph = principals.props_at(0)
        for number in range(self.kinds.app_roles):
            principal = principals.props_at((number * 3 + 9) % principals.total)
            roles = graph["appRoles"]
            role = roles[(number // principals.total + number) % len(roles)]["id"]
            self._put_app_role(principal, "ServicePrincipal", graph, role)
        for _ in range(self.kinds.other_app_roles):
            self._put_app_role(*self._draw_app_role(rng))
        for _ in range(self.kinds.permission_grants):
            self._put_grant(*self._draw_grant(rng))

    def _draw_app_role(self, rng: Random) -> tuple[Props, str, Props, str]:
        """Return a principal, its type, an application that is not Microsoft Graph, and a role."""
        principals = self.service_principals
        resource = principals.props_at(
            rng.randrange(min(1, principals.total - 1), principals.total)
        )
        roles = [one["id"] for one in resource["appRoles"]] or [applications.NO_ROLE]
        kind, shelf = rng.choice(
            [
                (kind, shelf)
                for kind, shelf in (
                    ("User", self.users),
                    ("Group", self.groups),
                    ("ServicePrincipal", principals),
                )
                if shelf.total
            ]
        )
        return shelf.props_at(rng.randrange(shelf.total)), kind, resource, rng.choice(roles)

    def _draw_grant(self, rng: Random) -> tuple[str, str, str, str | None]:
        principals = self.service_principals
        scopes = rng.sample(applications.SCOPES, rng.randrange(1, 5))
        # Old consents begin with a blank.
        text = rng.choice(("", " ")) + " ".join(scopes)
        for_one = self.users.total and rng.random() < 0.5
        user = self.users.id_at(rng.randrange(self.users.total)) if for_one else None
        client = principals.id_at(rng.randrange(principals.total))
        return client, principals.id_at(0), text, user

    def _put_app_role(self, principal: Props, kind: str, resource: Props, role_id: str) -> str:
        made = applications.make_app_role_assignment(
            principal, kind, resource, role_id, self.clock.render()
        )
        return self.put("app_role_assignments", made)

    def _put_grant(
        self, client_id: str, resource_id: str, scope: str, principal_id: str | None
    ) -> str:
        made = applications.make_grant(client_id, resource_id, scope, principal_id)
        return self.put("oauth2_permission_grants", made)

    def _make_eligibilities(self, definitions: int) -> None:
        if not (definitions and self.users.generated_count):
            return
        for number in range(self.kinds.eligibilities):
            made = make_eligibility(
                self.role_definitions.id_at(number * 7 % definitions),
                self.users.id_at(number * 13 % self.users.generated_count),
                "/",
                start=f"2026-01-{number % 28 + 1:02d}T00:00:00Z",
                end=None if number % 3 else "2036-01-01T00:00:00Z",
                member_type="Group" if number % 5 == 4 else "Direct",
            )
            self.put("role_eligibility_schedule_instances", made)

    def _make_roles(self, definitions: int, assignments: int) -> None:
        for number in range(definitions):
            role = make_definition(self.seed, number, built_in=number % 4 != 3)
            self.role_definitions.add(role, role["id"])
        if not (definitions and self.users.generated_count):
            return
        for number in range(assignments):
            role_id = self.role_definitions.id_at(number * 5 % definitions)
            principal_id = self.users.id_at(number * 17 % self.users.generated_count)
            scope = (
                f"/administrativeUnits/{guid_from_parts(self.seed, number)}" if number % 3 else "/"
            )
            self._put_assignment(role_id, principal_id, scope)
        if self.kinds.pim:
            for shelf in (self.groups, self.service_principals):
                for index in range(min(shelf.total, 2)):
                    role_id = self.role_definitions.id_at((index + 1) % definitions)
                    self._put_assignment(role_id, shelf.id_at(index), "/")

    def _put_assignment(
        self,
        role_id: str,
        principal_id: str,
        scope: str,
        *,
        end: str | None = None,
        activated: bool = False,
    ) -> str:
        props = make_assignment(role_id, principal_id, scope, self.tenant_id)
        index = self.role_assignments.index_of(props["id"])
        if index is None:
            self.role_assignments.add(props, props["id"])
        else:
            self.role_assignments.edit(index).state = LifecycleState.LIVE
        if self.kinds.pim:
            start = self.clock.render() if activated else None
            made = make_instance(props, activated=activated, start=start, end=end)
            self.put("role_assignment_schedule_instances", made)
        return str(props["id"])

    def end_schedules(self) -> None:
        """End what is past its end by the tenant's clock: activations and eligibilities."""
        now = self.clock.render()
        for shelf in (self.role_eligibilities, self.role_instances):
            for index in list(shelf.iterate_live()):
                end = shelf.props_at(index)["endDateTime"]
                if end is not None and end[:19] < now[:19]:
                    self._end_schedule(shelf, index)

    def _end_schedule(self, shelf: ObjectStore, index: int) -> None:
        shelf.edit(index).state = LifecycleState.PURGED
        if shelf is self.role_instances:
            assignment = self.role_assignments.index_of(shelf.id_at(index))
            if assignment is not None:
                self.role_assignments.edit(assignment).state = LifecycleState.PURGED
