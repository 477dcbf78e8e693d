"""The operators' tools: the command line, migrations, and the local service."""
