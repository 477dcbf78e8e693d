"""The HTTP service: routes, tokens, problems, health and metrics."""
