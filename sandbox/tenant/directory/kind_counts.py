"""How much a tenant has of what only some tenants have."""

from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, kw_only=True, slots=True)
class KindCounts:
    """Numbers of objects and edges. A tenant has none of these unless they are asked for."""

    owners: int = 0
    """Owners of a group: 0 to twice as many."""
    managers: bool = False
    """Whether nine tenths of the users have a manager."""
    sign_ins: bool = False
    """Whether users have a signInActivity."""
    service_principals: int = 0
    """Mostly of Microsoft's own applications, Microsoft Graph first."""
    applications: int = 0
    """Registrations of the customer's own applications, at most one for each of its principals."""
    app_roles: int = 0
    """Assignments of Microsoft Graph's application permissions to service principals."""
    other_app_roles: int = 0
    """Assignments of users, groups and service principals to other applications."""
    permission_grants: int = 0
    """Consents to delegated permissions."""
    skus: int = 0
    administrative_units: int = 0
    unit_members: int = 0
    """Members of a unit: 0 to twice as many."""
    pim: bool = False
    """Whether each role assignment is also an instance of a schedule."""
    eligibilities: int = 0
    """Principals that may activate a role."""

    @classmethod
    def for_users(cls, users: int) -> Self:
        """Return numbers that fit a tenant with as many users."""
        return cls(
            owners=1,
            managers=True,
            sign_ins=True,
            service_principals=min(max(users // 5, 25), 400),
            applications=min(max(users // 10, 3), 60),
            app_roles=min(max(users // 20, 6), 120),
            other_app_roles=min(max(users // 10, 6), 300),
            permission_grants=min(max(users // 10, 5), 200),
            skus=min(max(users // 20, 3), 10),
            administrative_units=min(max(users // 40, 2), 30),
            unit_members=min(max(users // 20, 3), 40),
            pim=True,
            eligibilities=min(max(users // 20, 4), 60),
        )
