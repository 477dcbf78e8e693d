"""Changes of a directory, each written to the delta log where Graph reports it."""

from sandbox.tenant.directory.members import Member, MemberType
from sandbox.tenant.directory.object_store import LifecycleState
from sandbox.tenant.directory.state import Directory
from sandbox.tenant.directory.templates.roles import make_definition
from sandbox.tenant.directory.templates.template import Props


def _apply_properties(props: Props, changed: Props) -> Props:
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
            made = _apply_properties(shelf.generate(shelf.total), props)
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
            revealed = resource == "groups" and not self.has_visible_members(index)
            _apply_properties(entity.props, changed)
            if changed and resource in self.change_log:
                whole = revealed and self.has_visible_members(index)
                self.change_log[resource].append((index, None if whole else frozenset(changed)))

    def _delete(self, resource: str, object_id: str, *, permanently: bool) -> None:
        with self.lock:
            index = self.index_of(resource, object_id)
            entity = self.store(resource).edit(index)
            entity.state = LifecycleState.PURGED if permanently else LifecycleState.SOFT_DELETED
            self.change_log[resource].append((index, None))
            if self.options.removals_on_delete:
                self._log_memberships(resource, object_id)

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

    def _log_memberships(self, resource: str, object_id: str) -> None:
        member = Member(object_id, "user" if resource == "users" else "group")
        for group in self.members.find_groups(object_id):
            self.change_log["groups"].append((group, member))

    # -- memberships ----------------------------------------------------------------------------

    def add_member(self, group_id: str, member_id: str, member_type: MemberType = "user") -> None:
        with self.lock:
            group, member = self.index_of("groups", group_id), Member(member_id, member_type)
            if member_type in ("user", "group"):
                self.index_of(f"{member_type}s", member_id)
            if self.members.add(group, member):
                self.change_log["groups"].append((group, member))

    def remove_member(self, group_id: str, member_id: str) -> None:
        with self.lock:
            group = self.index_of("groups", group_id)
            member = self.members.remove(group, member_id)
            if member is None:
                raise LookupError(f"{member_id} is not in {group_id}.")
            self.change_log["groups"].append((group, member))

    def members_of(self, group_id: str) -> list[Member]:
        """Return the live members of a live group."""
        with self.lock:
            return list(self.iterate_live_members(self.index_of("groups", group_id)))

    # -- sites and roles, which have no delta ---------------------------------------------------

    def create_site(self, **props: object) -> str:
        """Create a site; return its composite id."""
        with self.lock:
            made = _apply_properties(self.sites.generate(self.sites.total), props)
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
            made = _apply_properties(make_definition(self.seed, number, built_in=False), props)
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
                    self.role_assignments.edit(index).state = LifecycleState.PURGED

    def assign_role(self, role_id: str, principal_id: str, scope: str = "/") -> str:
        """Assign a role; return the assignment's id, which depends on the arguments only."""
        with self.lock:
            return self._put_assignment(role_id, principal_id, scope)

    def unassign_role(self, assignment_id: str) -> None:
        self._remove("role_assignments", assignment_id)

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
