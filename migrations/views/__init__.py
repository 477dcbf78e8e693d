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
from migrations.views.connections import CONNECTIONS, FRESHNESS
from migrations.views.groups import GROUP_MEMBERS, GROUPS
from migrations.views.licences import LICENSES
from migrations.views.people import USERS
from migrations.views.roles import ROLE_ASSIGNMENTS, ROLE_DEFINITIONS
from migrations.views.sites import SITES
from migrations.views.view import AnalyticsView

VIEWS: Final[tuple[AnalyticsView, ...]] = (
    FRESHNESS,
    CONNECTIONS,
    USERS,
    GROUPS,
    GROUP_MEMBERS,
    SITES,
    ROLE_DEFINITIONS,
    ROLE_ASSIGNMENTS,
    LICENSES,
    SERVICE_PRINCIPALS,
    APP_ROLE_ASSIGNMENTS,
    PERMISSION_GRANTS,
)
"""In the order in which they are made: those that others use come first."""
