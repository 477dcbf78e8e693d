"""Embedded servers and simulated customers; not used by production installs."""
