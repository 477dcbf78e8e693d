"""Who reads what: three roles of Postgres, and row-level security that keeps customers apart.

``roles`` declares the roles, ``policies`` the walls, ``needs`` finds out what lies below the views,
and ``install`` brings a database in step after each migration.
"""
