"""Load one fetched page in one transaction."""
