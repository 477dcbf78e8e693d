"""Plausible random changes of a directory: mostly updates, some joiners and leavers."""

from random import Random

from sandbox.tenant.directory.mutations import MutableDirectory
from sandbox.tenant.directory.object_store import LifecycleState, ObjectStore
from sandbox.tenant.directory.templates.generic import draw_change
from sandbox.tenant.directory.templates.sample_names import DEPARTMENTS, JOBS, SURNAMES, draw_time

_TRIES = 20


class RandomChanges:
    """Changes one tenant at random; the same `rng` makes the same changes."""

    def __init__(self, tenant: MutableDirectory, rng: Random) -> None:
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
            change = draw_change(rng, shelf.fields.declared)
            tenant.update_object(resource, self._pick_id(shelf), **change)
