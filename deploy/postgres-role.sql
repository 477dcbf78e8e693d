-- Run once by the Postgres image, as its superuser, when the data directory is made.
-- The service's role owns its database and has no other right.
\set ON_ERROR_STOP on
\set password `cat "$DATABASE_PASSWORD_FILE"`
create role tenant_mirror login nosuperuser nocreatedb nocreaterole noreplication nobypassrls
    password :'password';
create database tenant_mirror owner tenant_mirror encoding 'UTF8' template template0;
revoke all on database tenant_mirror from public;
-- The roles for readers, which the service's role may not create. 'tenant-mirror migrate' grants them
-- the views, and walls off customers: see docs/how-to/give-access.md.
create role tenant_mirror_reader nologin;
create role tenant_mirror_application nologin;
create role tenant_mirror_customer nologin;
create role tenant_mirror_pseudonymous nologin;
create role tenant_mirror_pseudonymous_customer nologin;
