"""The version of the software that runs, for provenance and `--version`."""

from __future__ import annotations

from importlib import metadata


def package_version() -> str:
    """The installed version, or "unknown" when run from a tree that was never installed."""
    try:
        return metadata.version("shadowrig")
    except metadata.PackageNotFoundError:
        return "unknown"
