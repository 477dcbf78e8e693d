"""Plausible random changes of a directory: mostly updates, some joiners and leavers."""

from collections.abc import Callable
from random import Random

from models.resources import RESOURCES
from sandbox.tenant.directory.further_mutations import FurtherMutations
from sandbox.tenant.directory.kind_counts import KindCounts
from sandbox.tenant.directory.members import MemberType
from sandbox.tenant.directory.object_store import LifecycleState, ObjectStore
from sandbox.tenant.directory.templates.applications import (
    GRAPH_ROLES,
    SCOPES,
    make_key,
    make_password,
)
from sandbox.tenant.directory.templates.generic import draw_change
from sandbox.tenant.directory.templates.sample_names import DEPARTMENTS, JOBS, SURNAMES, draw_time
from sandbox.tenant.directory.templates.users import SKUS

_TRIES = 20


class RandomChanges:
    """Changes one tenant at random; the same `rng` makes the same changes."""

    def __init__(self, tenant: FurtherMutations, rng: Random) -> None:
        self._tenant, self._rng = tenant, rng
        self._steps = {
            self._update_user: 30,
            self._create_user: 10,
            self._delete_user: 8,
            self._restore_user: 4,
            self._update_group: 8,
            self._create_group: 3,
            self._delete_group: 2,
            self._restore_group: 1,
            self._add_member: 14,
            self._remove_member: 10,
            self._change_site: 5,
            self._change_role: 5,
        }
        if any(shelf.total for shelf in tenant.others):
            self._steps[self._change_other] = 5
        self._steps |= {step: weight for step, weight in self._list_further_steps() if weight}

    def _list_further_steps(self) -> list[tuple[Callable[[], None], int]]:
        """Return the changes of what only some tenants have, with their weights."""
        tenant, kinds = self._tenant, self._tenant.kinds
        has = {name: bool(shelf.total) for name, shelf in tenant.further.items()}
        return [
            (self._change_further, 6 * (kinds != KindCounts())),
            (self._change_owner, 6 * bool(kinds.owners)),
            (self._change_manager, 6 * kinds.managers),
            (self._change_sign_in, 12 * kinds.sign_ins),
            (self._change_principal, 5 * has["service_principals"]),
            (self._change_application, 3 * has["applications"]),
            (self._change_app_role, 4 * has["app_role_assignments"]),
            (self._change_grant, 3 * has["oauth2_permission_grants"]),
            (self._change_sku, 4 * has["subscribed_skus"]),
            (self._change_unit, 4 * has["administrative_units"]),
            (self._change_schedule, 8 * kinds.pim),
        ]

    def apply_next(self) -> None:
        """Make one change. If it has no object to change, a user is created instead."""
        (step,) = self._rng.choices(tuple(self._steps), tuple(self._steps.values()))
        try:
            step()
        except LookupError:
            self._create_user()

    def _pick(self, shelf: ObjectStore, state: LifecycleState = LifecycleState.LIVE) -> int:
        """Return a random object in this state."""
        if state is not LifecycleState.LIVE:
            # Sorted, as a tenant that was read from its file has them in another order.
            gone = sorted(i for i, entity in shelf.overlay.items() if entity.state is state)
            return self._rng.choice(gone)
        for _ in range(_TRIES if shelf.total else 0):
            index = self._rng.randrange(shelf.total)
            if shelf.state_at(index) is state:
                return index
        raise LookupError(f"hardly any {shelf.fields.resource} are left")

    def _pick_id(self, shelf: ObjectStore, state: LifecycleState = LifecycleState.LIVE) -> str:
        return shelf.id_at(self._pick(shelf, state))

    def _update_user(self) -> None:
        rng = self._rng
        changes: list[dict[str, object]] = [
            {"jobTitle": rng.choice(JOBS), "department": rng.choice(DEPARTMENTS)},
            {"surname": rng.choice(SURNAMES)},
            {"mobilePhone": None},
            {"officeLocation": f"{rng.randrange(9)}/{rng.randrange(999)}"},
            {"accountEnabled": rng.random() < 0.5},
            {"businessPhones": [f"+46 8 {rng.randrange(1000, 9999)}"], "employeeType": None},
            {"lastPasswordChangeDateTime": draw_time(rng)},
        ]
        self._tenant.update_user(self._pick_id(self._tenant.users), **rng.choice(changes))

    def _create_user(self) -> None:
        self._tenant.create_user()

    def _delete_user(self) -> None:
        permanently = self._rng.random() < 0.3
        self._tenant.delete_user(self._pick_id(self._tenant.users), permanently=permanently)

    def _restore_user(self) -> None:
        self._tenant.restore_user(self._pick_id(self._tenant.users, LifecycleState.SOFT_DELETED))

    def _update_group(self) -> None:
        rng = self._rng
        changes: list[dict[str, object]] = [
            {"description": rng.choice((None, "Who sits on the third floor", "Ad hoc"))},
            {"renewedDateTime": draw_time(rng)},
            {"visibility": rng.choice(("Public", "Private"))},
        ]
        self._tenant.update_group(self._pick_id(self._tenant.groups), **rng.choice(changes))

    def _create_group(self) -> None:
        group_id = self._tenant.create_group()
        for _ in range(self._rng.randrange(4)):
            self._tenant.add_member(group_id, self._pick_id(self._tenant.users))

    def _delete_group(self) -> None:
        permanently = self._rng.random() < 0.5
        self._tenant.delete_group(self._pick_id(self._tenant.groups), permanently=permanently)

    def _restore_group(self) -> None:
        self._tenant.restore_group(self._pick_id(self._tenant.groups, LifecycleState.SOFT_DELETED))

    def _add_member(self) -> None:
        group_id = self._pick_id(self._tenant.groups)
        if self._rng.random() < 0.1:
            self._tenant.add_member(group_id, self._pick_id(self._tenant.groups), "group")
        else:
            self._tenant.add_member(group_id, self._pick_id(self._tenant.users))

    def _remove_member(self) -> None:
        group = self._pick(self._tenant.groups)
        members = self._tenant.members
        slots = members.count_slots(group)
        for _ in range(_TRIES if slots else 0):
            member = members.member_at(group, self._rng.randrange(slots))
            if member:
                self._tenant.remove_member(self._tenant.groups.id_at(group), member.id)
                return
        raise LookupError("the group is empty")

    def _change_site(self) -> None:
        rng, tenant = self._rng, self._tenant
        choice = rng.random()
        if choice < 0.3:
            tenant.create_site()
        elif choice < 0.5:
            tenant.delete_site(self._pick_id(tenant.sites))
        else:
            tenant.update_site(
                self._pick_id(tenant.sites),
                displayName=f"Renamed {rng.randrange(10**6)}",
                lastModifiedDateTime=draw_time(rng, 2026),
            )

    def _change_role(self) -> None:
        rng, tenant = self._rng, self._tenant
        choice = rng.random()
        if choice < 0.1:
            tenant.create_role_definition()
        elif choice < 0.2:
            role = self._pick(tenant.role_definitions)
            if not tenant.role_definitions.props_at(role)["isBuiltIn"]:
                tenant.delete_role_definition(tenant.role_definitions.id_at(role))
        elif choice < 0.5:
            tenant.unassign_role(self._pick_id(tenant.role_assignments))
        else:
            role_id = self._pick_id(tenant.role_definitions)
            tenant.assign_role(role_id, self._pick_id(tenant.users))

    def _change_other(self) -> None:
        rng, tenant = self._rng, self._tenant
        shelf = rng.choice(tenant.others)
        resource, choice = shelf.fields.resource, rng.random()
        if choice < 0.3:
            tenant.create_object(resource)
        elif choice < 0.5:
            tenant.delete_object(resource, self._pick_id(shelf))
        else:
            change = draw_change(rng, RESOURCES[resource])
            tenant.update_object(resource, self._pick_id(shelf), **change)

    # -- what only some tenants have --------------------------------------------------------------

    def _change_edge(self, resource: str, members: dict[MemberType, ObjectStore]) -> None:
        """Add an edge, or remove one of the first."""
        tenant, edges = self._tenant, self._tenant.edges[resource]
        parent = self._pick(edges.parents)
        present = list(edges.iterate_members(parent))
        if present and self._rng.random() < 0.4:
            gone = self._rng.choice(present)
            tenant.remove_edge(resource, edges.parents.id_at(parent), gone.id)
            return
        kind, shelf = self._rng.choice(list(members.items()))
        tenant.add_edge(resource, edges.parents.id_at(parent), self._pick_id(shelf), kind)

    def _change_further(self) -> None:
        """Change what mirrors seldom ask for."""
        rng, tenant = self._rng, self._tenant
        if rng.random() < 0.3:
            licences = [{"disabledPlans": [], "skuId": rng.choice(SKUS)}][: rng.randrange(2)]
            tenant.update_group(self._pick_id(tenant.groups), assignedLicenses=licences)
            return
        changes: list[dict[str, object]] = [
            {"employeeOrgData": {"division": rng.choice(DEPARTMENTS), "costCenter": None}},
            {"employeeOrgData": None},
            {"passwordPolicies": rng.choice((None, "DisablePasswordExpiration"))},
            {"isResourceAccount": rng.random() < 0.5},
        ]
        tenant.update_user(self._pick_id(tenant.users), **rng.choice(changes))

    def _change_owner(self) -> None:
        self._change_edge("group_owners", {"user": self._tenant.users})

    def _change_manager(self) -> None:
        user = self._pick_id(self._tenant.users)
        leaves = self._rng.random() < 0.3
        self._tenant.set_manager(user, None if leaves else self._pick_id(self._tenant.users))

    def _change_sign_in(self) -> None:
        rng, user = self._rng, self._pick_id(self._tenant.users)
        tried = draw_time(rng, 2026)
        if rng.random() < 0.2:
            self._tenant.set_sign_in(user, interactive=tried)
        else:
            self._tenant.set_sign_in(user, interactive=tried, successful=tried)

    def _change_principal(self) -> None:
        rng, tenant = self._rng, self._tenant
        shelf, choice = tenant.service_principals, rng.random()
        if choice < 0.3:
            tenant.create_object("service_principals")
            return
        # The first one is Microsoft Graph, which nobody deletes.
        index = self._pick(shelf)
        if choice < 0.45 and index:
            permanently = rng.random() < 0.5
            tenant.delete_service_principal(shelf.id_at(index), permanently=permanently)
            return
        changes: list[dict[str, object]] = [
            {"accountEnabled": rng.random() < 0.5},
            {"passwordCredentials": [make_password(rng)]},
            {"keyCredentials": [make_key(rng)]},
            {"tags": ["HideApp"]},
        ]
        tenant.update_object("service_principals", shelf.id_at(index), **rng.choice(changes))

    def _change_application(self) -> None:
        rng, tenant = self._rng, self._tenant
        shelf, choice = tenant.store("applications"), rng.random()
        if choice < 0.2:
            tenant.create_object("applications")
        elif choice < 0.3:
            tenant.delete_object("applications", self._pick_id(shelf))
        else:
            secrets = [make_password(rng)]
            tenant.update_object("applications", self._pick_id(shelf), passwordCredentials=secrets)

    def _change_app_role(self) -> None:
        tenant = self._tenant
        if self._rng.random() < 0.4:
            shelf = tenant.store("app_role_assignments")
            tenant.delete_object("app_role_assignments", self._pick_id(shelf))
            return
        principals = tenant.service_principals
        if self._rng.random() < 0.3:
            # The first one is Microsoft Graph, whose roles people cannot have.
            resource = self._pick(principals) or self._pick(principals)
            tenant.assign_app_role(principals.id_at(resource), self._pick_id(tenant.users))
            return
        role = self._rng.choice(tuple(GRAPH_ROLES.values()))
        principal = self._pick_id(principals)
        tenant.assign_app_role(principals.id_at(0), principal, role, "service_principals")

    def _change_grant(self) -> None:
        rng, tenant = self._rng, self._tenant
        shelf, choice = tenant.store("oauth2_permission_grants"), rng.random()
        scope = " ".join(rng.sample(SCOPES, 3))
        if choice < 0.3:
            tenant.delete_object("oauth2_permission_grants", self._pick_id(shelf))
        elif choice < 0.6:
            tenant.update_object("oauth2_permission_grants", self._pick_id(shelf), scope=scope)
        else:
            client, user = self._pick_id(tenant.service_principals), self._pick_id(tenant.users)
            tenant.grant_permissions(client, tenant.service_principals.id_at(0), scope, user)

    def _change_sku(self) -> None:
        shelf = self._tenant.store("subscribed_skus")
        index = self._pick(shelf)
        units = max(shelf.props_at(index)["consumedUnits"] + self._rng.choice((-1, 1)), 0)
        self._tenant.update_object("subscribed_skus", shelf.id_at(index), consumedUnits=units)

    def _change_unit(self) -> None:
        rng, tenant, units = self._rng, self._tenant, self._tenant.administrative_units
        choice = rng.random()
        if choice < 0.1:
            tenant.create_object("administrative_units")
        elif choice < 0.15:
            tenant.delete_object("administrative_units", self._pick_id(units))
        elif choice < 0.4:
            name = f"Unit {rng.randrange(10**6)}"
            tenant.update_object("administrative_units", self._pick_id(units), displayName=name)
        else:
            members: dict[MemberType, ObjectStore] = {"user": tenant.users, "group": tenant.groups}
            self._change_edge("administrative_unit_members", members)

    def _change_schedule(self) -> None:
        """Let a role be activated, an activation end, or somebody be eligible or no longer."""
        rng, tenant = self._rng, self._tenant
        choice = rng.random()
        if choice < 0.2:
            principals = [one for one in (tenant.users, tenant.groups) if one.total]
            role, one = (
                self._pick_id(tenant.role_definitions),
                self._pick_id(rng.choice(principals)),
            )
            tenant.make_eligible(role, one, seconds=rng.choice((None, 86_400 * 90)))
        elif choice < 0.3:
            tenant.end_eligibility(self._pick_id(tenant.role_eligibilities))
        elif choice < 0.7:
            found = self._pick_id(tenant.role_eligibilities)
            tenant.activate_role(found, seconds=3600 * rng.randrange(1, 9))
        else:
            instances = tenant.role_instances
            active = [
                index
                for index in instances.iterate_live()
                if instances.props_at(index)["assignmentType"] == "Activated"
            ]
            if not active:
                raise LookupError("nothing is activated")
            tenant.unassign_role(instances.id_at(rng.choice(active)))
