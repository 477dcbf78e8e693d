"""Read single objects again whose state is in doubt."""
