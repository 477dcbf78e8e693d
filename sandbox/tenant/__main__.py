"""`python -m sandbox.tenant` serves, with the options of `tenant-mirror sandbox serve`."""

from sandbox.tenant.cli.commands import serve

if __name__ == "__main__":
    serve()
