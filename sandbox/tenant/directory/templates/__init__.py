"""Templates of a simulated tenant's objects."""
