"""Writes the views of one customer into files."""
