"""Schema migrations, safe by default: lock and statement timeouts, one at a time."""
