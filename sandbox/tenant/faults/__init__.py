"""Faults that the simulated services inject into their responses."""
