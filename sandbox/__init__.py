"""Servers and customers to try things on: never part of a production install."""
