"""Table definitions and records of Graph objects. No network, no sessions."""
