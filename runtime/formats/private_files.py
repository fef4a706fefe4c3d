"""Files that only their owner may read: every kind of secret is asked the same question before it is used."""

from __future__ import annotations

import stat
from pathlib import Path


def mode_complaint(path: Path) -> str:
    """What is wrong with the mode of a secret's file, and what to do; empty where nobody else may read it. OSError."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if not mode & 0o077:
        return ""
    return f"{path} has mode {mode:04o}: chmod 600 it; replace what it holds if others could read it"
