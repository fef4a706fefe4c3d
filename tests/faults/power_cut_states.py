"""What a disk may hold after a power cut: every legal state, from the log of what a process did to its files.

After ALICE (Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014). `power_cut_log.c` records each write,
truncate, create, rename, unlink and sync of a real process, SQLite's included. What a completed fsync or fdatasync
covers is on the disk: the bytes of that file, or the names in that folder. Of everything later, any part may be
there, in any order:

- bytes: each write by itself, the last one also torn at a sector, or as zeros where the file grows (size before data);
- names: each create, rename and unlink by itself. A rename never loses the file; it may leave both names.

All subsets are too many, so at each crash point: everything (a kill), nothing, the last write torn; and before each
sync, where most is at stake, also everything but one, one alone, all subsets of up to four, and seeded random subsets.
"""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

SECTOR_BYTES = 512
ALL_SUBSETS_UP_TO = 4
RANDOM_SUBSETS = 4
_HEADER = struct.Struct("<cQqIII")


@dataclass(frozen=True)
class Operation:
    """One thing that a process did. `kind`: C T A W S E R U D X M, as in power_cut_log.c."""

    kind: str
    inode: int
    offset: int
    path: str
    other: str
    data: bytes


def read_log(path: Path) -> list[Operation]:
    """All operations, oldest first. What SQLite writes into its shared-memory index is left out: it never reads it
    after a restart."""
    raw, at, operations = path.read_bytes(), 0, []
    while at < len(raw):
        kind, inode, offset, first, second, length = _HEADER.unpack_from(raw, at)
        at += _HEADER.size
        parts = [raw[at : at + first], raw[at + first : at + first + second]]
        at += first + second
        first_path, second_path = map(os.fsdecode, parts)
        if not (kind in b"WT" and first_path.endswith("-shm")):
            data = raw[at : at + length]
            operations.append(Operation(kind.decode(), inode, offset, first_path, second_path, data))
        at += length
    return operations


@dataclass
class Image:
    """Names and contents: `names` maps a path to a file's key, or to None for a folder."""

    names: dict[str, int | None] = field(default_factory=dict)
    contents: dict[int, bytes] = field(default_factory=dict)

    def copy(self) -> Image:
        return Image(dict(self.names), dict(self.contents))

    def identity(self) -> int:
        """Equal for images that look the same."""
        return hash(tuple(sorted((p, -1 if k is None else hash(self.contents[k])) for p, k in self.names.items())))

    def write_to(self, root: Path, logged_root: str) -> None:
        """Make this state real below `root`. Two names of one file become hard links, as they would be."""
        first_names: dict[int, Path] = {}
        for name in sorted(self.names):  # folders before what is in them
            target, key = root / os.path.relpath(name, logged_root), self.names[name]
            if key is None:
                target.mkdir(parents=True, exist_ok=True)
            elif key in first_names:
                os.link(first_names[key], target)
            elif target.parent.is_dir():  # else its folder was lost, and it with it
                target.write_bytes(self.contents[key])
                first_names[key] = target


@dataclass(frozen=True)
class Effect:
    """One change that waits to be durable: of a file's bytes (`key`), or of names in `folders`."""

    operation: Operation
    key: int
    folders: tuple[str, ...] = ()

    def apply(self, image: Image, kept: int | None = None, zeros: bool = False, both_names: bool = False) -> None:
        """Change `image`; `kept` is how many bytes of a torn write arrived."""
        op = self.operation
        if op.kind in "WTA":
            image.contents[self.key] = self._changed(image.contents.get(self.key, b""), kept, zeros)
        elif op.kind == "C":
            image.names[op.path] = self.key
            image.contents.setdefault(self.key, b"")
        elif op.kind == "D":
            image.names[op.path] = None
        elif op.kind == "R":
            image.names[op.other] = self.key
            image.contents.setdefault(self.key, b"")
            if not both_names and image.names.get(op.path) == self.key:
                del image.names[op.path]
        elif image.names.get(op.path, self.key) == self.key or op.kind == "X":
            image.names.pop(op.path, None)

    def _changed(self, old: bytes, kept: int | None, zeros: bool) -> bytes:
        op = self.operation
        if op.kind == "T":
            return old[: op.offset].ljust(op.offset, b"\0")
        if op.kind == "A":
            return old.ljust(op.offset, b"\0")
        data = op.data[:kept]
        if zeros:  # only what is new to the file: bytes that were there stay until others take their place
            data = old[op.offset : op.offset + len(op.data)].ljust(len(op.data), b"\0")
        return old[: op.offset].ljust(op.offset, b"\0") + data + old[op.offset + len(data) :]


@dataclass(frozen=True)
class CrashState:
    """The disk when the power went after operation number `at`."""

    at: int
    image: Image
    how: str


class CrashStates:
    """Enumerates the states of one log; `start` is what was durable before it."""

    def __init__(self, operations: list[Operation], start: Image | None = None, *, dense: bool = False) -> None:
        """`dense` takes the many subsets after every operation, not only before each sync."""
        self._operations = operations
        self._dense = dense
        self._base = start.copy() if start else Image()
        self._pending: list[Effect] = []
        self._keys: dict[int, int] = {}  # inode -> key; inodes come back, keys do not
        self._now: dict[str, int | None] = dict(self._base.names)  # names as the process sees them
        self._next_key = 1 + max((k for k in self._base.contents), default=0)
        self._random = random.Random(len(operations))

    def killed_after(self, count: int) -> Image:
        """The process ends after so many operations, the power stays: what the next process finds."""
        for operation in self._operations[:count]:
            self._take(operation)
        self._operations = []
        return self._image(tuple(range(len(self._pending))))

    def go_on(self, operations: list[Operation], inodes: dict[str, int]) -> CrashStates:
        """The next process's log; `inodes` of the files that it found, by path. Nothing is durable by that alone."""
        self._operations = operations
        for path, inode in inodes.items():
            key = self._now[path]
            if key is not None:
                self._keys[inode] = key
        return self

    def __iter__(self) -> Iterator[CrashState]:
        """Every state once."""
        seen: set[int] = set()
        for at, operation in enumerate(self._operations):
            is_sync = operation.kind == "S"
            if is_sync:
                for how, image in self._images(thorough=True):
                    if image.identity() not in seen:
                        seen.add(image.identity())
                        yield CrashState(at, image, how)
            self._take(operation)
            if operation.kind in "ME":
                continue
            for how, image in self._images(thorough=self._dense or at == len(self._operations) - 1):
                if image.identity() not in seen:
                    seen.add(image.identity())
                    yield CrashState(at + 1, image, how)

    # -- the log, one operation after the other -----------------------------------------------------------------

    def _take(self, operation: Operation) -> None:
        if operation.kind == "S":
            self._make_durable(operation)
        elif operation.kind not in "ME":
            self._pending.append(self._effect(operation))

    def _effect(self, operation: Operation) -> Effect:
        folder = os.path.dirname(operation.path)
        if operation.kind == "C":
            key = self._keys[operation.inode] = self._next_key
            self._next_key += 1
            self._now[operation.path] = key
            return Effect(operation, key, (folder,))
        if operation.kind == "D":
            self._now[operation.path] = None
            return Effect(operation, 0, (folder,))
        if operation.kind in "UX":
            return Effect(operation, self._now.pop(operation.path) or 0, (folder,))
        if operation.kind == "R":
            key = self._now.pop(operation.path) or 0
            self._now[operation.other] = key
            return Effect(operation, key, (os.path.dirname(operation.other), folder))
        return Effect(operation, self._keys[operation.inode])

    def _make_durable(self, sync: Operation) -> None:
        """A folder's names, or a file's bytes. A rename is durable with the folder that it leads to."""
        is_folder = (sync.path in self._now and self._now[sync.path] is None) or sync.inode not in self._keys
        kept = []
        for effect in self._pending:
            if effect.folders:
                durable = is_folder and effect.folders[0] == sync.path
            else:
                durable = not is_folder and effect.key == self._keys[sync.inode]
            if durable:
                effect.apply(self._base)
            else:
                kept.append(effect)
        self._pending = kept

    # -- states of one instant ----------------------------------------------------------------------------------

    def _images(self, thorough: bool) -> Iterator[tuple[str, Image]]:
        pending = self._pending
        everything = tuple(range(len(pending)))
        subsets = dict.fromkeys([everything, ()])
        if thorough:
            subsets.update(dict.fromkeys(self._subsets(everything)))
        for subset in subsets:
            missing = sorted(set(everything) - set(subset))
            yield f"without {missing} of {len(pending)}", self._image(subset)
        if pending and pending[-1].operation.kind == "W":
            length = len(pending[-1].operation.data)
            torn = {length // 2 // SECTOR_BYTES * SECTOR_BYTES, length - 1} - {0, length}
            for kept in sorted(torn):
                yield f"torn after {kept} bytes", self._image(everything, kept=kept)
            yield "zeros", self._image(everything, zeros=True)
        if pending and pending[-1].operation.kind == "R":
            yield "both names", self._image(everything, both_names=True)

    def _subsets(self, everything: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        for one in everything:
            yield (one,)
            yield tuple(index for index in everything if index != one)
        if len(everything) <= ALL_SUBSETS_UP_TO:
            for size in range(2, len(everything) - 1):
                yield from combinations(everything, size)
        else:
            for _ in range(RANDOM_SUBSETS):
                yield tuple(index for index in everything if self._random.random() < 0.5)

    def _image(self, subset: tuple[int, ...], **last: int | bool) -> Image:
        image = self._base.copy()
        for index in subset:
            special = last if last and index == len(self._pending) - 1 else {}
            self._pending[index].apply(image, **special)  # type: ignore[arg-type]
        return image
