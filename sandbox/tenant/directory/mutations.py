"""Changes of a directory, each written to the delta log where Graph reports it."""

from sandbox.tenant.directory.fields import MANAGERS
from sandbox.tenant.directory.members import Edges, LoggedEdge, Member, MemberType
from sandbox.tenant.directory.object_store import LifecycleState
from sandbox.tenant.directory.state import Directory
from sandbox.tenant.directory.templates.roles import make_definition
from sandbox.tenant.directory.templates.template import Props

_TYPES: dict[str, MemberType] = {
    "users": "user",
    "groups": "group",
    "service_principals": "servicePrincipal",
}


def apply_properties(props: Props, changed: Props) -> Props:
    props.update(changed)
    for name in [name for name, value in changed.items() if value is ...]:
        del props[name]
    return props


class MutableDirectory(Directory):
    """A directory that can be changed.

    Property names are Graph's. None clears a property; `...` in a creation leaves it out, as if
    never set.
    """

    # -- users and groups -----------------------------------------------------------------------

    def create_user(self, **props: object) -> str:
        """Create a user like the others, except for `props`; return its id."""
        return self._create("users", props)

    def update_user(self, user_id: str, **props: object) -> None:
        self._update("users", user_id, props)

    def delete_user(self, user_id: str, *, permanently: bool = False) -> None:
        self._delete("users", user_id, permanently=permanently)

    def restore_user(self, user_id: str) -> None:
        self._restore("users", user_id)

    def create_group(self, **props: object) -> str:
        """Create a group like the others, except for `props`, without members; return its id."""
        return self._create("groups", props)

    def update_group(self, group_id: str, **props: object) -> None:
        self._update("groups", group_id, props)

    def touch_group(self, group_id: str) -> None:
        """Let the next delta round report the group and all its members."""
        with self.lock:
            self.change_log["groups"].append((self.index_of("groups", group_id), None))

    def delete_group(self, group_id: str, *, permanently: bool = False) -> None:
        self._delete("groups", group_id, permanently=permanently)

    def restore_group(self, group_id: str) -> None:
        self._restore("groups", group_id)

    def _create(self, resource: str, props: Props) -> str:
        with self.lock:
            shelf = self.store(resource)
            given = props.get("id")
            if given is not None and shelf.index_of(str(given)) is not None:
                raise ValueError(f"{given} is taken")
            made = apply_properties(shelf.generate(shelf.total), props)
            index = shelf.add(made, str(given) if given is not None else None)
            self._log_change(resource, index)
            return str(made["id"])

    def _update(self, resource: str, object_id: str, props: Props) -> None:
        with self.lock:
            index = self.index_of(resource, object_id)
            entity = self.store(resource).edit(index)
            if entity.state is not LifecycleState.LIVE:
                raise ValueError(f"{object_id} is deleted")
            if resource in self.change_log and ... in props.values():
                raise ValueError("Delta cannot tell that a property is unset again; clear it.")
            changed = {n: v for n, v in props.items() if entity.props.get(n) != v}
            hidden = [one for one in self._list_edges_of(resource) if not self.shows(one, index)]
            apply_properties(entity.props, changed)
            if changed and resource in self.change_log:
                whole = any(self.shows(one, index) for one in hidden)
                self.change_log[resource].append((index, None if whole else frozenset(changed)))

    def _delete(self, resource: str, object_id: str, *, permanently: bool) -> None:
        with self.lock:
            index = self.index_of(resource, object_id)
            entity = self.store(resource).edit(index)
            entity.state = LifecycleState.PURGED if permanently else LifecycleState.SOFT_DELETED
            self.change_log[resource].append((index, None))
            if self.options.removals_on_delete:
                self._log_memberships(resource, object_id)
            else:
                self._log_memberships(resource, object_id, only=MANAGERS)

    def _restore(self, resource: str, object_id: str) -> None:
        with self.lock:
            index = self.index_of(resource, object_id)
            entity = self.store(resource).edit(index)
            if entity.state is not LifecycleState.SOFT_DELETED:
                raise ValueError(f"{object_id} is not deleted")
            entity.state = LifecycleState.LIVE
            self.change_log[resource].append((index, None))
            if self.options.readd_on_restore:
                self._log_memberships(resource, object_id)

    def _list_edges_of(self, resource: str) -> list[Edges]:
        """Return the relations whose parents are the objects of a resource."""
        shelf = self.store(resource)
        return [edges for edges in self.edges.values() if edges.parents is shelf]

    def _log_memberships(self, resource: str, object_id: str, only: str = "") -> None:
        member = Member(object_id, _TYPES[resource])
        for edges in [self.edges[only]] if only else self.edges.values():
            for parent in edges.find_parents(object_id):
                self._log_edge(edges, parent, member)

    def _log_edge(self, edges: Edges, parent: int, member: Member) -> None:
        told = member if edges is self.members else LoggedEdge(edges.relation, member)
        self.change_log[edges.parents.fields.resource].append((parent, told))

    # -- memberships and other edges --------------------------------------------------------------

    def add_member(self, group_id: str, member_id: str, member_type: MemberType = "user") -> None:
        self.add_edge("group_members", group_id, member_id, member_type)

    def remove_member(self, group_id: str, member_id: str) -> None:
        self.remove_edge("group_members", group_id, member_id)

    def add_edge(
        self, resource: str, parent_id: str, member_id: str, member_type: MemberType = "user"
    ) -> None:
        """Add an edge of a resource such as group_owners or administrative_unit_members."""
        with self.lock:
            edges, member = self.edges[resource], Member(member_id, member_type)
            parent = self.index_of(edges.parents.fields.resource, parent_id)
            if member_type in ("user", "group"):
                self.index_of(f"{member_type}s", member_id)
            if edges.add(parent, member):
                self._log_edge(edges, parent, member)

    def remove_edge(self, resource: str, parent_id: str, member_id: str) -> None:
        with self.lock:
            edges = self.edges[resource]
            parent = self.index_of(edges.parents.fields.resource, parent_id)
            member = edges.remove(parent, member_id)
            if member is None:
                raise LookupError(f"{member_id} is not in {parent_id}.")
            self._log_edge(edges, parent, member)

    def members_of(self, group_id: str) -> list[Member]:
        """Return the live members of a live group."""
        with self.lock:
            index = self.index_of("groups", group_id)
            return list(self.iterate_live_members(self.members, index))

    # -- sites and roles, which have no delta ---------------------------------------------------

    def create_site(self, **props: object) -> str:
        """Create a site; return its composite id."""
        with self.lock:
            made = apply_properties(self.sites.generate(self.sites.total), props)
            if "id" in props:
                self.sites.add(made, str(made["id"]).rpartition(",")[2])
            else:
                self.sites.add(made)
            return str(made["id"])

    def update_site(self, site_id: str, **props: object) -> None:
        self._update("sites", site_id.rpartition(",")[2], props)

    def delete_site(self, site_id: str) -> None:
        self._remove("sites", site_id.rpartition(",")[2])

    def create_role_definition(self, **props: object) -> str:
        with self.lock:
            number = self.role_definitions.total
            made = apply_properties(make_definition(self.seed, number, built_in=False), props)
            self.role_definitions.add(made, str(made["id"]))
            return str(made["id"])

    def update_role_definition(self, role_id: str, **props: object) -> None:
        self._update("role_definitions", role_id, props)

    def delete_role_definition(self, role_id: str) -> None:
        """Delete a role and its assignments, which Graph requires to be deleted first."""
        with self.lock:
            self._remove("role_definitions", role_id)
            for index in list(self.role_assignments.iterate_live()):
                if self.role_assignments.props_at(index)["roleDefinitionId"] == role_id:
                    self.unassign_role(self.role_assignments.id_at(index))
            for index in list(self.role_eligibilities.iterate_live()):
                if self.role_eligibilities.props_at(index)["roleDefinitionId"] == role_id:
                    self.role_eligibilities.edit(index).state = LifecycleState.PURGED

    def assign_role(
        self, role_id: str, principal_id: str, scope: str = "/", *, seconds: float | None = None
    ) -> str:
        """Assign a role; return the assignment's id, which depends on these arguments only.

        With `seconds` it ends by the tenant's clock, if the tenant has `KindCounts.pim`.
        """
        with self.lock:
            end = None if seconds is None else self.clock.render(seconds)
            return self._put_assignment(role_id, principal_id, scope, end=end)

    def unassign_role(self, assignment_id: str) -> None:
        """End an assignment, whether it is permanent or was activated."""
        with self.lock:
            self._remove("role_assignments", assignment_id)
            index = self.role_instances.index_of(assignment_id)
            if index is not None:
                self.role_instances.edit(index).state = LifecycleState.PURGED

    # -- any resource -----------------------------------------------------------------------

    def create_object(self, resource: str, **props: object) -> str:
        """Create an object like the generated ones, except for `props`; return its id."""
        return self._create(resource, props)

    def update_object(self, resource: str, object_id: str, **props: object) -> None:
        self._update(resource, object_id, props)

    def delete_object(self, resource: str, object_id: str) -> None:
        self._remove(resource, object_id)

    def _log_change(self, resource: str, index: int) -> None:
        if resource in self.change_log:
            self.change_log[resource].append((index, None))

    def _remove(self, resource: str, object_id: str) -> None:
        with self.lock:
            index = self.index_of(resource, object_id)
            self.store(resource).edit(index).state = LifecycleState.PURGED
            self._log_change(resource, index)
