"""The HTTP API that changes the running simulation."""
