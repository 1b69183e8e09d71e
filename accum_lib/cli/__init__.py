"""What the command line can do: for each command a module with ``add_to(subparsers)`` and ``run``."""
