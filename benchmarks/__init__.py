"""The benchmark: measures us, other tools and the limits of the machine in one run."""
