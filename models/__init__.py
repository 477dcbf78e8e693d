"""Tables and records: what Graph sends and what Postgres keeps. No network, no sessions."""
