"""SQL of sinks, their positions and what they missed."""
