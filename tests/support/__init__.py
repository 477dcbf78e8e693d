"""Shared helpers of the tests: the simulated tenant, servers, and comparisons with the mirror."""
