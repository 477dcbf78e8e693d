"""The judge of conditions: stored facts in, what is wrong and what to do about it out. Pure.

The only place that words what is wrong with a connection or the service. ``condition`` has the
closed list of codes, ``facts`` what is judged, ``connection_judge`` and ``fleet_judge`` the rules,
and ``activity`` the answer to "why not now?".
"""
