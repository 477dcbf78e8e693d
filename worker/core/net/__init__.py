"""Connections to other hosts: URLs, TLS, proxies, deadlines."""
