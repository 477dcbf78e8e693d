"""Users. https://learn.microsoft.com/graph/api/resources/user

Intentionally left out: properties that Graph refuses in a list or delta ``$select`` (aboutMe,
birthday, hireDate, interests, mySite, skills, mailboxSettings ... answer 501), signInActivity
(another licence, another page size), licenseAssignmentStates (not tracked by delta) and
employeeLeaveDateTime (another permission).
"""

from typing import Final

from models.property import boolean, document, documents, guid, text, texts, timestamp
from models.resource import DELETED_INDEX, Resource
from models.source import Fallback, Mode, Source

USERS: Final = Resource(
    name="users",
    meaning="Microsoft Entra users, one row for each connection and user id",
    graph_type="user",
    permission="User.Read.All",
    by_id="/users/{id}",
    source=Source(
        path="/users",
        delta_path="/users/delta",
        page_size=999,
        intervals=("delta_seconds",),
    ),
    fallbacks=(
        Fallback(
            statuses=frozenset({400, 404, 501}),
            at_delta_start=True,
            source=Source(
                mode=Mode.LIST_ONLY,
                path="/users",
                page_size=999,
                intervals=("listing_seconds", "delta_seconds"),
            ),
        ),
    ),
    event_noun="user",
    labels=("display_name", "user_principal_name"),
    erasable=True,
    indexes=(DELETED_INDEX,),
    properties=(
        guid("id", "id in Microsoft Entra", key=True),
        text(
            "user_principal_name",
            "name to sign in with",
            identifies=True,
            indexed=True,
            ends_with_domain=True,
        ),
        text("display_name", "name in address books", identifies=True),
        text("given_name", "first name", personal=True),
        text("surname", "last name", personal=True),
        text("mail", "primary mail address", identifies=True),
        text("mail_nickname", "mail alias", personal=True),
        text("job_title", "job title", personal=True),
        text("department", "department", personal=True),
        text("company_name", "company"),
        text("office_location", "office", personal=True),
        text("employee_id", "number given by the employer", personal=True),
        text("employee_type", "kind of employment, such as Contractor", personal=True),
        timestamp("employee_hire_date", "date of hire", personal=True),
        text("user_type", "Member or Guest"),
        boolean("account_enabled", "whether sign-in is allowed"),
        timestamp("created_date_time", "when it was created in Microsoft Entra"),
        texts("business_phones", "phone numbers at work", unordered=True, personal=True),
        text("mobile_phone", "mobile phone number", personal=True),
        text("city", "city", personal=True),
        text("state", "state or province", personal=True),
        text("country", "country", personal=True),
        text("postal_code", "postal code", personal=True),
        text("street_address", "street address", personal=True),
        text("usage_location", "country where licences are used, two letters"),
        text("preferred_language", "language, such as en-US", personal=True),
        texts("proxy_addresses", "all mail addresses", unordered=True, identifies=True),
        texts("other_mails", "further mail addresses", unordered=True, identifies=True),
        boolean("on_premises_sync_enabled", "whether it is synchronized from Active Directory"),
        text("on_premises_immutable_id", "source anchor of Active Directory", personal=True),
        text("on_premises_sam_account_name", "account name in Active Directory", personal=True),
        text("on_premises_distinguished_name", "path in Active Directory", personal=True),
        text("on_premises_security_identifier", "SID in Active Directory", personal=True),
        timestamp("on_premises_last_sync_date_time", "last synchronization from Active Directory"),
        text("external_user_state", "state of a guest's invitation, such as PendingAcceptance"),
        timestamp("last_password_change_date_time", "last change of the password"),
        documents("assigned_licenses", "licences, with their disabled plans", unordered=True),
        text("creation_type", "Invitation, LocalAccount, EmailVerified and such; null if ordinary"),
        timestamp("external_user_state_change_date_time", "last change of a guest's invitation"),
        text("on_premises_domain_name", "domain of the account in Active Directory"),
        text(
            "on_premises_user_principal_name",
            "name to sign in with in Active Directory",
            identifies=True,
        ),
        document(
            "on_premises_extension_attributes",
            "extensionAttribute1 to extensionAttribute15, those that are set",
            personal=True,
        ),
        document("employee_org_data", "division and cost centre", personal=True),
        boolean("is_resource_account", "reserved by Microsoft for accounts of resources"),
        text("password_policies", "such as DisablePasswordExpiration, separated by commas"),
        text("security_identifier", "SID in Microsoft Entra", personal=True),
    ),
)
