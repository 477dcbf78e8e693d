"""Sites."""

from typing import Final

from migrations.views.view import CUSTOMER, SEEN, AnalyticsView, from_table, show_columns
from models.resources.sites import SITES as _SITES

SITES: Final = AnalyticsView(
    "sites",
    "SharePoint sites and personal sites that are not deleted",
    CUSTOMER
    + show_columns(
        _SITES,
        (
            *("id", "display_name", "name", "web_url", "hostname", "is_personal_site", "is_root"),
            *("data_location_code", "created_date_time", "last_modified_date_time"),
            *SEEN,
        ),
    ),
    from_table(_SITES),
    key=("connection_id", "id"),
)
