"""Changes the `files:` block of a `model.yaml` and leaves every other line, comments included, as it was written.

The text is edited and not the parsed document, so it is parsed again before anything is written: where the two do not
agree (a manifest all in one line, for example), the file is left alone and `ManifestEditError` says how to write it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

import yaml

_TOP_LEVEL_KEY = re.compile(r"^[A-Za-z_\"'][^#]*:|^\.\.\.")
_FILES_KEY = re.compile(r"^(files|\"files\"|'files')\s*:")

Files = Mapping[str, Mapping[str, str]]


class ManifestEditError(ValueError):
    """A `model.yaml` is written in a form that cannot be edited line by line."""


def set_files(path: Path, files: Files) -> None:
    """Replace the block (or append one) and put the file in place atomically. Raises `ManifestEditError`."""
    text = with_files(path, files)
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def with_files(path: Path, files: Files) -> str:
    """The text of `path` with another `files:` block; nothing is written. Raises `ManifestEditError`."""
    before = path.read_text(encoding="utf-8")
    lines = before.splitlines()
    entries = [
        f"  {role}: {{path: {_scalar(entry['path'])}, sha256: {_scalar(entry['sha256'])}}}"
        for role, entry in files.items()
    ]
    block = ["files:", *entries]
    start = next((index for index, line in enumerate(lines) if _FILES_KEY.match(line)), None)
    if start is None:
        lines += block
    else:
        lines[start : _end_of_block(lines, start)] = block
    text = "\n".join(lines) + "\n"
    _refuse_other_changes(path, before, text, files)
    return text


def _refuse_other_changes(path: Path, before: str, text: str, files: Files) -> None:
    wanted = {**yaml.safe_load(before), "files": {role: dict(entry) for role, entry in files.items()}}
    try:
        says = yaml.safe_load(text)
    except yaml.YAMLError:
        says = None
    if says != wanted:
        raise ManifestEditError(
            f"{path}: its 'files' cannot be changed without touching the rest; write 'files:' at the start of a line "
            "of its own, with one indented line 'ROLE: {path: …, sha256: …}' for each file"
        )


def _scalar(text: str) -> str:
    """The text as YAML, in quotes only where it would be read as something else (a hash of digits is a number)."""
    try:
        is_plain = yaml.safe_load(f"{{x: {text}}}") == {"x": text}
    except yaml.YAMLError:
        is_plain = False
    return text if is_plain else json.dumps(text)


def _end_of_block(lines: list[str], start: int) -> int:
    """The first line behind a top-level block: the next key, or the comments and gaps before it."""
    end = next((index for index in range(start + 1, len(lines)) if _TOP_LEVEL_KEY.match(lines[index])), len(lines))
    while end > start + 1 and (not lines[end - 1].strip() or lines[end - 1].startswith("#")):
        end -= 1
    return end
