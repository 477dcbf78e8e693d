"""Connections, streams, runs and the other state of syncing."""
