"""Tensors of many runs, kept in bounded memory: the first ones in RAM, the others as files of a temporary folder.

What is stored is read back in order of storing, as often as wanted. The folder disappears with the store.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

DEFAULT_LIMIT_BYTES = 512 * 1024 * 1024

Tensors = Mapping[str, NDArray[np.generic]]


class TensorStore(Sequence[Tensors]):
    """A list of named tensors; see the module's head."""

    def __init__(self, limit_bytes: int = DEFAULT_LIMIT_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._held_bytes = 0
        self._entries: list[Tensors | dict[str, Path]] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def held_bytes(self) -> int:
        """Bytes kept in memory: never more than the limit."""
        return self._held_bytes

    def append(self, tensors: Tensors) -> None:
        """Store one run's tensors. Raises OSError when they have to go to disk and it is full."""
        size = sum(value.nbytes for value in tensors.values())
        if self._held_bytes + size <= self._limit_bytes:
            self._held_bytes += size
            self._entries.append(dict(tensors))
            return
        self._entries.append(self._written(tensors))

    def __getitem__(self, index: int) -> dict[str, NDArray[np.generic]]:  # type: ignore[override]
        return {
            name: np.load(value, mmap_mode="r") if isinstance(value, Path) else value
            for name, value in self._entries[index].items()
        }

    def _written(self, tensors: Tensors) -> dict[str, Path]:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="shadowrig-gate-")
        paths = {}
        for number, (name, value) in enumerate(tensors.items()):
            paths[name] = Path(self._folder.name) / f"{len(self._entries)}-{number}.npy"
            np.save(paths[name], value)
        return paths
