"""Status files: what a process says about itself, as one JSON object on tmpfs.

Written to a temporary file beside it and renamed, so that a reader sees the old object or the new one, never half
of one. The writer adds `wall_ns` and `pid`; a reader judges by them whether the writer is still alive. A status is
for looking at: it is not synced to disk, and nothing is decided by a missing one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MAX_STATUS_BYTES = 1_000_000


class StatusError(ValueError):
    """A status file holds something else than one small JSON object."""


def write_status(path: Path, status: Mapping[str, Any], wall_ns: int) -> None:
    """Replace the status at `path`. Numbers that JSON does not know (NaN, infinity) are refused.

    Raises:
        StatusError: the object is too large or is not JSON.
        OSError: the file system refuses it.
    """
    try:
        text = json.dumps({"wall_ns": wall_ns, "pid": os.getpid(), **status}, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise StatusError(f"{path}: status is not JSON: {error}") from error
    if len(text) > MAX_STATUS_BYTES:
        raise StatusError(f"{path}: status has {len(text)} bytes, more than {MAX_STATUS_BYTES}")
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text + "\n", encoding="utf-8")
    os.replace(temporary, path)


def read_status(path: Path) -> dict[str, Any] | None:
    """The newest status at `path`; None while nothing has been written.

    Raises:
        StatusError: the file holds something else.
    """
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_STATUS_BYTES + 2)
    except FileNotFoundError:
        return None
    try:
        status = json.loads(raw)
    except ValueError as error:
        raise StatusError(f"{path}: not a status: {error}") from error
    if not isinstance(status, dict):
        raise StatusError(f"{path}: not a status: it holds {type(status).__name__}, not an object")
    return status
