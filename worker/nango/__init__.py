"""The client of the Nango proxy; every failure is one of our errors."""
