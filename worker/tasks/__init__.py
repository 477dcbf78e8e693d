"""Celery tasks: each unpacks an id and makes one call.

Postgres holds the state and Redis only carries hints: a message may be lost, duplicated or late
without harm.
"""
