"""Erase a person or another object from rows, events and bookkeeping tables."""
