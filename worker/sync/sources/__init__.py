"""Fetch pages and objects from Microsoft Graph."""
