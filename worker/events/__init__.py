"""Change events: written in one transaction with their rows, verified, and read for delivery."""
