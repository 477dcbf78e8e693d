"""Port and API key of the simulated Nango."""

DEFAULT_PORT = 3003


KEY = "5a4d0b0c-7e1a-4c3e-9d2b-1f0e6c8a2b47"
"""The default API key."""
