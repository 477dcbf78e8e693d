"""Bringing a connection up to date: the order of the steps, and what each decides."""
