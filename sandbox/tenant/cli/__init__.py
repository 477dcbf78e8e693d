"""The commands of the simulation."""
