"""Where recorded ticks are kept: one file a drive, model, calibration and rate, under `~/.cache/shadowrig/backtest`.

A file's name is the sha256 of everything that its ticks follow from, so that a changed drive, model or version is
simply another file: nothing is ever stale, only unused. What was not used for longest is removed when the folder
grows beyond its limit. Hashing gigabytes of video on every run would cost more than evaluating rules does: the hash of
a file is remembered with its size, time of change and inode, and taken again when one of them differs.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import runtime
from runtime.formats.durable_files import sha256_of

SUFFIX = ".ticks"
HASHES_FILE = "hashes.json"
MAX_CACHE_BYTES = 4_000_000_000
MAX_REMEMBERED_HASHES = 10_000
#: The parts of the software that ticks are made by; `runtime` itself is the first.
TICK_PACKAGES = (".", "capture", "drives", "formats", "inference", "inference/heads", "shadow", "signals")


def default_folder() -> Path:
    """`$XDG_CACHE_HOME/shadowrig/backtest`, or under `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "shadowrig" / "backtest"


def cache_key(facts: Mapping[str, object]) -> str:
    """The name of the ticks that follow from these facts."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def tick_sources_sha256() -> str:
    """One hash over the software that makes ticks: a developer's change of the tracker records anew, too."""
    root = Path(runtime.__file__).resolve().parent
    digest = hashlib.sha256()
    for package in TICK_PACKAGES:
        for path in sorted((root / package).glob("*.py")):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


class TickCache:
    """One cache folder."""

    def __init__(self, folder: Path, max_bytes: int = MAX_CACHE_BYTES) -> None:
        self._folder = folder
        self._max_bytes = max_bytes

    def path_of(self, key: str) -> Path:
        """Where the ticks of a key lie, or will. Raises OSError when the folder cannot be made."""
        self._folder.mkdir(parents=True, exist_ok=True)
        return self._folder / f"{key}{SUFFIX}"

    def touch(self, path: Path) -> None:
        """Remember that a file was used now."""
        os.utime(path)

    def shrink(self, keep: Path) -> list[Path]:
        """Remove what was not used for longest until the folder is within its limit; `keep` stays."""
        files = sorted(self._folder.glob(f"*{SUFFIX}"), key=lambda path: path.stat().st_mtime_ns)
        sizes = {path: path.stat().st_size for path in files}
        total, removed = sum(sizes.values()), []
        for path in files:
            if total <= self._max_bytes:
                break
            if path != keep:
                path.unlink(missing_ok=True)
                total -= sizes[path]
                removed.append(path)
        return removed

    def hashes(self, files: Iterable[Path]) -> list[str]:
        """sha256 of each file; "absent" for one that cannot be read."""
        remembered = self._remembered()
        new: dict[str, str] = {}
        found = []
        for path in files:
            try:
                status = path.stat()
                stamp = f"{path.resolve()}|{status.st_size}|{status.st_mtime_ns}|{status.st_ino}"
                new[stamp] = remembered.get(stamp) or sha256_of(path)
                found.append(new[stamp])
            except OSError:
                found.append("absent")  # the drive itself says so, where it is played
        if not new.items() <= remembered.items():
            self._remember({**remembered, **new})
        return found

    def _remembered(self) -> dict[str, str]:
        try:
            content = json.loads((self._folder / HASHES_FILE).read_text())
        except (OSError, ValueError):
            return {}  # lost or damaged: hash again
        return content if isinstance(content, dict) else {}

    def _remember(self, hashes: dict[str, str]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        newest = dict(list(hashes.items())[-MAX_REMEMBERED_HASHES:])
        temporary = self._folder / f".{HASHES_FILE}.{os.getpid()}.new"
        temporary.write_text(json.dumps(newest))
        temporary.replace(self._folder / HASHES_FILE)
