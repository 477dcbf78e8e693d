-- The views of revision 0054, which a downgrade makes again.

create view analytics.freshness as
 SELECT c.id AS connection_id,
    c.display_name AS organization,
    w.name AS resource,
    s.fresh_at,
    s.interval_seconds,
    COALESCE(NOT (s.phase = 'refused'::text AND s.reason ~~ '%the tenant has no licence for this'::text), true) AND NOT (s.off_at IS NOT NULL OR COALESCE(w.relation = ANY (s.dropped), false) OR s.resource IS NULL AND w.is_optional) AND COALESCE(s.fresh_at, GREATEST(c.created_at, s.first_due_at)) < (clock_timestamp() - make_interval(secs => GREATEST(3::double precision * COALESCE(s.interval_seconds, 300::double precision), COALESCE(s.interval_seconds, 300::double precision) + 600::double precision))) AS is_late,
        CASE
            WHEN s.off_at IS NOT NULL OR COALESCE(w.relation = ANY (s.dropped), false) OR s.resource IS NULL AND w.is_optional THEN 'off'::text
            WHEN s.phase = 'refused'::text AND s.reason ~~ '%the tenant has no licence for this'::text THEN 'not_licensed'::text
            ELSE COALESCE(s.phase, 'ready'::text)
        END AS phase,
    s.reason
   FROM sync.connections c
     CROSS JOIN sync.resources w
     LEFT JOIN sync.streams s ON s.connection_id = c.id AND s.resource = w.stream
  WHERE c.status <> 'retired'::text;
comment on view analytics.freshness is 'How new the rows of each customer and resource are';
comment on column analytics.freshness.connection_id is 'our number of the connection, which is never used again';
comment on column analytics.freshness.organization is 'the name of the customer''s organization; null until it was first read';
comment on column analytics.freshness.resource is 'the table of schema directory';
comment on column analytics.freshness.fresh_at is 'the rows are at least as new as this; null where they were never read';
comment on column analytics.freshness.interval_seconds is 'seconds between two reads; null where none was begun';
comment on column analytics.freshness.is_late is 'older than three intervals, and than one interval and ten minutes; false where the tenant lacks the licence for it, or the settings switch it off';
comment on column analytics.freshness.phase is 'what is being done with the resource: ready, listing, sweeping, delta, refused, held, not_licensed where the tenant lacks the licence for it, or off where the settings switch it off';
comment on column analytics.freshness.reason is 'why it is refused, held or waiting, in plain words';

create view analytics.connections as
 SELECT c.id AS connection_id,
    c.tenant_id,
    c.display_name AS organization,
    c.status,
    f.fresh_at
   FROM sync.connections c
     LEFT JOIN LATERAL ( SELECT
                CASE
                    WHEN bool_and(f_1.fresh_at IS NOT NULL) THEN min(f_1.fresh_at)
                    ELSE NULL::timestamp with time zone
                END AS fresh_at
           FROM analytics.freshness f_1
          WHERE f_1.connection_id = c.id AND (f_1.phase <> ALL (ARRAY['not_licensed'::text, 'off'::text])) AND (f_1.fresh_at IS NOT NULL OR NOT (EXISTS ( SELECT
                   FROM sync.resources r
                     JOIN sync.streams s ON s.resource = r.stream
                  WHERE r.name = f_1.resource AND s.connection_id = c.id AND s.first_due_at IS NOT NULL)))) f ON true
  WHERE c.status <> 'retired'::text;
comment on view analytics.connections is 'Customers, without those that are retired';
comment on column analytics.connections.connection_id is 'our number of the connection, which is never used again';
comment on column analytics.connections.tenant_id is 'the id of the Microsoft tenant; null until it was first read';
comment on column analytics.connections.organization is 'the name of the customer''s organization; null until it was first read';
comment on column analytics.connections.status is 'active, paused, broken or duplicate';
comment on column analytics.connections.fresh_at is 'the rows of all resources are at least as new as this, those aside that the tenant lacks the licence for, that are off, or that were added and not read yet; null where another one was never read';

create view analytics.users as
 SELECT c.display_name AS organization,
    t.connection_id,
    t.id,
    t.user_principal_name,
    t.display_name,
    t.mail,
    t.job_title,
    t.department,
    t.company_name,
    t.office_location,
    t.employee_id,
    t.employee_type,
    t.user_type,
    t.account_enabled,
    t.city,
    t.country,
    t.usage_location,
    t.created_date_time,
    t.last_password_change_date_time,
    COALESCE(t.on_premises_sync_enabled, false) AS on_premises_sync_enabled,
    t.external_user_state,
    COALESCE(jsonb_array_length(t.assigned_licenses), 0) AS license_count,
    t.first_seen_at,
    t.changed_at,
    t.creation_type,
    t.external_user_state_change_date_time,
    COALESCE(t.is_resource_account, false) AS is_resource_account,
    COALESCE(t.password_policies ~~ '%DisablePasswordExpiration%'::text, false) AS password_never_expires
   FROM directory.users t
     JOIN sync.connections c ON c.id = t.connection_id AND c.status <> 'retired'::text
  WHERE t.deleted_at IS NULL;
comment on view analytics.users is 'Users that are not deleted';
comment on column analytics.users.organization is 'the name of the customer''s organization; null until it was first read';
comment on column analytics.users.connection_id is 'our number of the connection, which is never used again';
comment on column analytics.users.id is 'the user''s id in Entra';
comment on column analytics.users.user_principal_name is 'the sign-in name; null where it is empty or Graph did not send it';
comment on column analytics.users.display_name is 'the name for people; null where it is empty or Graph did not send it';
comment on column analytics.users.mail is 'the main address; null where it is empty or Graph did not send it';
comment on column analytics.users.job_title is 'the job title; null where it is empty or Graph did not send it';
comment on column analytics.users.department is 'the department; null where it is empty or Graph did not send it';
comment on column analytics.users.company_name is 'the company; null where it is empty or Graph did not send it';
comment on column analytics.users.office_location is 'the office; null where it is empty or Graph did not send it';
comment on column analytics.users.employee_id is 'the number in the organization''s own books; null where it is empty or Graph did not send it';
comment on column analytics.users.employee_type is 'the kind of employment; null where it is empty or Graph did not send it';
comment on column analytics.users.user_type is 'Member or Guest; null where Graph did not send it, so that it is not known';
comment on column analytics.users.account_enabled is 'whether the account can sign in; null where Graph did not send it, so that it is not known';
comment on column analytics.users.city is 'the city; null where it is empty or Graph did not send it';
comment on column analytics.users.country is 'the country; null where it is empty or Graph did not send it';
comment on column analytics.users.usage_location is 'the country whose rules for licences apply, in two letters; null where it is empty or Graph did not send it';
comment on column analytics.users.created_date_time is 'when it was created, as Graph gives it; null where it is empty or Graph did not send it';
comment on column analytics.users.last_password_change_date_time is 'when the password was last set; null where it is empty or Graph did not send it';
comment on column analytics.users.on_premises_sync_enabled is 'whether it is kept in step with a directory on premises; false where it never was, of which Graph sends nothing';
comment on column analytics.users.external_user_state is 'of a guest: PendingAcceptance or Accepted; null where it is empty or Graph did not send it';
comment on column analytics.users.license_count is 'how many licences are assigned; 0 where Graph sent none';
comment on column analytics.users.first_seen_at is 'when the row was first stored; it may have been deleted and restored since';
comment on column analytics.users.changed_at is 'when the row last changed here';
comment on column analytics.users.creation_type is 'Invitation, LocalAccount and such; null where it is empty or Graph did not send it';
comment on column analytics.users.external_user_state_change_date_time is 'when the state of a guest''s invitation last changed; null where it is empty or Graph did not send it';
comment on column analytics.users.is_resource_account is 'whether it stands for a room or a device; false where Graph sent nothing';
comment on column analytics.users.password_never_expires is 'whether its password is exempt from expiring';

create view analytics.groups as
 SELECT c.display_name AS organization,
    t.connection_id,
    t.id,
    t.display_name,
    t.description,
    t.mail,
    t.visibility,
    t.security_enabled,
    t.mail_enabled,
    COALESCE('Unified'::text = ANY (t.group_types), false) AS is_microsoft_365,
    COALESCE('DynamicMembership'::text = ANY (t.group_types), false) AS is_dynamic,
    COALESCE(t.is_assignable_to_role, false) AS is_assignable_to_role,
    t.membership_rule,
    t.created_date_time,
    t.expiration_date_time,
    t.first_seen_at,
    t.changed_at,
    COALESCE(jsonb_array_length(t.assigned_licenses), 0) AS license_count,
    COALESCE(t.is_management_restricted, false) AS is_management_restricted
   FROM directory.groups t
     JOIN sync.connections c ON c.id = t.connection_id AND c.status <> 'retired'::text
  WHERE t.deleted_at IS NULL;
comment on view analytics.groups is 'Groups that are not deleted';
comment on column analytics.groups.organization is 'the name of the customer''s organization; null until it was first read';
comment on column analytics.groups.connection_id is 'our number of the connection, which is never used again';
comment on column analytics.groups.id is 'the group''s id in Entra';
comment on column analytics.groups.display_name is 'the name for people; null where it is empty or Graph did not send it';
comment on column analytics.groups.description is 'the description; null where it is empty or Graph did not send it';
comment on column analytics.groups.mail is 'the address; null where it is empty or Graph did not send it';
comment on column analytics.groups.visibility is 'Public, Private or HiddenMembership; null where it is empty or Graph did not send it';
comment on column analytics.groups.security_enabled is 'whether it is a security group; null where Graph did not send it, so that it is not known';
comment on column analytics.groups.mail_enabled is 'whether it has an address; null where Graph did not send it, so that it is not known';
comment on column analytics.groups.is_microsoft_365 is 'whether it is a Microsoft 365 group';
comment on column analytics.groups.is_dynamic is 'whether a rule decides who is a member';
comment on column analytics.groups.is_assignable_to_role is 'whether it can hold directory roles; false where Graph sent nothing, which is its default';
comment on column analytics.groups.membership_rule is 'the rule of a dynamic group; null where it is empty or Graph did not send it';
comment on column analytics.groups.created_date_time is 'when it was created, as Graph gives it; null where it is empty or Graph did not send it';
comment on column analytics.groups.expiration_date_time is 'when it expires; null where it is empty or Graph did not send it';
comment on column analytics.groups.first_seen_at is 'when the row was first stored; it may have been deleted and restored since';
comment on column analytics.groups.changed_at is 'when the row last changed here';
comment on column analytics.groups.license_count is 'how many licences its members inherit; 0 where Graph sent none';
comment on column analytics.groups.is_management_restricted is 'whether only administrators of a restricted unit may change it; false where Graph sent nothing';

create view analytics.group_members as
 SELECT c.display_name AS organization,
    t.connection_id,
    t.group_id,
    g.display_name AS group_name,
    t.member_id,
        CASE
            WHEN t.member_type <> 'other'::text THEN t.member_type
            WHEN u.id IS NOT NULL THEN 'user'::text
            WHEN m.id IS NOT NULL THEN 'group'::text
            WHEN p.id IS NOT NULL THEN 'service_principal'::text
            ELSE 'unresolved'::text
        END AS member_type,
    COALESCE(u.display_name, m.display_name, p.display_name) AS member_name,
    u.user_principal_name,
    t.live_since AS since,
    t.live_since IS NOT NULL AS since_exact,
    COALESCE(t.live_since, t.changed_at) AS at_least_since
   FROM directory.group_members t
     LEFT JOIN directory.groups g ON g.connection_id = t.connection_id AND g.id = t.group_id
     LEFT JOIN directory.users u ON u.connection_id = t.connection_id AND u.id = t.member_id
     LEFT JOIN directory.groups m ON m.connection_id = t.connection_id AND m.id = t.member_id
     LEFT JOIN directory.service_principals p ON p.connection_id = t.connection_id AND p.id = t.member_id
     JOIN sync.connections c ON c.id = t.connection_id AND c.status <> 'retired'::text
  WHERE t.deleted_at IS NULL;
comment on view analytics.group_members is 'Direct memberships that have not ended';
comment on column analytics.group_members.organization is 'the name of the customer''s organization; null until it was first read';
comment on column analytics.group_members.connection_id is 'our number of the connection, which is never used again';
comment on column analytics.group_members.group_id is 'the group''s id';
comment on column analytics.group_members.group_name is 'the group''s name; null where it is empty or the group is not mirrored';
comment on column analytics.group_members.member_id is 'the member''s id';
comment on column analytics.group_members.member_type is 'user, group, device, service_principal or org_contact; unresolved where Graph did not name a type that is known';
comment on column analytics.group_members.member_name is 'the name of a user, group or service principal; null of others, which are not mirrored';
comment on column analytics.group_members.user_principal_name is 'the sign-in name of a user; null of others';
comment on column analytics.group_members.since is 'when it began, as closely as the resource is read; null where that was not seen, as in a first load';
comment on column analytics.group_members.since_exact is 'whether since is known';
comment on column analytics.group_members.at_least_since is 'since when it is known to hold: since, or the last change of the row';

create view analytics.sites as
 SELECT c.display_name AS organization,
    t.connection_id,
    t.id,
    t.display_name,
    t.name,
    t.web_url,
    t.hostname,
    COALESCE(t.is_personal_site, false) AS is_personal_site,
    COALESCE(t.is_root, false) AS is_root,
    t.data_location_code,
    t.created_date_time,
    t.last_modified_date_time,
    t.first_seen_at,
    t.changed_at
   FROM directory.sites t
     JOIN sync.connections c ON c.id = t.connection_id AND c.status <> 'retired'::text
  WHERE t.deleted_at IS NULL;
comment on view analytics.sites is 'SharePoint sites and personal sites that are not deleted';
comment on column analytics.sites.organization is 'the name of the customer''s organization; null until it was first read';
comment on column analytics.sites.connection_id is 'our number of the connection, which is never used again';
comment on column analytics.sites.id is 'the GUID of the web';
comment on column analytics.sites.display_name is 'the title; null where it is empty or Graph did not send it';
comment on column analytics.sites.name is 'the last part of the address; null where it is empty or Graph did not send it';
comment on column analytics.sites.web_url is 'the address; null where it is empty or Graph did not send it';
comment on column analytics.sites.hostname is 'the host of the site collection; null where it is empty or Graph did not send it';
comment on column analytics.sites.is_personal_site is 'whether it is somebody''s OneDrive; false where Graph sent nothing';
comment on column analytics.sites.is_root is 'whether it is the top site of its collection';
comment on column analytics.sites.data_location_code is 'where the data is, in a tenant of several regions; null where it is empty or Graph did not send it';
comment on column analytics.sites.created_date_time is 'when it was created, as Graph gives it; null where it is empty or Graph did not send it';
comment on column analytics.sites.last_modified_date_time is 'when it was last changed, as Graph gives it; null where it is empty or Graph did not send it';
comment on column analytics.sites.first_seen_at is 'when the row was first stored; it may have been deleted and restored since';
comment on column analytics.sites.changed_at is 'when the row last changed here';

create view analytics.role_definitions as
 SELECT c.display_name AS organization,
    t.connection_id,
    t.id,
    t.display_name,
    t.description,
    t.is_built_in,
    t.is_enabled,
    t.template_id,
    t.version,
    t.first_seen_at,
    t.changed_at
   FROM directory.role_definitions t
     JOIN sync.connections c ON c.id = t.connection_id AND c.status <> 'retired'::text
  WHERE t.deleted_at IS NULL;
comment on view analytics.role_definitions is 'Directory roles, built-in and custom';
comment on column analytics.role_definitions.organization is 'the name of the customer''s organization; null until it was first read';
comment on column analytics.role_definitions.connection_id is 'our number of the connection, which is never used again';
comment on column analytics.role_definitions.id is 'the id of the role definition';
comment on column analytics.role_definitions.display_name is 'the name, which Microsoft or the customer may change; null where it is empty or Graph did not send it';
comment on column analytics.role_definitions.description is 'the description; null where it is empty or Graph did not send it';
comment on column analytics.role_definitions.is_built_in is 'whether it is one of Microsoft''s own, not the customer''s; null where Graph did not send it, so that it is not known';
comment on column analytics.role_definitions.is_enabled is 'whether it can be assigned; null where Graph did not send it, so that it is not known';
comment on column analytics.role_definitions.template_id is 'of a built-in role the same id in every tenant, whatever its name; null where it is empty or Graph did not send it';
comment on column analytics.role_definitions.version is 'the version of the definition; null where it is empty or Graph did not send it';
comment on column analytics.role_definitions.first_seen_at is 'when the row was first stored; it may have been deleted and restored since';
comment on column analytics.role_definitions.changed_at is 'when the row last changed here';

create view analytics.role_assignments as
 SELECT c.display_name AS organization,
    t.connection_id,
    t.id,
    t.principal_id,
    COALESCE(u.display_name, g.display_name, p.display_name) AS principal_name,
        CASE
            WHEN u.id IS NOT NULL THEN 'user'::text
            WHEN g.id IS NOT NULL THEN 'group'::text
            WHEN p.id IS NOT NULL THEN 'service_principal'::text
            ELSE COALESCE(e.member_type, 'unresolved'::text)
        END AS principal_type,
    u.user_principal_name,
    t.role_definition_id,
    d.display_name AS role_name,
    d.is_built_in,
    t.directory_scope_id,
    t.app_scope_id,
        CASE
            WHEN COALESCE(u.live_since, g.live_since, p.live_since) > COALESCE(t.live_since, t.changed_at) THEN COALESCE(u.live_since, g.live_since, p.live_since)
            ELSE t.live_since
        END AS since,
    t.live_since IS NOT NULL OR COALESCE(COALESCE(u.live_since, g.live_since, p.live_since) > t.changed_at, false) AS since_exact,
    GREATEST(COALESCE(t.live_since, t.changed_at), u.live_since, g.live_since, p.live_since) AS at_least_since,
    d.template_id AS role_template_id
   FROM directory.role_assignments t
     LEFT JOIN directory.role_definitions d ON d.connection_id = t.connection_id AND d.id = t.role_definition_id
     LEFT JOIN directory.users u ON u.connection_id = t.connection_id AND u.id = t.principal_id
     LEFT JOIN directory.groups g ON g.connection_id = t.connection_id AND g.id = t.principal_id
     LEFT JOIN directory.service_principals p ON p.connection_id = t.connection_id AND p.id = t.principal_id
     LEFT JOIN LATERAL ( SELECT m.member_type
           FROM directory.group_members m
          WHERE m.connection_id = t.connection_id AND m.member_id = t.principal_id AND u.id IS NULL AND g.id IS NULL AND p.id IS NULL AND m.member_type <> 'other'::text
         LIMIT 1) e ON true
     JOIN sync.connections c ON c.id = t.connection_id AND c.status <> 'retired'::text
  WHERE t.deleted_at IS NULL AND COALESCE(u.deleted_at, g.deleted_at, p.deleted_at) IS NULL;
comment on view analytics.role_assignments is 'Directory roles held, without those of deleted users and groups';
comment on column analytics.role_assignments.organization is 'the name of the customer''s organization; null until it was first read';
comment on column analytics.role_assignments.connection_id is 'our number of the connection, which is never used again';
comment on column analytics.role_assignments.id is 'the id of the assignment';
comment on column analytics.role_assignments.principal_id is 'who holds the role; null where Graph did not send it, so that it is not known';
comment on column analytics.role_assignments.principal_name is 'the name of a user, group or service principal; null of others, which are not mirrored';
comment on column analytics.role_assignments.principal_type is 'user, group, service_principal, or as what the principal is a member of a group: device, org_contact; unresolved where that is not known';
comment on column analytics.role_assignments.user_principal_name is 'the sign-in name of a user; null of others';
comment on column analytics.role_assignments.role_definition_id is 'the id of the role definition; null where Graph did not send it, so that it is not known';
comment on column analytics.role_assignments.role_name is 'the name of the role; null where its definition is not mirrored';
comment on column analytics.role_assignments.is_built_in is 'whether the role is one of Microsoft''s own; null where its definition is not mirrored or does not tell';
comment on column analytics.role_assignments.directory_scope_id is 'what it is held over: / is the whole tenant; null where app_scope_id tells it';
comment on column analytics.role_assignments.app_scope_id is 'what it is held over within an application; null where directory_scope_id tells it';
comment on column analytics.role_assignments.since is 'when it began, as closely as the resource is read; null where that was not seen, as in a first load';
comment on column analytics.role_assignments.since_exact is 'whether since is known';
comment on column analytics.role_assignments.at_least_since is 'since when it is known to hold: since, or the last change of the row';
comment on column analytics.role_assignments.role_template_id is 'of a built-in role the same id in every tenant; null where its definition is not mirrored or has none';

create view analytics.service_principals as
 SELECT c.display_name AS organization,
    t.connection_id,
    t.id,
    t.app_id,
    t.display_name,
    t.service_principal_type,
    t.account_enabled,
    t.app_owner_organization_id,
    COALESCE(t.app_owner_organization_id = ANY (ARRAY['f8cdef31-a31e-4b4a-93e4-5f571e91255a'::uuid, '72f988bf-86f1-41af-91ab-2d7cd011db47'::uuid]), false) AS is_microsoft,
    COALESCE((t.app_owner_organization_id <> ALL (ARRAY['f8cdef31-a31e-4b4a-93e4-5f571e91255a'::uuid, '72f988bf-86f1-41af-91ab-2d7cd011db47'::uuid])) AND t.app_owner_organization_id::text <> c.tenant_id::text, false) AS is_foreign,
    COALESCE(t.app_role_assignment_required, false) AS app_role_assignment_required,
    t.sign_in_audience,
    t.disabled_by_microsoft_status,
    t.verified_publisher ->> 'displayName'::text AS verified_publisher_name,
    COALESCE(jsonb_array_length(t.key_credentials), 0) AS certificate_count,
    COALESCE(jsonb_array_length(t.password_credentials), 0) AS secret_count,
    t.first_seen_at,
    t.changed_at
   FROM directory.service_principals t
     JOIN sync.connections c ON c.id = t.connection_id AND c.status <> 'retired'::text
  WHERE t.deleted_at IS NULL;
comment on view analytics.service_principals is 'Service principals that are not deleted: applications and managed identities';
comment on column analytics.service_principals.organization is 'the name of the customer''s organization; null until it was first read';
comment on column analytics.service_principals.connection_id is 'our number of the connection, which is never used again';
comment on column analytics.service_principals.id is 'the service principal''s id in Entra';
comment on column analytics.service_principals.app_id is 'the id of its application, the same in every tenant; null where it is empty or Graph did not send it';
comment on column analytics.service_principals.display_name is 'the name for people; null where it is empty or Graph did not send it';
comment on column analytics.service_principals.service_principal_type is 'Application, ManagedIdentity, Legacy or SocialIdp; null where it is empty or Graph did not send it';
comment on column analytics.service_principals.account_enabled is 'whether it can sign in; null where Graph did not send it, so that it is not known';
comment on column analytics.service_principals.app_owner_organization_id is 'the tenant that registered the application; null where it is empty or Graph did not send it';
comment on column analytics.service_principals.is_microsoft is 'whether Microsoft registered the application';
comment on column analytics.service_principals.is_foreign is 'whether another organization than the customer and Microsoft registered it; false where that is not known, as of managed identities';
comment on column analytics.service_principals.app_role_assignment_required is 'whether only those with an app role may use it; false where Graph sent nothing';
comment on column analytics.service_principals.sign_in_audience is 'whose accounts may sign in, such as AzureADMyOrg; null where it is empty or Graph did not send it';
comment on column analytics.service_principals.disabled_by_microsoft_status is 'why Microsoft has disabled it; null where it is empty or Graph did not send it';
comment on column analytics.service_principals.verified_publisher_name is 'the publisher that Microsoft has verified; null where there is none';
comment on column analytics.service_principals.certificate_count is 'how many certificates it has; 0 where Graph sent none';
comment on column analytics.service_principals.secret_count is 'how many client secrets it has; 0 where Graph sent none';
comment on column analytics.service_principals.first_seen_at is 'when the row was first stored; it may have been deleted and restored since';
comment on column analytics.service_principals.changed_at is 'when the row last changed here';

create view analytics.licenses as
 SELECT c.display_name AS organization,
    t.connection_id,
    t.sku_id,
    t.sku_part_number,
    COALESCE(p.name, t.sku_part_number) AS product_name,
    t.applies_to,
    t.capability_status,
    t.prepaid_enabled,
    t.prepaid_warning,
    t.prepaid_suspended,
    t.prepaid_locked_out,
    t.consumed_units,
    COALESCE(a.users, 0::bigint) AS assigned_users,
    COALESCE(a.disabled_users, 0::bigint) AS assigned_disabled_users,
    t.first_seen_at,
    t.changed_at
   FROM directory.subscribed_skus t
     JOIN sync.connections c ON c.id = t.connection_id AND c.status <> 'retired'::text
     LEFT JOIN analytics.product_names p ON p.sku_id = t.sku_id
     LEFT JOIN ( SELECT u.connection_id,
            lower(l.value ->> 'skuId'::text) AS sku_id,
            count(*) AS users,
            count(*) FILTER (WHERE NOT u.account_enabled) AS disabled_users
           FROM directory.users u
             CROSS JOIN LATERAL jsonb_array_elements(u.assigned_licenses) l(value)
          WHERE u.deleted_at IS NULL
          GROUP BY u.connection_id, (lower(l.value ->> 'skuId'::text))) a ON a.connection_id = t.connection_id AND a.sku_id = t.sku_id::text
  WHERE t.deleted_at IS NULL;
comment on view analytics.licenses is 'Products that customers subscribe to, with the units they have, use and assign';
comment on column analytics.licenses.organization is 'the name of the customer''s organization; null until it was first read';
comment on column analytics.licenses.connection_id is 'our number of the connection, which is never used again';
comment on column analytics.licenses.sku_id is 'the id of the product, the same in every tenant; null where Graph did not send it, so that it is not known';
comment on column analytics.licenses.sku_part_number is 'Microsoft''s short name; null where Graph did not send it, so that it is not known';
comment on column analytics.licenses.product_name is 'the name that people know it by, of analytics.product_names; the short name where that does not have it';
comment on column analytics.licenses.applies_to is 'User or Company; null where Graph did not send it, so that it is not known';
comment on column analytics.licenses.capability_status is 'Enabled, Warning (expired, in use), Suspended, Deleted or LockedOut; null where Graph did not send it, so that it is not known';
comment on column analytics.licenses.prepaid_enabled is 'units to use; null where Graph did not send it, so that it is not known';
comment on column analytics.licenses.prepaid_warning is 'units of an expired subscription that can still be used; null where Graph did not send it, so that it is not known';
comment on column analytics.licenses.prepaid_suspended is 'suspended units; null where Graph did not send it, so that it is not known';
comment on column analytics.licenses.prepaid_locked_out is 'units of a cancelled subscription; null where Graph did not send it, so that it is not known';
comment on column analytics.licenses.consumed_units is 'units in use, as of the last read, which is daily; null where Graph did not send it, so that it is not known';
comment on column analytics.licenses.assigned_users is 'users that are not deleted to whom the product is assigned, directly or by a group';
comment on column analytics.licenses.assigned_disabled_users is 'those among them whose account is disabled';
comment on column analytics.licenses.first_seen_at is 'when the row was first stored; it may have been deleted and restored since';
comment on column analytics.licenses.changed_at is 'when the row last changed here, apart from the units in use';

create view analytics.app_role_assignments as
 SELECT c.display_name AS organization,
    t.connection_id,
    t.id,
    t.principal_id,
    COALESCE(p.display_name, u.display_name, g.display_name) AS principal_name,
        CASE
            WHEN p.id IS NOT NULL THEN 'service_principal'::text
            WHEN u.id IS NOT NULL THEN 'user'::text
            WHEN g.id IS NOT NULL THEN 'group'::text
            ELSE COALESCE(
            CASE t.principal_type
                WHEN 'ServicePrincipal'::text THEN 'service_principal'::text
                WHEN 'User'::text THEN 'user'::text
                WHEN 'Group'::text THEN 'group'::text
                ELSE NULL::text
            END, 'unresolved'::text)
        END AS principal_type,
    t.resource_id,
    r.display_name AS resource_name,
    t.app_role_id,
    ( SELECT role.one ->> 'value'::text
           FROM jsonb_array_elements(r.app_roles) role(one)
          WHERE (role.one ->> 'id'::text) = t.app_role_id::text
         LIMIT 1) AS permission,
    t.created_date_time,
    t.live_since AS since,
    t.live_since IS NOT NULL AS since_exact,
    COALESCE(t.live_since, t.changed_at) AS at_least_since
   FROM directory.app_role_assignments t
     LEFT JOIN directory.service_principals r ON r.connection_id = t.connection_id AND r.id = t.resource_id
     LEFT JOIN directory.service_principals p ON p.connection_id = t.connection_id AND p.id = t.principal_id
     LEFT JOIN directory.users u ON u.connection_id = t.connection_id AND u.id = t.principal_id
     LEFT JOIN directory.groups g ON g.connection_id = t.connection_id AND g.id = t.principal_id
     JOIN sync.connections c ON c.id = t.connection_id AND c.status <> 'retired'::text
  WHERE t.deleted_at IS NULL;
comment on view analytics.app_role_assignments is 'Application permissions of Microsoft Graph that are held';
comment on column analytics.app_role_assignments.organization is 'the name of the customer''s organization; null until it was first read';
comment on column analytics.app_role_assignments.connection_id is 'our number of the connection, which is never used again';
comment on column analytics.app_role_assignments.id is 'the id of the assignment';
comment on column analytics.app_role_assignments.principal_id is 'who holds the permission; null where Graph did not send it, so that it is not known';
comment on column analytics.app_role_assignments.principal_name is 'the name of the service principal, user or group; null where it has none or is not mirrored';
comment on column analytics.app_role_assignments.principal_type is 'service_principal, user or group; unresolved where it is not known';
comment on column analytics.app_role_assignments.resource_id is 'the service principal whose permission it is; null where Graph did not send it, so that it is not known';
comment on column analytics.app_role_assignments.resource_name is 'the name of the application whose permission it is; null where it has none or is not mirrored';
comment on column analytics.app_role_assignments.app_role_id is 'the id of the permission; null where Graph did not send it, so that it is not known';
comment on column analytics.app_role_assignments.permission is 'the name of the permission, such as Mail.Read; null where it has none or the application whose it is is not mirrored';
comment on column analytics.app_role_assignments.created_date_time is 'when it was assigned, as Graph gives it; null where Graph did not send it';
comment on column analytics.app_role_assignments.since is 'when it began, as closely as the resource is read; null where that was not seen, as in a first load';
comment on column analytics.app_role_assignments.since_exact is 'whether since is known';
comment on column analytics.app_role_assignments.at_least_since is 'since when it is known to hold: since, or the last change of the row';

create view analytics.permission_grants as
 SELECT c.display_name AS organization,
    t.connection_id,
    t.id,
    s.permission,
    t.client_id,
    a.display_name AS client_name,
    t.resource_id,
    r.display_name AS resource_name,
    COALESCE(t.consent_type = 'AllPrincipals'::text, false) AS is_for_all_users,
    t.principal_id,
    u.display_name AS principal_name,
    u.user_principal_name,
    t.live_since AS since,
    t.live_since IS NOT NULL AS since_exact,
    COALESCE(t.live_since, t.changed_at) AS at_least_since
   FROM directory.oauth2_permission_grants t
     CROSS JOIN LATERAL unnest(t.scopes) s(permission)
     LEFT JOIN directory.service_principals a ON a.connection_id = t.connection_id AND a.id = t.client_id
     LEFT JOIN directory.service_principals r ON r.connection_id = t.connection_id AND r.id = t.resource_id
     LEFT JOIN directory.users u ON u.connection_id = t.connection_id AND u.id = t.principal_id
     JOIN sync.connections c ON c.id = t.connection_id AND c.status <> 'retired'::text
  WHERE t.deleted_at IS NULL;
comment on view analytics.permission_grants is 'Delegated permissions that applications were granted, a row for each';
comment on column analytics.permission_grants.organization is 'the name of the customer''s organization; null until it was first read';
comment on column analytics.permission_grants.connection_id is 'our number of the connection, which is never used again';
comment on column analytics.permission_grants.id is 'the id of the grant, which may be of several permissions';
comment on column analytics.permission_grants.permission is 'the name of the permission, such as Mail.Read';
comment on column analytics.permission_grants.client_id is 'the service principal that may act for users; null where Graph did not send it, so that it is not known';
comment on column analytics.permission_grants.client_name is 'the name of the application that may act for users; null where it has none or is not mirrored';
comment on column analytics.permission_grants.resource_id is 'the service principal whose permission it is; null where Graph did not send it, so that it is not known';
comment on column analytics.permission_grants.resource_name is 'the name of the application whose permission it is; null where it has none or is not mirrored';
comment on column analytics.permission_grants.is_for_all_users is 'whether it was granted for all users';
comment on column analytics.permission_grants.principal_id is 'who granted it for themselves; null where it holds for all users';
comment on column analytics.permission_grants.principal_name is 'the name of that user; null where it has none or is not mirrored';
comment on column analytics.permission_grants.user_principal_name is 'the sign-in name of that user; null where it has none or is not mirrored';
comment on column analytics.permission_grants.since is 'when it began, as closely as the resource is read; null where that was not seen, as in a first load';
comment on column analytics.permission_grants.since_exact is 'whether since is known';
comment on column analytics.permission_grants.at_least_since is 'since when it is known to hold: since, or the last change of the row';
