"""Deliver change events to sinks."""
