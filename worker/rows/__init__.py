"""Rows as they are stored: shape, hash and COPY text."""
