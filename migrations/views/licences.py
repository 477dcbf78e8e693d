"""Products that customers subscribe to, and the users to whom they are assigned."""

from typing import Final

from migrations.views.view import (
    CUSTOMER,
    NULL_IF_UNSET,
    SEEN,
    AnalyticsView,
    Column,
    from_table,
    match_group,
    render_fresh_at,
    show_columns,
)
from models.resources.subscribed_skus import SUBSCRIBED_SKUS as _SUBSCRIBED_SKUS
from models.resources.users import USERS as _USERS

_OF_CUSTOMER: Final = ("connection_id", "t.connection_id")
_ASSIGNED: Final = f"""left join (
       select u.connection_id, lower(l.value ->> 'skuId') as sku_id, count(*) as users,
              count(*) filter (where not u.account_enabled) as disabled_users
         from directory.users u cross join lateral jsonb_array_elements(u.assigned_licenses) l
        where u.deleted_at is null
        group by 1, 2) a on {match_group("a", _OF_CUSTOMER, ("sku_id", "t.sku_id::text"))}"""


def _is_read(stream: str, column: str, sent_as: str) -> str:
    """Return whether a stream has read a column of all its objects."""
    return f"""coalesce({stream}.fresh_at is not null and {stream}.off_at is null
             and {stream}.phase <> 'refused'
             and coalesce('{column}' = any({stream}.walked_columns), true)
             and not coalesce('{sent_as}' = any({stream}.dropped || {stream}.left_out), false),
             false)"""


_ASSIGNED_IS_READ: Final = _is_read("su", "assigned_licenses", "assignedLicenses")
_NOT_ASSIGNED: Final = "; null where users or their licences are not mirrored"

LICENSES: Final = AnalyticsView(
    "licenses",
    "Products that customers subscribe to, with the units they have, use and assign",
    CUSTOMER
    + show_columns(
        _SUBSCRIBED_SKUS,
        (
            *("sku_id", "sku_part_number"),
            Column(
                "product_name",
                "coalesce(p.name, t.sku_part_number)",
                "the name that people know it by, of analytics.product_names; the short name where"
                " that does not have it",
            ),
            *("applies_to", "capability_status", "prepaid_enabled", "prepaid_warning"),
            *("prepaid_suspended", "prepaid_locked_out"),
            Column(
                "consumed_units",
                "t.consumed_units",
                "units in use, as of the last read, which is daily; null where Graph did not send"
                " it, so that it is not known",
            ),
            Column(
                "assigned_users",
                f"case when {_ASSIGNED_IS_READ} then coalesce(a.users, 0) end",
                "users that are not deleted to whom the product is assigned, directly or by a"
                f" group{_NOT_ASSIGNED}",
            ),
            Column(
                "assigned_disabled_users",
                f"case when {_ASSIGNED_IS_READ} then coalesce(a.disabled_users, 0) end",
                f"those among them whose account is disabled{_NOT_ASSIGNED}",
            ),
            *SEEN,
        ),
        further=(
            Column(
                "fresh_at",
                f"({render_fresh_at('t', 'users', 'subscribed_skus')})",
                "all numbers are at least as new as this; null where users were never read, or are"
                " switched off",
            ),
        ),
        apart=("service_plans",),
    ),
    from_table(
        _SUBSCRIBED_SKUS,
        (
            "left join analytics.product_names p on p.sku_id = t.sku_id",
            _ASSIGNED,
            """left join sync.streams su
    on su.connection_id = t.connection_id and su.resource = 'users'""",
        ),
    ),
    key=("connection_id", "id"),
)

# ---- who has which product


_SKU: Final = "lower(l.value ->> 'skuId')"


def select_licences(alias: str) -> str:
    """Return the products in ``assigned_licenses`` of a row, those whose id is a GUID.

    A regular expression would take longer than all the rest, and without the offset Postgres would
    find out the id anew for each join. The conditions also let it expect few products, not the 100
    that it takes a function to return.
    """
    return f"""(
       select ({_SKU})::uuid as sku_id,
              case jsonb_typeof(l.value -> 'disabledPlans')
              when 'array' then l.value -> 'disabledPlans' else '[]' end as disabled
         from jsonb_array_elements({alias}.assigned_licenses) l
        where {_SKU} like '________-____-____-____-____________'
          and translate({_SKU}, '0123456789abcdef', '') = '----'
       offset 0)"""


_OF_PRODUCT: Final = ("sku_id", "l.sku_id")
_THROUGH_GROUPS: Final = f"""left join (
       select m.connection_id, m.member_id, l.sku_id, count(*) as groups,
              min(g.display_name) as group_name, jsonb_agg(l.disabled) as disabled
         from directory.groups g
        cross join lateral {select_licences("g")} l
         join directory.group_members m
           on m.connection_id = g.connection_id and m.group_id = g.id and m.deleted_at is null
        where g.deleted_at is null and g.assigned_licenses <> '[]'
        group by 1, 2, 3) v
    on {match_group("v", _OF_CUSTOMER, ("member_id", "t.id"), _OF_PRODUCT)}"""
_HIDDEN_GROUPS: Final = f"""left join (
       select distinct g.connection_id, l.sku_id
         from directory.groups g
        cross join lateral {select_licences("g")} l
        where g.deleted_at is null and g.assigned_licenses <> '[]'
          and g.visibility = 'HiddenMembership'
          and not exists (select from directory.group_members m
                           where m.connection_id = g.connection_id and m.group_id = g.id
                             and m.deleted_at is null)) h
    on {match_group("h", _OF_CUSTOMER, _OF_PRODUCT)}"""
_HAS_MORE_THAN_GROUPS: Final = """exists (
              select from jsonb_array_elements_text(v.disabled -> 0) p
               where not l.disabled ? p.value
                 and not exists (select from jsonb_array_elements(v.disabled) d
                                  where not d.value ? p.value))"""
"""A plan that every group leaves out is on: plans of several assignments add up, so there is a
direct one."""
_PRODUCT_NAME: Final = Column(
    "product_name",
    "coalesce(p.name, k.sku_part_number)",
    "the name that people know it by, of analytics.product_names, else the short name; null where"
    " neither is known",
)

USER_LICENSES: Final = AnalyticsView(
    "user_licenses",
    "Products assigned to users that are not deleted, a row for each user and product",
    (
        *CUSTOMER,
        Column("user_id", "t.id", "the user's id", personal=True, references="users"),
        Column(
            "display_name", "t.display_name", f"the user's name; {NULL_IF_UNSET}", personal=True
        ),
        Column(
            "user_principal_name",
            "t.user_principal_name",
            f"the user's sign-in name; {NULL_IF_UNSET}",
            personal=True,
        ),
        Column(
            "account_enabled",
            "coalesce(t.account_enabled, true)",
            "whether sign-in is allowed; true where Graph sent nothing",
        ),
        Column(
            "is_guest",
            "coalesce(t.user_type = 'Guest', false)",
            "whether it is a guest; false where Graph did not send the type",
        ),
        Column("sku_id", "l.sku_id", "the id of the product, the same in every tenant"),
        Column(
            "sku_part_number",
            "k.sku_part_number",
            "Microsoft's short name of the product; null where products are not mirrored, or the"
            " customer no longer subscribes to it",
        ),
        _PRODUCT_NAME,
        Column(
            "plan_count",
            "jsonb_array_length(k.service_plans)",
            "how many services the product has; null where sku_part_number is",
        ),
        Column(
            "enabled_plan_count",
            "greatest(jsonb_array_length(k.service_plans) - jsonb_array_length(l.disabled), 0)",
            "how many of them the user has; null where sku_part_number is",
        ),
        Column(
            "disabled_plan_count",
            "jsonb_array_length(l.disabled)",
            "how many of them are disabled for the user",
        ),
        Column(
            "licensed_through",
            f"""case when v.groups is not null and {_HAS_MORE_THAN_GROUPS} then 'both'
            when v.groups is not null then 'group'
            when h.sku_id is null and {_is_read("sg", "assigned_licenses", "assignedLicenses")}
             and not coalesce('members' = any(sg.dropped), false) then 'direct'
            else 'unknown' end""",
            "group: a group that the user is a direct member of assigns it, and whether it is"
            " assigned directly as well is not known; both: it is, as it has a service that no such"
            " group includes; direct: no such group does; unknown: licences or members of groups"
            " are not mirrored, or hidden",
        ),
        Column(
            "group_count",
            "coalesce(v.groups, 0)",
            "how many groups that the user is a direct member of assign it; 0 where none is known",
        ),
        Column(
            "group_name",
            "v.group_name",
            "the first of these groups by name; null where there is none",
            personal=True,
        ),
    ),
    from_table(
        _USERS,
        (
            f"cross join lateral {select_licences('t')} l",
            """left join directory.subscribed_skus k
    on k.connection_id = t.connection_id and k.sku_id = l.sku_id and k.deleted_at is null""",
            "left join analytics.product_names p on p.sku_id = l.sku_id",
            """left join sync.streams sg
    on sg.connection_id = t.connection_id and sg.resource = 'groups'""",
            _THROUGH_GROUPS,
            _HIDDEN_GROUPS,
        ),
    ),
    key=("connection_id", "user_id", "sku_id"),
)

# ---- units of products

_PRODUCTS: Final = f"""
  from (select connection_id, sku_id, max(part_number) as part_number, max(status) as status,
               sum(bought)::bigint as bought, sum(suspended)::bigint as suspended,
               sum(consumed)::bigint as consumed, sum(users)::bigint as users,
               sum(disabled)::bigint as disabled, sum(guests)::bigint as guests
          from (select connection_id, sku_id, sku_part_number as part_number,
                       capability_status as status,
                       prepaid_enabled + coalesce(prepaid_warning, 0) as bought,
                       prepaid_suspended as suspended, consumed_units as consumed,
                       null::bigint as users, null::bigint as disabled, null::bigint as guests
                  from directory.subscribed_skus
                 where deleted_at is null and sku_id is not null
                union all
                select u.connection_id, l.sku_id, null, null, null, null, null, count(*),
                       count(*) filter (where not u.account_enabled),
                       count(*) filter (where u.user_type = 'Guest')
                  from directory.users u cross join lateral {select_licences("u")} l
                 where u.deleted_at is null
                 group by 1, 2) one
         group by 1, 2) t
  join sync.connections c on c.id = t.connection_id and c.status <> 'retired'
  left join analytics.product_names p on p.sku_id = t.sku_id
  left join sync.streams sk
    on sk.connection_id = t.connection_id and sk.resource = 'subscribed_skus'
  left join sync.streams su on su.connection_id = t.connection_id and su.resource = 'users'
"""
_NOT_READ: Final = "; null where products are not mirrored, or the customer does not have it"


def _count_users(name: str, column: str, meaning: str) -> Column:
    return Column(
        name,
        f"case when {_ASSIGNED_IS_READ} then coalesce(t.{column}, 0) end",
        f"{meaning}{_NOT_ASSIGNED}",
    )


LICENSE_SUMMARY: Final = AnalyticsView(
    "license_summary",
    "What each customer has bought, uses and assigns of each product; also of products that users"
    " have and the customer no longer subscribes to",
    (
        *CUSTOMER,
        Column("sku_id", "t.sku_id", "the id of the product, the same in every tenant"),
        Column(
            "sku_part_number", "t.part_number", f"Microsoft's short name of the product{_NOT_READ}"
        ),
        Column("product_name", "coalesce(p.name, t.part_number)", _PRODUCT_NAME.meaning),
        Column(
            "capability_status",
            "t.status",
            "Enabled, Warning (expired, in use), Suspended, Deleted or LockedOut" + _NOT_READ,
        ),
        Column(
            "bought_units",
            "t.bought",
            f"units that can be used, those of an expired subscription included{_NOT_READ}",
        ),
        Column("suspended_units", "t.suspended", f"units that were suspended{_NOT_READ}"),
        Column("consumed_units", "t.consumed", f"units in use, as Graph counts them{_NOT_READ}"),
        Column(
            "free_units",
            "t.bought - t.consumed",
            f"bought and not in use; below 0 where more is in use than was bought{_NOT_READ}",
        ),
        _count_users(
            "assigned_users",
            "users",
            "users that are not deleted to whom it is assigned, as the mirror counts them",
        ),
        _count_users("assigned_disabled_users", "disabled", "those among them that cannot sign in"),
        _count_users("assigned_guests", "guests", "the guests among them"),
        Column(
            "fresh_at",
            "case when su.fresh_at is not null then least(sk.fresh_at, su.fresh_at) end",
            "all numbers are at least as new as this; products alone are read once a day, those of"
            " users mostly later; null where users were never read",
        ),
    ),
    _PRODUCTS,
    key=("connection_id", "sku_id"),
)
