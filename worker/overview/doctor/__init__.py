"""Checks whether the service has what it needs: database, Redis, Nango, clocks and disk."""
