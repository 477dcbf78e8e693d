"""What counts as privileged, as Tenant Mirror ships it: roles, actions and permissions.

``microsoft``: roles and actions that the reference of Microsoft Entra's built-in roles labels as
privileged, of 20 January 2026
(https://learn.microsoft.com/entra/identity/role-based-access-control/permissions-reference); Graph
v1.0 does not tell it. ``cisa``: the highly privileged roles of CISA's baseline for Entra ID
(https://www.cisa.gov/resources-tools/services/secure-cloud-business-applications-scuba-project).
Permissions of Microsoft Graph have no such label: those listed let an application make itself, or
anybody, an administrator, or read all that people write.
"""

from collections.abc import Mapping
from datetime import date
from typing import Final, NamedTuple

from sqlalchemy import Table

from models.privilege import privileged_actions, privileged_permissions, privileged_roles

_ROLES: Final = """
db506228-d27e-4b7d-95e5-295956d6615f Agent ID Administrator
9b895d92-2cd3-44c7-9d02-a6ac2d5ea5c3 Application Administrator
cf1c38e5-3621-4004-a7cb-879624dced7c Application Developer
ecb2c6bf-0ab6-418e-bd87-7986f8d63bbe Attribute Provisioning Administrator
422218e4-db15-4ef9-bbe0-8afb41546d79 Attribute Provisioning Reader
c4e39bd9-1100-46d3-8c65-fb160da0071f Authentication Administrator
25a516ed-2fa0-40ea-a2d0-12923a21473a Authentication Extensibility Administrator
aaf43236-0c0d-4d5f-883a-6955382ac081 B2C IEF Keyset Administrator
158c047a-c907-4556-b7ef-446551a6b5f7 Cloud Application Administrator
7698a772-787b-4ac8-901f-60d6b08affd2 Cloud Device Administrator
b1be1c3e-b65d-4f19-8427-f6fa0d97feb9 Conditional Access Administrator
9360feb5-f418-4baa-8175-e2a00bac4301 Directory Writers
8329153b-31d0-4727-b945-745eb3bc5f31 Domain Name Administrator
be2f45a1-457d-42af-a067-6ec1fa63bc45 External Identity Provider Administrator
62e90394-69f5-4237-9190-012177145e10 Global Administrator
f2ef992c-3afb-46b9-b7cf-a126ee74c451 Global Reader
729827e3-9c14-49f7-bb1b-9608f156bbb8 Helpdesk Administrator
8ac3fc64-6eca-42ea-9e69-59f4c7b60eb2 Hybrid Identity Administrator
3a2c62db-5318-420d-8d74-23affee5d9d5 Intune Administrator
59d46f88-662b-457b-bceb-5c3809e5908f Lifecycle Workflows Administrator
4ba39ca4-527c-499a-b93d-d9b492c50246 Partner Tier1 Support
e00e864a-17c5-4a4b-9c06-f5b95a8d5bd8 Partner Tier2 Support
966707d0-3269-4727-9be2-8c3a10f19b9d Password Administrator
7be44c8a-adaf-4e2a-84d6-ab2649e08a13 Privileged Authentication Administrator
e8611ab8-c189-46e8-94e1-60213ab1f814 Privileged Role Administrator
194ae4cb-b126-40b2-bd5b-6091b380977d Security Administrator
5f2222b1-57c3-48ba-8ad5-d4759f1fde6f Security Operator
5d6b6bb7-de71-4623-b4af-96380a352509 Security Reader
fe930be7-5e62-47db-91af-98c3a49a38b1 User Administrator
"""

_CISA_ROLES: Final = """
62e90394-69f5-4237-9190-012177145e10 Global Administrator
e8611ab8-c189-46e8-94e1-60213ab1f814 Privileged Role Administrator
fe930be7-5e62-47db-91af-98c3a49a38b1 User Administrator
f28a1f50-f6e7-4571-818b-6a12f2af6b6c SharePoint Administrator
29232cdf-9323-42fd-ade2-1d097af3e4de Exchange Administrator
8ac3fc64-6eca-42ea-9e69-59f4c7b60eb2 Hybrid Identity Administrator
9b895d92-2cd3-44c7-9d02-a6ac2d5ea5c3 Application Administrator
158c047a-c907-4556-b7ef-446551a6b5f7 Cloud Application Administrator
"""

_ACTIONS: Final = """
microsoft.directory/applications/allProperties/allTasks create, change and delete applications
microsoft.directory/applications/credentials/update act as an application
microsoft.directory/authorizationPolicy/allProperties/allTasks change what everybody may do
microsoft.directory/bitlockerKeys/key/read read recovery keys of devices
microsoft.directory/customAuthenticationExtensions/allProperties/allTasks change how people sign in
microsoft.directory/deviceManagementPolicies/basic/update change the management of devices
microsoft.directory/deviceRegistrationPolicy/basic/update change which devices are registered
microsoft.directory/devices/allProperties/allTasks create, change and delete devices
microsoft.directory/domains/allProperties/allTasks create, change and delete domains
microsoft.directory/groups/allProperties/allTasks create, change and delete groups
microsoft.directory/hybridAuthenticationPolicy/allProperties/allTasks change how people sign in
microsoft.directory/identityProtection/allProperties/allTasks change the protection of accounts
microsoft.directory/oAuth2PermissionGrants/allProperties/allTasks grant permissions of users
microsoft.directory/servicePrincipals/credentials/update act as an application
microsoft.directory/users/create create users
microsoft.directory/users/delete delete users
microsoft.directory/users/disable disable users
microsoft.directory/users/enable enable users
microsoft.directory/users/invalidateAllRefreshTokens sign users out
microsoft.directory/users/password/update set passwords
microsoft.directory/users/userPrincipalName/update change names to sign in with
"""

_PERMISSIONS: Final = """
AppRoleAssignment.ReadWrite.All give any application any permission
Application.ReadWrite.All act as any application, by new credentials
Directory.ReadWrite.All change users, groups and applications
Group.ReadWrite.All change groups and their members, and so the access that they give
GroupMember.ReadWrite.All change members of groups, and so the access that they give
Mail.Read read all mail
Mail.ReadWrite read and change all mail
Mail.Send send mail as anybody
Files.ReadWrite.All read and change all files
Policy.ReadWrite.ConditionalAccess change which sign-ins are allowed
PrivilegedAccess.ReadWrite.AzureADGroup make anybody a member of a privileged group
PrivilegedAssignmentSchedule.ReadWrite.AzureADGroup make anybody a member of a privileged group
PrivilegedEligibilitySchedule.ReadWrite.AzureADGroup make anybody eligible for a privileged group
RoleAssignmentSchedule.ReadWrite.Directory make anybody an administrator
RoleEligibilitySchedule.ReadWrite.Directory make anybody eligible as an administrator
RoleManagement.ReadWrite.Directory make anybody an administrator
RoleManagementPolicy.ReadWrite.Directory change who must approve administrators
Sites.FullControl.All read, change and control all sites
User.ReadWrite.All change all users
UserAuthenticationMethod.ReadWrite.All set how anybody signs in, and so sign in as anybody
"""


class PrivilegeList(NamedTuple):
    """Entries with their names, of one source and one day."""

    table: Table
    source: str
    as_of: date
    names: Mapping[str, str]


def _parse(lines: str) -> dict[str, str]:
    parts = (line.partition(" ") for line in lines.strip().splitlines())
    return {key: name for key, _, name in parts}


PRIVILEGE_LISTS: Final = (
    PrivilegeList(privileged_roles, "microsoft", date(2026, 1, 20), _parse(_ROLES)),
    PrivilegeList(privileged_roles, "cisa", date(2026, 8, 20), _parse(_CISA_ROLES)),
    PrivilegeList(privileged_actions, "microsoft", date(2026, 1, 20), _parse(_ACTIONS)),
    PrivilegeList(
        privileged_permissions, "tenant-mirror", date(2026, 11, 30), _parse(_PERMISSIONS)
    ),
)
