"""The soak test: a fleet of changing tenants under random faults, kills and restarts, for hours.

    .venv/bin/python -m tests.soak --hours 2

Every few seconds something is changed, broken or killed, at random but from a seed. Every few
minutes there is a calm: nothing is changed or broken any more, every connection has to become
exact, and every invariant is checked. It ends with a report, and not with 0 if one did not hold.
"""
