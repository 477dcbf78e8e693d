"""Users. https://learn.microsoft.com/graph/api/resources/user

Intentionally left out: properties that Graph refuses in a list or delta ``$select`` (aboutMe,
birthday, hireDate, interests, mySite, skills, mailboxSettings ... answer 501), signInActivity
(another licence, another page size) and licenseAssignmentStates (not tracked by delta).
"""

from msgspec import UNSET
from sqlalchemy import ARRAY, Boolean, Column, DateTime, Index, Text
from sqlalchemy.dialects.postgresql import JSONB

from models.record import Nested, Record, Sent, Timestamp
from models.resource import Clock, Kind, Resource, build_deleted_index, guid_key, mirror_table


class User(Record, frozen=True, kw_only=True, gc=False):
    user_principal_name: Sent[str] = UNSET
    display_name: Sent[str] = UNSET
    given_name: Sent[str] = UNSET
    surname: Sent[str] = UNSET
    mail: Sent[str] = UNSET
    mail_nickname: Sent[str] = UNSET
    job_title: Sent[str] = UNSET
    department: Sent[str] = UNSET
    company_name: Sent[str] = UNSET
    office_location: Sent[str] = UNSET
    employee_id: Sent[str] = UNSET
    employee_type: Sent[str] = UNSET
    employee_hire_date: Sent[Timestamp] = UNSET
    user_type: Sent[str] = UNSET
    account_enabled: Sent[bool] = UNSET
    created_date_time: Sent[Timestamp] = UNSET
    business_phones: Sent[list[str]] = UNSET
    mobile_phone: Sent[str] = UNSET
    city: Sent[str] = UNSET
    state: Sent[str] = UNSET
    country: Sent[str] = UNSET
    postal_code: Sent[str] = UNSET
    street_address: Sent[str] = UNSET
    usage_location: Sent[str] = UNSET
    preferred_language: Sent[str] = UNSET
    proxy_addresses: Sent[list[str]] = UNSET
    other_mails: Sent[list[str]] = UNSET
    on_premises_sync_enabled: Sent[bool] = UNSET
    on_premises_immutable_id: Sent[str] = UNSET
    on_premises_sam_account_name: Sent[str] = UNSET
    on_premises_distinguished_name: Sent[str] = UNSET
    on_premises_security_identifier: Sent[str] = UNSET
    on_premises_last_sync_date_time: Sent[Timestamp] = UNSET
    external_user_state: Sent[str] = UNSET
    last_password_change_date_time: Sent[Timestamp] = UNSET
    assigned_licenses: Sent[Nested] = UNSET


users = mirror_table(
    "users",
    guid_key("id"),
    Column("user_principal_name", Text),
    Column("display_name", Text),
    Column("given_name", Text),
    Column("surname", Text),
    Column("mail", Text),
    Column("mail_nickname", Text),
    Column("job_title", Text),
    Column("department", Text),
    Column("company_name", Text),
    Column("office_location", Text),
    Column("employee_id", Text),
    Column("employee_type", Text),
    Column("employee_hire_date", DateTime(timezone=True)),
    Column("user_type", Text),
    Column("account_enabled", Boolean),
    Column("created_date_time", DateTime(timezone=True)),
    Column("business_phones", ARRAY(Text)),
    Column("mobile_phone", Text),
    Column("city", Text),
    Column("state", Text),
    Column("country", Text),
    Column("postal_code", Text),
    Column("street_address", Text),
    Column("usage_location", Text),
    Column("preferred_language", Text),
    Column("proxy_addresses", ARRAY(Text)),
    Column("other_mails", ARRAY(Text)),
    Column("on_premises_sync_enabled", Boolean),
    Column("on_premises_immutable_id", Text),
    Column("on_premises_sam_account_name", Text),
    Column("on_premises_distinguished_name", Text),
    Column("on_premises_security_identifier", Text),
    Column("on_premises_last_sync_date_time", DateTime(timezone=True)),
    Column("external_user_state", Text),
    Column("last_password_change_date_time", DateTime(timezone=True)),
    Column("assigned_licenses", JSONB),
    Index(None, "user_principal_name", "connection_id"),
    build_deleted_index("users"),
    comment="Microsoft Entra users, one row for each connection and user id",
)

USERS = Resource(
    name="users",
    kind=Kind.ENTITY,
    table=users,
    record=User,
    path="/users",
    delta_path="/users/delta",
    by_id="/users/{id}",
    page_size=999,
    permission="User.Read.All",
    clock=Clock(interval=5 * 60, full=7 * 24 * 3600),
    event_noun="user",
)
