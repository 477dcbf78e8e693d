"""Does one tenant, through this Nango, answer as we assume? Asked in at most 15 reads.

``asking`` sends them; the rest is pure and judges what came back. What leaves this package, in
``report``, holds numbers and words of ours, so that people can share it.
"""
