"""The schema's revision in a database, and migrations."""
