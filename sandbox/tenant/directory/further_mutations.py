"""Changes of what only some tenants have: owners, managers, applications, schedules of roles."""

from random import Random

from sandbox.tenant.directory.fields import MANAGERS
from sandbox.tenant.directory.members import Member, MemberType
from sandbox.tenant.directory.mutations import MutableDirectory, apply_properties
from sandbox.tenant.directory.object_store import LifecycleState
from sandbox.tenant.directory.templates import sign_ins
from sandbox.tenant.directory.templates.activations import make_eligibility
from sandbox.tenant.directory.templates.applications import (
    NO_ROLE,
    make_app_role_assignment,
    make_application,
    make_grant,
    make_service_principal,
)
from sandbox.tenant.directory.templates.licences import make_numbered_sku
from sandbox.tenant.directory.templates.roles import build_assignment_id
from sandbox.tenant.directory.templates.template import Props
from sandbox.tenant.directory.templates.units import make_unit
from sandbox.tenant.directory.templates.users import SKUS

_PRINCIPAL_TYPES = {"users": "User", "groups": "Group", "service_principals": "ServicePrincipal"}


class FurtherMutations(MutableDirectory):
    """A directory of which everything can be changed."""

    # -- edges and sign-ins ---------------------------------------------------------------------

    def add_owner(self, group_id: str, owner_id: str, owner_type: MemberType = "user") -> None:
        self.add_edge("group_owners", group_id, owner_id, owner_type)

    def remove_owner(self, group_id: str, owner_id: str) -> None:
        self.remove_edge("group_owners", group_id, owner_id)

    def owners_of(self, group_id: str) -> list[Member]:
        """Return the live owners of a live group."""
        with self.lock:
            index = self.index_of("groups", group_id)
            return list(self.iterate_live_members(self.edges["group_owners"], index))

    def set_manager(self, user_id: str, manager_id: str | None) -> None:
        """Give a user another manager, or none.

        `TenantOptions.manager_delta_silent` of the changes are never told by a delta.
        """
        with self.lock:
            edges, user = self.edges[MANAGERS], self.index_of("users", user_id)
            log, mark = self.change_log["users"], len(self.change_log["users"])
            for member in list(edges.iterate_members(user)):
                edges.remove(user, member.id)
                self._log_edge(edges, user, member)
            if manager_id is not None:
                self.index_of("users", manager_id)
                member = Member(manager_id, "user")
                edges.add(user, member)
                self._log_edge(edges, user, member)
            self.manager_changes += 1
            drawn = Random(f"{self.seed}/{user_id}/{self.manager_changes}").random()
            if drawn < self.options.manager_delta_silent:
                del log[mark:]

    def set_sign_in(
        self,
        user_id: str,
        *,
        interactive: str = sign_ins.NEVER,
        other: str = sign_ins.NEVER,
        successful: str = sign_ins.NEVER,
    ) -> None:
        """Set the times of a user's signInActivity; year 1 stands for never."""
        with self.lock:
            user = self.index_of("users", user_id)
            rng = Random(f"{user_id}/{interactive}/{other}")
            self.sign_ins.put(
                user,
                sign_ins.build_activity(
                    rng, interactive=interactive, other=other, successful=successful
                ),
            )

    # -- privileged identity management -----------------------------------------------------------

    def make_eligible(
        self,
        role_id: str,
        principal_id: str,
        scope: str = "/",
        *,
        seconds: float | None = None,
        member_type: str = "Direct",
    ) -> str:
        """Let a principal activate a role, for ever or for a time; return the instance's id."""
        with self.lock:
            made = make_eligibility(
                role_id,
                principal_id,
                scope,
                start=self.clock.render(),
                end=None if seconds is None else self.clock.render(seconds),
                member_type=member_type,
            )
            return self.put("role_eligibility_schedule_instances", made)

    def end_eligibility(self, eligibility_id: str) -> None:
        self._remove("role_eligibility_schedule_instances", eligibility_id)

    def activate_role(self, eligibility_id: str, seconds: float = 3600) -> str:
        """Let the principal of an eligibility hold its role for a time; return the assignment's id.

        `unassign_role` ends it earlier. The tenant needs `KindCounts.pim`. Raises LookupError if
        the principal has the role anyway.
        """
        with self.lock:
            index = self.index_of("role_eligibility_schedule_instances", eligibility_id)
            found = self.role_eligibilities.props_at(index)
            parts = (found[n] for n in ("roleDefinitionId", "principalId", "directoryScopeId"))
            held = self.role_instances.index_of(build_assignment_id(*parts))
            if held is not None and self.is_live(self.role_instances, held):
                raise LookupError(f"{eligibility_id}: the role is held already")
            return self._put_assignment(
                found["roleDefinitionId"],
                found["principalId"],
                found["directoryScopeId"],
                end=self.clock.render(seconds),
                activated=True,
            )

    def advance(self, seconds: float) -> None:
        """Move the tenant's clock, and end what is then past its end."""
        with self.lock:
            self.clock.advanced += seconds
            self.end_schedules()

    # -- applications ---------------------------------------------------------------------------

    def assign_app_role(
        self, resource_id: str, principal_id: str, role_id: str = NO_ROLE, kind: str = "users"
    ) -> str:
        """Let a principal of the resource `kind` use an application, or an API of it."""
        with self.lock:
            principal = self.store(kind).props_at(self.index_of(kind, principal_id))
            resource_index = self.index_of("service_principals", resource_id)
            resource = self.service_principals.props_at(resource_index)
            made = make_app_role_assignment(
                principal, _PRINCIPAL_TYPES[kind], resource, role_id, self.clock.render()
            )
            return self.put("app_role_assignments", made)

    def grant_permissions(
        self, client_id: str, resource_id: str, scope: str, principal_id: str | None = None
    ) -> str:
        """Consent to an application's delegated permissions, for one user or for all."""
        with self.lock:
            made = make_grant(client_id, resource_id, scope, principal_id)
            return self.put("oauth2_permission_grants", made)

    def delete_service_principal(self, object_id: str, *, permanently: bool = False) -> None:
        """Delete one with its memberships, app roles and consents, which never come back."""
        with self.lock:
            for edges in self.edges.values():
                for parent in list(edges.find_parents(object_id)):
                    edges.remove(parent, object_id)
                    self._log_edge(edges, parent, Member(object_id, "servicePrincipal"))
            for resource, names in (
                ("app_role_assignments", ("principalId", "resourceId")),
                ("oauth2_permission_grants", ("clientId", "resourceId")),
            ):
                shelf = self.store(resource)
                for index in list(shelf.iterate_live()):
                    if object_id in (shelf.props_at(index)[name] for name in names):
                        self._remove(resource, shelf.id_at(index))
            index = self.index_of("service_principals", object_id)
            state = LifecycleState.PURGED if permanently else LifecycleState.SOFT_DELETED
            self.service_principals.edit(index).state = state
            self._log_change("service_principals", index)

    # -- objects with a key of their own --------------------------------------------------------

    def create_object(self, resource: str, **props: object) -> str:
        """Create an object like the generated ones, except for `props`; return its id.

        App roles, consents, eligibilities and activations have functions of their own.
        """
        if resource not in self.further:
            return super().create_object(resource, **props)
        with self.lock:
            made = apply_properties(self._make_next(resource), props)
            return self.put(resource, made)

    def _make_next(self, resource: str) -> Props:
        number = self.store(resource).total
        match resource:
            case "service_principals":
                return make_service_principal(self.seed, number, self.tenant_id)
            case "applications":
                return make_application(self.seed, number, self.domain)
            case "administrative_units":
                return make_unit(self.seed, number)
            case "subscribed_skus":
                return make_numbered_sku(self.tenant_id, self.display_name, number, SKUS)
            case _:
                raise ValueError(f"{resource} are not made by themselves")

    def delete_object(self, resource: str, object_id: str) -> None:
        if resource == "service_principals":
            self.delete_service_principal(object_id, permanently=True)
        elif resource == "role_assignment_schedule_instances":
            self.unassign_role(object_id)
        else:
            super().delete_object(resource, object_id)
