"""Measured programs: each runs in its own process and writes its figures."""
