"""Templates of the objects that a simulated tenant holds."""
