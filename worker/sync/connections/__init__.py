"""Connections as Nango lists them: enrol, identify, retire."""
