"""The Nango proxy: one request at a time, every failure one of our errors."""
