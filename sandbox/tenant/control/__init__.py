"""HTTP API that changes the simulation while it runs."""
