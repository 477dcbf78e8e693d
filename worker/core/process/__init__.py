"""This process: signals, identity, memory, standard streams."""
