"""The whole service on one machine, for `make run`."""
