"""`python -m runtime.cli` is the same as `shadowrig`."""

from runtime.cli import entry_point

entry_point()
