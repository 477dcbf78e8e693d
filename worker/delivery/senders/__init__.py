"""Send events to a sink: a webhook or a Redis stream."""
