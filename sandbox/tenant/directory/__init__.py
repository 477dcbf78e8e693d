"""The content of a simulated Microsoft tenant."""
