"""Facts about the service itself: workers, clocks, ticks, maintenance."""
