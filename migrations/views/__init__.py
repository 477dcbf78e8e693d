"""The views of schema ``analytics``, for people. ``install`` brings a database in step with them.

Migrations do not contain them: after each migration to the newest revision the views are those that
are declared here.
"""

from typing import Final

from migrations.views.applications import (
    APP_ROLE_ASSIGNMENTS,
    PERMISSION_GRANTS,
    SERVICE_PRINCIPALS,
)
from migrations.views.changes import ACCESS_CHANGES, CHANGES
from migrations.views.connections import CONNECTIONS, FRESHNESS
from migrations.views.coverage import COVERAGE, COVERAGE_GAPS
from migrations.views.credentials import APPLICATION_CREDENTIALS
from migrations.views.findings import FINDINGS
from migrations.views.function import AnalyticsFunction
from migrations.views.groups import GROUP_MEMBERS, GROUP_OWNERS, GROUPS
from migrations.views.licence_plans import GROUP_LICENSES, LICENSE_PLANS, USER_DISABLED_PLANS
from migrations.views.licences import LICENSE_SUMMARY, LICENSES, USER_LICENSES
from migrations.views.managers import MANAGERS
from migrations.views.nesting import EFFECTIVE_GROUP_MEMBERS, NESTING
from migrations.views.nesting_functions import (
    GROUPS_AROUND,
    GROUPS_INSIDE,
    GROUPS_OF,
    MEMBERS_OF,
)
from migrations.views.people import DELETED_USERS, GUESTS, USER_MAIL_ADDRESSES, USERS
from migrations.views.privilege import EFFECTIVE_ROLE_HOLDERS, PRIVILEGED_USERS
from migrations.views.role_permissions import ROLE_PERMISSIONS
from migrations.views.roles import ROLE_ASSIGNMENTS, ROLE_DEFINITIONS
from migrations.views.sign_ins import SIGN_IN_ACTIVITY
from migrations.views.sites import SITES
from migrations.views.units import ADMINISTRATIVE_UNIT_MEMBERS, ADMINISTRATIVE_UNITS
from migrations.views.view import AnalyticsView

VIEWS: Final[tuple[AnalyticsView, ...]] = (
    FRESHNESS,
    CONNECTIONS,
    USERS,
    DELETED_USERS,
    GUESTS,
    USER_MAIL_ADDRESSES,
    MANAGERS,
    SIGN_IN_ACTIVITY,
    GROUPS,
    GROUP_MEMBERS,
    NESTING,
    EFFECTIVE_GROUP_MEMBERS,
    GROUP_OWNERS,
    ADMINISTRATIVE_UNITS,
    ADMINISTRATIVE_UNIT_MEMBERS,
    SITES,
    ROLE_DEFINITIONS,
    ROLE_PERMISSIONS,
    ROLE_ASSIGNMENTS,
    LICENSES,
    LICENSE_PLANS,
    USER_LICENSES,
    USER_DISABLED_PLANS,
    GROUP_LICENSES,
    LICENSE_SUMMARY,
    SERVICE_PRINCIPALS,
    APPLICATION_CREDENTIALS,
    APP_ROLE_ASSIGNMENTS,
    PERMISSION_GRANTS,
    CHANGES,
    COVERAGE_GAPS,
    COVERAGE,
    EFFECTIVE_ROLE_HOLDERS,
    PRIVILEGED_USERS,
    FINDINGS,
)
"""In the order in which they are made: those that others use come first."""

FUNCTIONS: Final[tuple[AnalyticsFunction, ...]] = (
    GROUPS_INSIDE,
    GROUPS_AROUND,
    MEMBERS_OF,
    GROUPS_OF,
    ACCESS_CHANGES,
)
"""In the order in which they are made: those that others use come first."""
