"""What tests share: the simulated tenant beside the mirror, and the comparison of the two."""
