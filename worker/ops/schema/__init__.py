"""Which revision of the schema a database has, and how to bring it up to date."""
