"""Which names of files are accepted, on both sides, and a second look at where they lead."""

from __future__ import annotations

import re
from pathlib import Path

MAX_PATH_LENGTH = 160
MAX_DEPTH = 6
_NAME = r"[A-Za-z0-9_@+-][A-Za-z0-9_.@+-]*"
_PATH = re.compile(rf"{_NAME}(?:/{_NAME})*")


def is_safe_path(path: str) -> bool:
    """True for a relative path of plain names: none hidden, none upwards, nothing that a shell or a URL would read."""
    return len(path) <= MAX_PATH_LENGTH and path.count("/") < MAX_DEPTH and _PATH.fullmatch(path) is not None


def file_below(root: Path, path: str) -> Path | None:
    """The regular file that `path` names below `root`; None when there is none, or when a link leads out."""
    try:
        found = (root / path).resolve(strict=True)
        return found if found.is_relative_to(root.resolve()) and found.is_file() else None
    except (OSError, RuntimeError):  # not there, not readable, or links in a circle
        return None
