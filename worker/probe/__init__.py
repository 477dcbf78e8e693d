"""Checks with at most 15 reads whether a tenant, through this Nango, answers as we assume.

``requests`` sends them; the other modules are pure and check the responses. The report holds only
numbers and our own words, so that people can share it.
"""
