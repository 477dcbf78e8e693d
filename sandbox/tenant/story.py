"""A small directory in which each question about people, groups and privilege has an answer.

Nothing in it is drawn at random: `Story.ids` finds every object by a short name, and the comments
say what it is an example of. Moments are relative to the tenant's clock.
"""

from sandbox.tenant.directory.clock import TenantClock
from sandbox.tenant.directory.fields import GROUPS, USERS
from sandbox.tenant.directory.ids import guid_from_parts
from sandbox.tenant.directory.kind_counts import KindCounts
from sandbox.tenant.directory.members import MemberType
from sandbox.tenant.directory.templates.applications import (
    GRAPH,
    GRAPH_ROLES,
    MICROSOFT,
    make_app_role,
)
from sandbox.tenant.directory.templates.licences import SKU_IDS, make_sku
from sandbox.tenant.directory.templates.template import Props
from sandbox.tenant.directory.tenant import Tenant
from sandbox.tenant.story_people import (
    ACCOUNTS,
    DISABLED,
    DOMAIN,
    DYNAMIC,
    E3,
    GUESTS,
    MEMBERS,
    OWNERS,
    PEOPLE,
    ROLES,
    STORY_GROUPS,
    SYNCED,
    UNIFIED,
)

_DAY = 86_400.0


class Story(Tenant):
    """A tenant of thirty people. `ids` has the id of each object by its short name."""

    def __init__(self, *, seed: int = 1, epoch: int = 1, clock: TenantClock | None = None) -> None:
        super().__init__(
            seed=seed,
            users=0,
            groups=0,
            sites=0,
            role_definitions=0,
            role_assignments=0,
            kinds=KindCounts(owners=1, managers=True, sign_ins=True, pim=True),
            clock=clock,
            display_name="Alpine",
            domain=DOMAIN,
            epoch=epoch,
        )
        self.ids: dict[str, str] = {"laptop": guid_from_parts("story", "laptop")}
        self._add_people()
        self._add_applications()
        self._add_groups()
        self._add_roles()
        self._add_units()
        self._add_permissions()
        self._add_licences()
        self.delete_user(self.ids["leaver"])

    def _ago(self, days: float) -> str:
        return self.clock.render(-days * _DAY)

    # -- people ---------------------------------------------------------------------------------

    def _add_person(self, name: str, **props: object) -> None:
        blank = dict[str, object].fromkeys((*USERS.generated, *USERS.further), ...)
        common = {
            "id": guid_from_parts("story", "user", name),
            "displayName": name.title(),
            "userPrincipalName": f"{name}@{DOMAIN}",
            "mailNickname": name,
            "accountEnabled": name not in DISABLED,
            "userType": "Member",
            "createdDateTime": self._ago(900),
            "lastPasswordChangeDateTime": self._ago(100),
            "businessPhones": [],
            "proxyAddresses": [],
            "otherMails": [],
            "assignedLicenses": [],
        }
        self.ids[name] = self.create_user(**(blank | common | props))

    def _add_people(self) -> None:
        for number, (name, department, country, _, days, skus) in enumerate(PEOPLE):
            mail = f"{name}@{DOMAIN}"
            props: dict[str, object] = {
                "mail": mail,
                "proxyAddresses": [f"SMTP:{mail}"],
                "givenName": name.title(),
                "surname": "Alpine",
                "department": department,
                "country": country,
                "companyName": "Alpine",
                "jobTitle": "Head" if name in {"ada", "bo", "fay", "ida", "lea"} else "Specialist",
                "employeeId": f"A{number:03d}",
                "assignedLicenses": [{"skuId": sku, "disabledPlans": []} for sku in skus],
            }
            if name in SYNCED:
                props |= {
                    "onPremisesSyncEnabled": True,
                    "onPremisesSamAccountName": name,
                    "onPremisesDomainName": f"ad.{DOMAIN}",
                }
            self._add_person(name, **(props | self._list_oddities(name)))
            if days is not None:
                moment = self._ago(days)
                self.set_sign_in(self.ids[name], interactive=moment, successful=moment)
        for name, _, _, manager, _, _ in PEOPLE:
            if manager:
                self.set_manager(self.ids[name], self.ids[manager])
        self._add_guests_and_accounts()

    def _list_oddities(self, name: str) -> dict[str, object]:
        """Return what is wrong with one person's account."""
        oddities: dict[str, dict[str, object]] = {
            # The employee id of another one, and a mail address that is not the user's name.
            "vera": {"employeeId": "A005", "mail": f"v.alpine@{DOMAIN}"},
            # An address that another one has, too.
            "sam": {"proxyAddresses": [f"SMTP:sam@{DOMAIN}", f"smtp:ria@{DOMAIN}"]},
            # Passwords of years ago.
            "hal": {"lastPasswordChangeDateTime": self._ago(1500)},
            "eva": {"lastPasswordChangeDateTime": self._ago(700)},
            # Hired in a month, and enabled already.
            "kim": {"employeeHireDate": self._ago(-30)},
        }
        return oddities.get(name, {})

    def _add_guests_and_accounts(self) -> None:
        for name, home, redeemed in GUESTS:
            mail = f"{name}@{home}"
            self._add_person(
                name,
                userType="Guest",
                userPrincipalName=f"{mail.replace('@', '_')}#EXT#@{DOMAIN}",
                mail=mail,
                otherMails=[mail],
                creationType="Invitation",
                externalUserState="Accepted" if redeemed else "PendingAcceptance",
                externalUserStateChangeDateTime=self._ago(200 if redeemed else 60),
                createdDateTime=self._ago(210 if redeemed else 60),
            )
        for name, label in ACCOUNTS:
            self._add_person(name, displayName=label, isResourceAccount=name == "room")
        self._add_person("leaver", department="Research", mail=f"leaver@{DOMAIN}")

    # -- groups -----------------------------------------------------------------------------------

    def _add_groups(self) -> None:
        for name, given in STORY_GROUPS:
            blank = dict[str, object].fromkeys((*GROUPS.generated, *GROUPS.further), ...)
            alias, unified = name.replace(" ", "-"), name in UNIFIED
            props: dict[str, object] = {
                "id": guid_from_parts("story", "group", name),
                "displayName": name.capitalize(),
                "mailNickname": alias,
                "mailEnabled": unified,
                "securityEnabled": not unified,
                "groupTypes": ["Unified"] if unified else [],
                "createdDateTime": self._ago(800),
                "proxyAddresses": [],
                "resourceProvisioningOptions": [],
                **given,
            }
            if unified:
                mail = f"{alias}@{DOMAIN}"
                props |= {
                    "mail": mail,
                    "proxyAddresses": [f"SMTP:{mail}"],
                    "expirationDateTime": self._ago(-20 if name == "open house" else -300),
                }
            if name in DYNAMIC:
                rule, state = DYNAMIC[name]
                props |= {
                    "groupTypes": ["DynamicMembership"],
                    "membershipRule": rule,
                    "membershipRuleProcessingState": state,
                }
            if name == "licensed":
                props["assignedLicenses"] = [{"skuId": E3, "disabledPlans": []}]
            self.ids[name] = self.create_group(**(blank | props))
        self._add_edges("group_members", MEMBERS)
        self._add_edges("group_owners", OWNERS)

    def _add_edges(self, resource: str, edges: tuple[tuple[str, ...], ...]) -> None:
        types: dict[str, MemberType] = {
            "": "user",
            "group": "group",
            "device": "device",
            "servicePrincipal": "servicePrincipal",
        }
        for parent, *members in edges:
            for one in members:
                name, _, kind = one.partition(":")
                self.add_edge(resource, self.ids[parent], self.ids[name], types[kind])

    # -- privilege --------------------------------------------------------------------------------

    def _add_roles(self) -> None:
        for name, role_id in ROLES.items():
            self.ids[name] = self.create_role_definition(
                id=role_id, templateId=role_id, displayName=name, isBuiltIn=True, isEnabled=True
            )
        actions = ["microsoft.directory/applications/credentials/update"]
        self.ids["Key Keeper"] = self.create_role_definition(
            id=guid_from_parts("story", "role"),
            displayName="Key Keeper",
            isBuiltIn=False,
            isEnabled=True,
            rolePermissions=[{"allowedResourceActions": actions, "condition": None}],
        )
        top = "Global Administrator"
        # Global Administrators: one directly, two by a group, one by another, one by both.
        for name in ("ada", "admins", "rescue", "cleo"):
            self._assign(top, name)
        self._assign("Helpdesk Administrator", "helpers")
        self._assign("Application Administrator", "partner app")
        self._assign("Global Reader", "wes")
        self._assign("User Administrator", "hal")
        self._assign("Helpdesk Administrator", "uwe")
        self._assign("Key Keeper", "lea")
        # Until a moment, for ever, and for an hour.
        self.assign_role(
            self.ids["Privileged Role Administrator"], self.ids["eva"], seconds=30 * _DAY
        )
        self.make_eligible(self.ids[top], self.ids["eva"])
        self.make_eligible(self.ids["User Administrator"], self.ids["pia"], seconds=90 * _DAY)
        self.ids["eligibility"] = self.make_eligible(self.ids[top], self.ids["dag"])
        self.ids["activation"] = self.activate_role(self.ids["eligibility"])

    def _assign(self, role: str, name: str, scope: str = "/") -> None:
        self.assign_role(self.ids[role], self.ids[name], scope)

    def _add_units(self) -> None:
        for name, props in (
            ("nordics", {"description": "Sweden"}),
            ("vault", {"isMemberManagementRestricted": True, "visibility": "HiddenMembership"}),
        ):
            self.ids[name] = self.create_object(
                "administrative_units",
                id=guid_from_parts("story", "unit", name),
                displayName=name.capitalize(),
                **props,
            )
        members = (
            ("nordics", *(one[0] for one in PEOPLE if one[2] == "Sweden"), "it:group"),
            ("vault", "ada", "glass"),
        )
        self._add_edges("administrative_unit_members", members)
        self._assign("User Administrator", "ole", f"/administrativeUnits/{self.ids['nordics']}")

    # -- applications and licences -----------------------------------------------------------

    def _add_application(self, name: str, owner: str, **props: object) -> None:
        blank: dict[str, object] = {
            "id": guid_from_parts("story", "application", name),
            "appId": guid_from_parts("story", "application id", name),
            "displayName": name.title(),
            "servicePrincipalType": "Application",
            "accountEnabled": True,
            "appOwnerOrganizationId": owner,
            "appRoleAssignmentRequired": False,
            "appRoles": [],
            "keyCredentials": [],
            "passwordCredentials": [],
            "tags": [],
        }
        self.ids[name] = self.create_object("service_principals", **(blank | props))

    def _add_applications(self) -> None:
        roles = [make_app_role(value, role_id) for value, role_id in GRAPH_ROLES.items()]
        foreign = guid_from_parts("story", "another tenant")
        self._add_application(
            "graph", MICROSOFT, appId=GRAPH, displayName="Microsoft Graph", appRoles=roles
        )
        self._add_application("partner app", foreign)
        self._add_application("owner app", self.tenant_id)
        self._add_application(
            "payroll",
            self.tenant_id,
            appRoleAssignmentRequired=True,
            appRoles=[make_app_role("Clerk", guid_from_parts("story", "clerk"), "User")],
            passwordCredentials=[self._make_password("soon", 10), self._make_password("past", -5)],
        )

        for name in ("owner app", "payroll"):
            place = self.index_of("service_principals", self.ids[name])
            principal = self.service_principals.props_at(place)
            self.ids[f"{name} registration"] = self.create_object(
                "applications",
                id=guid_from_parts("story", "registration", name),
                keyCredentials=[],
                **{one: principal[one] for one in ("appId", "displayName", "passwordCredentials")},
            )

    def _make_password(self, name: str, days: float) -> Props:
        """Return a secret that ends in as many days."""
        return {
            "keyId": guid_from_parts("story", "password", name),
            "displayName": name,
            "startDateTime": self._ago(300),
            "endDateTime": self._ago(-days),
            "hint": "leaked-hint",
            "secretText": "leaked-secret-text",
        }

    def _add_permissions(self) -> None:
        graph, payroll = self.ids["graph"], self.ids["payroll"]
        for name, role in (
            ("partner app", "RoleManagement.ReadWrite.Directory"),
            ("payroll", "User.Read.All"),
            ("owner app", "Group.Read.All"),
        ):
            self.assign_app_role(graph, self.ids[name], GRAPH_ROLES[role], "service_principals")
        clerk = guid_from_parts("story", "clerk")
        self.assign_app_role(payroll, self.ids["ida"], clerk)
        # Only direct members of the group may use it: nobody of IT, which is nested.
        self.assign_app_role(payroll, self.ids["helpers"], clerk, "groups")
        self.grant_permissions(self.ids["partner app"], graph, " Mail.Read Files.Read.All")
        self.grant_permissions(payroll, graph, "User.Read", self.ids["ida"])

    def _add_licences(self) -> None:
        bought = {"SPE_E3": 20, "SPE_E5": 5, "POWER_BI_STANDARD": 1_000_000, "AAD_PREMIUM_P2": 10}
        users = list(self.iterate_live("users"))
        for part_number, enabled in bought.items():
            sku_id = SKU_IDS[part_number]
            held = sum(
                sku_id in (one["skuId"] for one in user["assignedLicenses"]) for user in users
            )
            sku = make_sku(
                self.tenant_id, "Alpine", part_number, sku_id, enabled=enabled, consumed=held
            )
            self.put("subscribed_skus", sku)
