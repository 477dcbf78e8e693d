"""The simulated Nango server."""
