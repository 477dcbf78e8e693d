"""What operators touch: the command line, migrations, and the whole thing on one machine."""
