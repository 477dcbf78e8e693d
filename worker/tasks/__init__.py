"""Celery's side: thin tasks that unpack an id and make one call.

Postgres holds the truth and Redis only carries hints: a message may be lost, doubled or late
without harm.
"""
