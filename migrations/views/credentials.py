"""Certificates and client secrets of service principals: which there are, and when they end."""

from typing import Final

from migrations.views.applications import IS_FOREIGN, IS_MICROSOFT
from migrations.views.view import CUSTOMER, AnalyticsView, Column, from_table, render_moment
from models.resources.service_principals import SERVICE_PRINCIPALS as _SERVICE_PRINCIPALS

_CREDENTIALS: Final = f"""cross join lateral (
       select o.kind, o.value,
              {render_moment("o.value ->> 'startDateTime'")} as starts_at,
              {render_moment("o.value ->> 'endDateTime'")} as ends_at
         from (select 'certificate' as kind, k.value
                 from jsonb_array_elements(t.key_credentials) k
                union all
               select 'secret', p.value
                 from jsonb_array_elements(t.password_credentials) p) o) k"""
"""The credentials ``k`` of a row ``t`` of ``directory.service_principals``."""

APPLICATION_CREDENTIALS: Final = AnalyticsView(
    "application_credentials",
    "Certificates and client secrets of service principals that are not deleted, a row for each,"
    " expired ones included. Those that only the registration of an application has are not"
    " mirrored, nor is any secret or key",
    (
        *CUSTOMER,
        Column(
            "service_principal_id",
            "t.id",
            "the service principal that can sign in with it",
            references="service_principals",
        ),
        Column(
            "application_name",
            "t.display_name",
            "the name of the application; null where it is empty or Graph did not send it",
        ),
        Column(
            "app_id",
            "t.app_id",
            "the id of the application, the same in every tenant; null where Graph did not send it",
        ),
        IS_MICROSOFT,
        IS_FOREIGN,
        Column("kind", "k.kind", "certificate or secret"),
        Column(
            "credential_id",
            "k.value ->> 'keyId'",
            "the id that tells it from others; null where Graph did not send it",
        ),
        Column(
            "name",
            "k.value ->> 'displayName'",
            "the name that it was given; null where it has none",
        ),
        Column("starts_at", "k.starts_at", "when it begins; null where Graph sent no time"),
        Column("ends_at", "k.ends_at", "when it ends; null where Graph sent no time"),
        Column(
            "is_expired",
            "coalesce(k.ends_at <= now(), false)",
            "whether it has ended; false where Graph sent no end, as nothing says that it did",
        ),
    ),
    from_table(_SERVICE_PRINCIPALS, (_CREDENTIALS,)),
    key=("connection_id", "service_principal_id", "kind", "credential_id"),
)
