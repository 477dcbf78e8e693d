"""Two customers with all that views for analysts show, mirrored once for tests that only read.

Contoso has everything, and a past of some changes. Fabrikam refuses its products, and is mirrored
without what is off by default.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import text

from sandbox.tenant import KindCounts, Nango, Server, Tenant, TenantOptions
from sandbox.tenant.directory.ids import guid_from_parts
from sandbox.tenant.directory.templates.users import SKUS
from tests.support.databases import DatabaseFactory
from tests.support.mirror import OFF
from tests.support.nango import reset_nango
from tests.support.plans import turn_autovacuum_off
from tests.support.synced import sync_by_hand
from worker.core.settings import load_settings
from worker.store.engine import Database
from worker.sync.connections.discover import discover
from worker.wiring import close_runtime, open_runtime

CONTOSO: Final = 1
FABRIKAM: Final = 2
PLANS: Final = (
    "aaaaaaaa-0000-4000-8000-000000000001",
    "aaaaaaaa-0000-4000-8000-000000000002",
)
KNOWN_PLAN: Final = guid_from_parts("plan", "SANDBOX_2", 0)
"""A service of a product; the other plans are of none that is subscribed to."""
Row = Mapping[str, Any]


@dataclass
class Analysts:
    """The mirrored customers, and the objects of Contoso that tests are about."""

    database: Database
    contoso: Tenant
    fabrikam: Tenant
    ids: dict[str, str] = field(default_factory=dict)

    def ask(self, sql: str, **values: Any) -> list[Row]:
        with self.database.open_transaction() as db:
            return [dict(row) for row in db.execute(text(sql), values).mappings()]

    def ask_after(self, change: str, sql: str) -> list[Row]:
        """The answer there would be after a change, which is undone."""
        with self.database.open_transaction() as db:
            db.exec_driver_sql(change)
            found: list[Row] = [dict(row) for row in db.execute(text(sql)).mappings()]
            db.rollback()
        return found

    def tell_names(self, resource: str) -> dict[str, str]:
        """By id, the names of Contoso's live objects."""
        return {one["id"]: one["displayName"] for one in self.contoso.iterate_live(resource)}


def build_contoso() -> tuple[Tenant, dict[str, str]]:
    """A tenant as its first load finds it."""
    kinds = KindCounts.for_users(60)
    tenant = Tenant(seed=51, users=60, groups=10, sites=4, kinds=kinds, hidden_groups=False)
    ids = {
        "anna": tenant.create_user(
            userPrincipalName="anna.berg@contoso.example",
            displayName="Anna Berg",
            mail="Anna.Berg@contoso.example",
            proxyAddresses=["SMTP:Anna.Berg@contoso.example", "smtp:AB@contoso.example", "SIP:x@y"],
            otherMails=["Anna@Post.example"],
            jobTitle="Clerk",
            userType="Member",
            accountEnabled=True,
            assignedLicenses=[{"skuId": SKUS[0], "disabledPlans": [PLANS[0]]}],
        ),
        "bert": tenant.create_user(
            userPrincipalName="bert.holm@contoso.example",
            displayName="Bert Holm",
            department="Law",
            userType="Member",
            accountEnabled=False,
            assignedLicenses=[{"skuId": SKUS[0], "disabledPlans": []}],
        ),
        "cleo": tenant.create_user(
            userPrincipalName="cleo.lind@contoso.example",
            displayName="Cleo Lind",
            otherMails=["ANNA@post.example"],
            userType="Member",
            accountEnabled=True,
            assignedLicenses=[{"skuId": SKUS[0], "disabledPlans": [PLANS[0]]}],
        ),
        "dora": tenant.create_user(displayName="Dora Ek", userType="Member", accountEnabled=True),
        "gone": tenant.create_user(displayName="Gone Away", userType="Member"),
        "guest": tenant.create_user(
            userPrincipalName="gina_away_partner.example#EXT#@contoso.example",
            displayName="Gina Away",
            mail=None,
            otherMails=["gina_away@partner.example"],
            proxyAddresses=[],
            userType="Guest",
            creationType="Invitation",
            externalUserState="PendingAcceptance",
            externalUserStateChangeDateTime="2026-09-01T08:00:00Z",
            accountEnabled=True,
            assignedLicenses=[{"skuId": SKUS[1], "disabledPlans": [KNOWN_PLAN]}],
        ),
        "licensed": tenant.create_group(
            displayName="Licensed by group",
            groupTypes=[],
            visibility=None,
            assignedLicenses=[{"skuId": SKUS[0], "disabledPlans": [PLANS[0]]}],
        ),
        "rule": tenant.create_group(
            displayName="By a rule",
            groupTypes=["Unified", "DynamicMembership"],
            visibility="Public",
            membershipRule='(user.department -eq "Law")',
            membershipRuleProcessingState="Paused",
            expirationDateTime=f"{datetime.now(UTC) + timedelta(days=30):%Y-%m-%dT00:00:00Z}",
        ),
        "finance": tenant.create_group(displayName="Finance", groupTypes=[], visibility=None),
        "role": tenant.create_role_definition(displayName="Keeper of keys"),
    }
    for one in ("anna", "bert"):
        tenant.add_member(ids["licensed"], ids[one])
        tenant.add_owner(ids["rule"], ids[one])
    tenant.add_member(ids["rule"], ids["guest"])
    tenant.set_manager(ids["anna"], ids["bert"])
    tenant.set_sign_in(ids["anna"], successful="2026-10-01T00:00:00Z")
    tenant.add_owner(ids["finance"], ids["bert"])
    tenant.add_member(ids["finance"], ids["cleo"])
    return tenant, ids


def change_contoso(tenant: Tenant, ids: Mapping[str, str]) -> None:
    """What happens after the first load."""
    principal = tenant.service_principals.id_at(3)
    tenant.update_user(ids["anna"], jobTitle="Judge", officeLocation=None)
    tenant.update_user(ids["bert"], department="Sales")
    tenant.update_user(ids["dora"], accountEnabled=False)
    tenant.delete_user(ids["gone"])
    tenant.create_user(displayName="New Here", userPrincipalName="new@contoso.example")
    tenant.add_member(ids["finance"], ids["anna"])
    tenant.remove_member(ids["finance"], ids["cleo"])
    tenant.add_owner(ids["finance"], ids["anna"])
    tenant.assign_role(ids["role"], ids["anna"])
    tenant.make_eligible(ids["role"], ids["cleo"])
    graph = tenant.service_principals.props_at(0)
    tenant.assign_app_role(graph["id"], principal, graph["appRoles"][0]["id"], "service_principals")


def _build_fabrikam() -> Tenant:
    options = TenantOptions(refused_resources={"subscribed_skus"})
    return Tenant(
        seed=52,
        users=40,
        groups=6,
        sites=2,
        kinds=KindCounts(owners=1, skus=3),
        display_name="Fabrikam",
        domain="fabrikam.example",
        options=options,
    )


def mirror_customers(cluster: DatabaseFactory, nango_server: Server) -> Iterator[Analysts]:
    """Yield both customers, mirrored; the database is dropped afterwards."""
    nango: Nango = reset_nango(nango_server)
    url = cluster.create_migrated()
    settings = load_settings(
        database_url=url, nango_host=nango_server.url, nango_secret_key=nango.key
    )
    runtime = open_runtime(settings)
    turn_autovacuum_off(runtime.database)
    contoso, ids = build_contoso()
    fabrikam = _build_fabrikam()
    on = {"tenant_mirror": {"resources": dict.fromkeys(OFF, True)}}
    nango.add_connection("contoso", contoso, metadata=on)
    discover(runtime.database, runtime.nango, settings)
    sync_by_hand(runtime, CONTOSO)
    nango.add_connection("fabrikam", fabrikam)
    discover(runtime.database, runtime.nango, settings)
    sync_by_hand(runtime, FABRIKAM)
    change_contoso(contoso, ids)
    sync_by_hand(runtime, CONTOSO)
    yield Analysts(runtime.database, contoso, fabrikam, ids)
    close_runtime(runtime)
    cluster.drop(url)
