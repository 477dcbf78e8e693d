"""Change events on their way to whoever asked for them."""
