"""Changes the `files:` block of a `model.yaml` and leaves every other line, comments included, as it was written."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

_TOP_LEVEL_KEY = re.compile(r"^[A-Za-z_\"'][^#]*:")


def set_files(path: Path, files: Mapping[str, Mapping[str, str]]) -> None:
    """Replace the block (or append one) and put the file in place atomically."""
    lines = path.read_text(encoding="utf-8").splitlines()
    entries = [f"  {role}: {{path: {entry['path']}, sha256: {entry['sha256']}}}" for role, entry in files.items()]
    block = ["files:", *entries]
    start = next((index for index, line in enumerate(lines) if re.match(r"^files\s*:", line)), None)
    if start is None:
        lines += block
    else:
        lines[start : _end_of_block(lines, start)] = block
    temporary = path.with_name(path.name + ".part")
    temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def _end_of_block(lines: list[str], start: int) -> int:
    """The first line behind a top-level block: the next key, or the comments and gaps before it."""
    end = next((index for index in range(start + 1, len(lines)) if _TOP_LEVEL_KEY.match(lines[index])), len(lines))
    while end > start + 1 and (not lines[end - 1].strip() or lines[end - 1].startswith("#")):
        end -= 1
    return end
