"""Rows of the mirrored tables: compare, merge, delete."""
