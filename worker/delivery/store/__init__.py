"""SQL of sinks, their positions and the events they lost."""
