"""Built engines on disk, one pair of files for each: `KEY.engine`, and `KEY.json` that vouches for it.

The JSON holds the recipe and the engine's hash and is written last, after the engine is durable: a power cut in
between leaves an engine without a word for it, which is no engine. Both are replaced atomically, so a rebuild that
fails leaves the old pair.

At most `MAX_ENGINES` are kept; the longest unused go first. `last_good` names the newest one that was seen to run; it
never goes, so that a vehicle whose next network does not build can go on with the one before.

Only `shadowrig model build` writes here; the runtime reads, and may not be allowed more. The folder belongs to the
vehicle: an engine is code, and whoever can write here can run code in the runtime.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runtime.formats.durable_files import make_directory_durably, remove_durably, write_durably
from runtime.inference.tensorrt.engine_recipe import EngineRecipe

MAX_ENGINES = 4
MAX_ENGINE_BYTES = 4 << 30
LAST_GOOD = "last_good"


class NoEngineError(Exception):
    """The cache has no engine that can be trusted for a recipe; the message says why."""


class EngineCache:
    """The engines of one folder."""

    def __init__(self, directory: Path, max_engines: int = MAX_ENGINES) -> None:
        if max_engines < 1:
            raise ValueError(f"max_engines is {max_engines}; it must be at least 1")
        self.directory = directory
        self._max_engines = max_engines

    def load(self, recipe: EngineRecipe) -> bytes:
        """The engine of this recipe, with its hash checked.

        Raises:
            NoEngineError: there is none, or it is damaged.
        """
        word = self._word(recipe.key)
        if word is None:
            message = f"no engine for {recipe.network} ({recipe.role}) in {self.directory}"
            raise NoEngineError(f"{message}{self._nearest(recipe)}")
        try:
            size = self._engine(recipe.key).stat().st_size
            if size > MAX_ENGINE_BYTES:
                raise NoEngineError(f"{self._engine(recipe.key)} has {size} bytes, more than {MAX_ENGINE_BYTES}")
            data = self._engine(recipe.key).read_bytes()
        except OSError as error:
            raise NoEngineError(f"{self._engine(recipe.key)} cannot be read: {error.strerror}") from error
        if hashlib.sha256(data).hexdigest() != word.get("sha256"):
            raise NoEngineError(f"{self._engine(recipe.key)} was damaged after it was written")
        return data

    def store(self, recipe: EngineRecipe, data: bytes) -> Path:
        """Keep an engine, durably, and let go of the least recently used beyond the limit. Raises OSError."""
        make_directory_durably(self.directory, 0o750)
        write_durably(self._engine(recipe.key), data)
        word = {"sha256": hashlib.sha256(data).hexdigest(), "recipe": recipe.as_dict()}
        write_durably(self._vouching(recipe.key), (json.dumps(word, indent=2) + "\n").encode())
        self._evict(recipe.key)
        return self._engine(recipe.key)

    def mark_good(self, recipe: EngineRecipe) -> None:
        """This engine was seen to run: it is the one to keep. Raises OSError."""
        if self.last_good() != recipe.key:
            write_durably(self.directory / LAST_GOOD, f"{recipe.key}\n".encode())
        os.utime(self._vouching(recipe.key))

    def last_good(self) -> str | None:
        """The key of the engine that ran last."""
        try:
            return (self.directory / LAST_GOOD).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return None

    def keys(self) -> list[str]:
        """Engines that are vouched for, the most recently used first."""
        found = []
        for path in self.directory.glob("*.json") if self.directory.is_dir() else ():
            try:
                found.append((path.stat().st_mtime_ns, path.stem))
            except OSError:
                continue  # gone meanwhile: another process made room
        return [key for _, key in sorted(found, reverse=True)]

    def _evict(self, newest: str) -> None:
        spared = {newest, self.last_good()}
        keys = self.keys()
        candidates = [key for key in reversed(keys) if key not in spared]
        for key in candidates[: max(0, len(keys) - self._max_engines)]:
            self._remove(key)
        vouched = set(self.keys())
        for path in self.directory.glob("*.engine"):
            if path.stem not in vouched:
                remove_durably(path)  # cut off by a power failure, or half removed

    def _remove(self, key: str) -> None:
        remove_durably(self._vouching(key))
        remove_durably(self._engine(key))

    def _word(self, key: str) -> Mapping[str, Any] | None:
        try:
            word = json.loads(self._vouching(key).read_bytes())
        except (OSError, ValueError):
            return None
        return word if isinstance(word, dict) else None

    def _nearest(self, recipe: EngineRecipe) -> str:
        """What is different about the engine that comes closest: the reason why one has to be built again."""
        best: list[str] | None = None
        for key in self.keys():
            word = self._word(key)
            other = word.get("recipe") if word else None
            if isinstance(other, dict) and other.get("network") == recipe.network:
                differences = recipe.differences(other)
                best = differences if best is None or len(differences) < len(best) else best
        return f": the nearest differs in {', '.join(best)}" if best else ""

    def _engine(self, key: str) -> Path:
        return self.directory / f"{key}.engine"

    def _vouching(self, key: str) -> Path:
        return self.directory / f"{key}.json"
