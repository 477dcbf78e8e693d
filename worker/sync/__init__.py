"""Sync one connection: the order of the steps, and the decision of each step."""
