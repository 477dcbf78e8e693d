"""Every column of the mirror says what it holds."""

from typing import Final

from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

_BOOKKEEPING: Final = {
    "connection_id": "the connection that the row belongs to",
    "first_seen_at": "when it was first stored here",
    "changed_at": "when its last change was stored here",
    "deleted_reason": "soft_deleted, permanently_deleted, not_seen or cascade; null while live",
}
_COMMENTS: Final = {
    "users": {
        "id": "id in Microsoft Entra",
        "user_principal_name": "name to sign in with",
        "display_name": "name in address books",
        "given_name": "first name",
        "surname": "last name",
        "mail": "primary mail address",
        "mail_nickname": "mail alias",
        "job_title": "job title",
        "department": "department",
        "company_name": "company",
        "office_location": "office",
        "employee_id": "number given by the employer",
        "employee_type": "kind of employment, such as Contractor",
        "employee_hire_date": "date of hire",
        "user_type": "Member or Guest",
        "account_enabled": "whether sign-in is allowed",
        "created_date_time": "when it was created in Microsoft Entra",
        "business_phones": "phone numbers at work",
        "mobile_phone": "mobile phone number",
        "city": "city",
        "state": "state or province",
        "country": "country",
        "postal_code": "postal code",
        "street_address": "street address",
        "usage_location": "country where licences are used, two letters",
        "preferred_language": "language, such as en-US",
        "proxy_addresses": "all mail addresses",
        "other_mails": "further mail addresses",
        "on_premises_sync_enabled": "whether it is synchronized from Active Directory",
        "on_premises_immutable_id": "source anchor of Active Directory",
        "on_premises_sam_account_name": "account name in Active Directory",
        "on_premises_distinguished_name": "path in Active Directory",
        "on_premises_security_identifier": "SID in Active Directory",
        "on_premises_last_sync_date_time": "last synchronization from Active Directory",
        "external_user_state": "state of a guest's invitation, such as PendingAcceptance",
        "last_password_change_date_time": "last change of the password",
        "assigned_licenses": "licences, with their disabled plans",
    },
    "groups": {
        "id": "id in Microsoft Entra",
        "display_name": "name in address books",
        "description": "description",
        "mail": "primary mail address",
        "mail_nickname": "mail alias",
        "mail_enabled": "whether it receives mail",
        "security_enabled": "whether it can be granted access",
        "group_types": "Unified for Microsoft 365, DynamicMembership",
        "visibility": "Public, Private or HiddenMembership",
        "is_assignable_to_role": "whether directory roles can be assigned to it",
        "membership_rule": "rule of a dynamic membership",
        "membership_rule_processing_state": "On or Paused",
        "created_date_time": "when it was created",
        "renewed_date_time": "when it was last renewed",
        "expiration_date_time": "when it expires unless it is renewed",
        "classification": "classification set by the organization",
        "proxy_addresses": "all mail addresses",
        "on_premises_sync_enabled": "whether it is synchronized from Active Directory",
        "on_premises_security_identifier": "SID in Active Directory",
        "resource_provisioning_options": "attached resources such as Team",
        "security_identifier": "SID in Microsoft Entra",
    },
    "group_members": {
        "group_id": "the group",
        "member_id": "the member",
    },
    "sites": {
        "id": "GUID of the web",
        "site_collection_id": "GUID of the site collection",
        "hostname": "host of the site's address",
        "display_name": "title",
        "name": "last part of the address",
        "description": "description",
        "web_url": "address in a browser",
        "is_personal_site": "whether it is a person's OneDrive",
        "is_root": "whether it is the root site of its site collection",
        "data_location_code": "location of the data in a multi-geo tenant",
        "created_date_time": "when it was created",
        "last_modified_date_time": "when it was last modified",
    },
    "role_definitions": {
        "id": "id of the role",
        "display_name": "name of the role",
        "description": "what the role is for",
        "is_built_in": "whether Microsoft defined it",
        "is_enabled": "whether it can be assigned",
        "template_id": "id of its template, the same in all tenants",
        "version": "version of the definition",
        "resource_scopes": "scopes in which it can be assigned",
        "role_permissions": "allowed actions, with their conditions",
    },
    "role_assignments": {
        "id": "id of the assignment; opaque text",
        "principal_id": "the user, group or service principal that holds the role",
        "role_definition_id": "the role",
        "directory_scope_id": "part of the directory in which it holds; / is all of it",
        "app_scope_id": "part of an application in which it holds",
        "condition": "condition under which it holds",
        "principal_organization_id": "tenant of the principal",
    },
}


def upgrade() -> None:
    for table, comments in _COMMENTS.items():
        for column, comment in (_BOOKKEEPING | comments).items():
            op.alter_column(table, column, comment=comment, schema="directory")


def downgrade() -> None:
    for table, comments in _COMMENTS.items():
        for column in _BOOKKEEPING | comments:
            op.alter_column(table, column, comment=None, schema="directory")
