"""Shared code that every other package may import: errors, settings, logs."""
