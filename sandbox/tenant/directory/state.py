"""The state of one tenant: its directory, its log of changes, and the truth.

Responses read the state at the time they are served. Mutations go to a log, which delta rounds read
from a position on. Every method may be called from any thread.
"""

from collections.abc import Iterator
from typing import Any

from models.resources import RESOURCES
from sandbox.tenant.directory import truth as truths
from sandbox.tenant.directory.fields import (
    MANAGERS,
    MEMBERS,
    OTHER_APP_ROLES,
    SIGN_INS,
)
from sandbox.tenant.directory.filled_stores import FilledStores
from sandbox.tenant.directory.members import Edges, Member
from sandbox.tenant.directory.object_store import LifecycleState, RenderedTemplates
from sandbox.tenant.directory.templates import applications
from sandbox.tenant.directory.templates.groups import HIDDEN_MEMBERSHIP
from sandbox.tenant.directory.templates.template import Props
from sandbox.tenant.directory.truth import Truth

PARENT_NAMES = {"groups": "groupId", "administrative_units": "unitId", "users": "userId"}
"""The name of the parent's id in an edge of `iterate_live`, by the parents' resource."""
_FOREIGN = ("device", "orgContact")


class Directory(FilledStores):
    """The state of a tenant, without mutations."""

    def is_end_live(self, member: Member) -> bool:
        """Whether the member is live; members that are not simulated always are."""
        if member.type in _FOREIGN:
            return True
        if member.type == "servicePrincipal":
            index = self.service_principals.index_of(member.id)
            # Others are not simulated.
            return index is None or self.is_live(self.service_principals, index)
        shelf = self.users if member.type == "user" else self.groups
        index = shelf.index_of(member.id)
        return index is not None and self.is_live(shelf, index)

    def iterate_live_members(self, edges: Edges, parent: int) -> Iterator[Member]:
        return (member for member in edges.iterate_members(parent) if self.is_end_live(member))

    def shows(self, edges: Edges, parent: int) -> bool:
        """Whether Graph shows the edges of a group, a unit or a user."""
        if not self.options.hide_hidden_members or edges.relation != MEMBERS:
            return True
        return edges.parents.props_at(parent).get("visibility") != HIDDEN_MEMBERSHIP

    # -- the truth ---------------------------------------------------------------------------

    def iterate_live(self, resource: str) -> Iterator[dict[str, Any]]:
        """Yield the live objects as Graph lists them with every mirrored property selected.

        `app_role_assignments` are those of all applications.

        For edges: the parent's id as `groupId` (or `unitId`), `@odata.type` and `id` of each live
        edge. For managers: `id` and `manager`, and for sign_in_activity: `id` and
        `signInActivity`, of each live user that has a time in it.
        """
        if resource == MANAGERS:
            yield from self._iterate_managers()
        elif resource == SIGN_INS:
            yield from self._iterate_sign_ins()
        elif resource == OTHER_APP_ROLES:
            yield from self._iterate_app_roles(of_graph=False)
        elif resource in self.edges:
            yield from self._iterate_edges(self.edges[resource])
        else:
            shelf = self.store(resource)
            for index in shelf.iterate_live():
                yield self.read_object(resource, index)

    def read_object(self, resource: str, index: int) -> Props:
        shelf = self.store(resource)
        props = shelf.props_at(index)
        if resource == "sites":
            return dict(props)
        return {name: props.get(name) for name in shelf.fields.generated}

    def _iterate_edges(self, edges: Edges, *, hidden: bool = True) -> Iterator[Props]:
        parent_name = PARENT_NAMES[edges.parents.fields.resource]
        for parent in edges.parents.iterate_live():
            if not hidden and not self.shows(edges, parent):
                continue
            parent_id = edges.parents.id_at(parent)
            for member in self.iterate_live_members(edges, parent):
                kind = f"#microsoft.graph.{member.type}"
                yield {parent_name: parent_id, "@odata.type": kind, "id": member.id}

    def find_manager(self, user: int) -> Member | None:
        """Return the live manager of a user."""
        return next(self.iterate_live_members(self.edges[MANAGERS], user), None)

    def _iterate_managers(self) -> Iterator[Props]:
        for user in self.users.iterate_live():
            manager = self.find_manager(user)
            if manager:
                yield {"id": self.users.id_at(user), "manager": {"id": manager.id}}

    def _iterate_sign_ins(self) -> Iterator[Props]:
        for user in self.users.iterate_live():
            activity = self.sign_ins.get(user)
            times = [value for name, value in (activity or {}).items() if name.endswith("DateTime")]
            if any(map(truths.normalize_time, times)):
                yield {"id": self.users.id_at(user), "signInActivity": activity}

    def truth(self, *, hidden: bool = True) -> dict[str, Truth]:
        """Return count and checksum of each resource, as the module `truth` defines them.

        Without `hidden`, members that `TenantOptions.hide_hidden_members` hides are left out. App
        roles of Microsoft Graph and those of other applications are two resources.
        """
        with self.lock:
            self.end_schedules()
            return {
                resource: self._compute_truth(resource, hidden=hidden) for resource in RESOURCES
            }

    def _compute_truth(self, resource: str, *, hidden: bool) -> Truth:
        if resource in ("app_role_assignments", OTHER_APP_ROLES):
            return truths.truth_of(
                resource, self._iterate_app_roles(of_graph=resource != OTHER_APP_ROLES)
            )
        if resource in (MANAGERS, SIGN_INS):
            return truths.truth_of(resource, self.iterate_live(resource))
        if resource in self.edges:
            return truths.truth_of(
                resource, self._iterate_edges(self.edges[resource], hidden=hidden)
            )
        shelf = self.store(resource)
        parts, total = self._compute_generated_truth(resource)
        for index, entity in shelf.overlay.items():
            if index < shelf.generated_count:
                total -= truths.hash_row(parts.render_range(index, index + 1)[0])
            if entity.state is LifecycleState.LIVE:
                total += truths.hash_row(
                    truths.render_row(truths.build_row(resource, entity.props))
                )
        return Truth(shelf.count_live(), total % truths.MODULUS)

    def _iterate_app_roles(self, *, of_graph: bool) -> Iterator[Props]:
        graph = {
            self.service_principals.id_at(index)
            for index in self.service_principals.iterate_live()
            if self.service_principals.props_at(index).get("appId") == applications.GRAPH
        }
        return (
            one
            for one in self.iterate_live("app_role_assignments")
            if (one["resourceId"] in graph) is of_graph
        )

    def _compute_generated_truth(self, resource: str) -> tuple[RenderedTemplates, int]:
        """Return the generated rows and their sum, which mutations do not change."""
        found = self.generated_truths.get(resource)
        if found is None:
            shelf = self.store(resource)
            parts = shelf.render_templates(
                lambda p: truths.render_row(truths.build_row(resource, p))
            )
            total = 0
            for start in range(0, shelf.generated_count, 10_000):
                texts = parts.render_range(start, min(start + 10_000, shelf.generated_count))
                total += sum(map(truths.hash_row, texts))
            found = self.generated_truths[resource] = parts, total
        return found

    # -- time ----------------------------------------------------------------------------------

    def expire_delta_tokens(self) -> None:
        """Let all delta tokens, and page tokens of delta rounds, get 410 from now on."""
        with self.lock:
            self.delta_epoch += 1

    def expire_page_tokens(self) -> None:
        """Let all page tokens of lists get 400 Directory_ExpiredPageToken from now on."""
        with self.lock:
            self.page_epoch += 1
