"""Postgres access: connections, leases, mirror rows, sweeps, sync state and service facts."""
