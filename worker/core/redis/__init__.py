"""Redis: its URL, connection pools and errors."""
