"""Which of the paths of a command line are rules, and which are drives.

Rules: the word `library`; a YAML file with `rules:` at its left edge; a folder of YAML files; the folder of a
campaign. Drives: an MCAP file; a `drive.yaml`, or any YAML file with `cameras:`, `signals:` or `can:` at its left edge;
a folder with a `drive.yaml` or `drive.mcap`; a folder of such folders or of MCAP files stands for all of them. Paths
that are neither are problems, all told at once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from replay.backtest.campaigns import campaign_folder
from runtime.config.rig_config import RULE_LIBRARY
from runtime.drives.opening import DRIVE_FILE, MCAP_FILE
from runtime.formats.documents import DocumentError, Problem

FIX = "name rule files, or folders of them, and drives: a folder with drive.yaml, or an .mcap file"
#: How much of a YAML file is looked at for its first words.
MAX_LOOK_BYTES = 1 << 20

_RULES = re.compile(r"^(rules|let|zones|queries|classifiers)\s*:", re.MULTILINE)
_DRIVE = re.compile(r"^(cameras|signals|can)\s*:", re.MULTILINE)


def sort_places(places: Sequence[str], default: Sequence[str] = (RULE_LIBRARY,)) -> tuple[list[str], list[Path]]:
    """Rules (`default` where none are named) and drives, in order and each drive once. Raises DocumentError."""
    rules: list[str] = []
    drives: dict[Path, None] = {}
    problems: list[Problem] = []
    for place in places:
        found = [] if place == RULE_LIBRARY else _drives_at(Path(place))
        if place == RULE_LIBRARY or _is_rules(Path(place)):
            rules.append(place)
        elif found:
            drives.update(dict.fromkeys(found))
        else:
            problems.append(Problem(place, 0, 0, _what_it_is(Path(place)), None, FIX))
    if not drives and not problems:
        problems.append(Problem(" ".join(places), 0, 0, "no drive is named", None, FIX))
    if problems:
        raise DocumentError(problems)
    return rules or list(default), list(drives)


def _drives_at(path: Path) -> list[Path]:
    if path.is_dir():
        return [path] if _is_drive_folder(path) else _drives_within(path)
    if path.suffix == ".mcap" or path.name == DRIVE_FILE:
        return [path] if path.is_file() else []
    return [path] if _is_yaml(path) and _DRIVE.search(_head(path)) and not _is_rules(path) else []


def _drives_within(folder: Path) -> list[Path]:
    entries = sorted(folder.iterdir())
    return [entry for entry in entries if _is_drive_folder(entry) or (entry.suffix == ".mcap" and entry.is_file())]


def _is_drive_folder(path: Path) -> bool:
    return path.is_dir() and any((path / name).exists() for name in (DRIVE_FILE, MCAP_FILE))


def _is_rules(path: Path) -> bool:
    if campaign_folder(path) is not None:
        return True
    if path.is_dir():
        return not _is_drive_folder(path) and any(_is_rules(file) for file in path.glob("*.yaml"))
    return _is_yaml(path) and path.name != DRIVE_FILE and _RULES.search(_head(path)) is not None


def _is_yaml(path: Path) -> bool:
    return path.suffix in (".yaml", ".yml") and path.is_file()


def _head(path: Path) -> str:
    with path.open("rb") as stream:
        return stream.read(MAX_LOOK_BYTES).decode(errors="replace")


def _what_it_is(path: Path) -> str:
    if not path.exists():
        return "does not exist"
    if path.is_dir():
        return "holds neither rules nor drives"
    return "is neither a rule file nor a drive"
