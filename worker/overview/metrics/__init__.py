"""Metrics for Prometheus, read from the database at every scrape."""
