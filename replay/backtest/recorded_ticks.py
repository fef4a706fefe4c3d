"""What rules read at every tick of a drive, in blocks of ticks; recorded by `TickRecorder`, given back by `play_block`.

A block is one msgpack map of packed columns (see `columns`):

    ticks      time_ns, wall_ns                              one row a tick
    tracks     count (None: nothing looked), and every field of `Track`: one row a track, tick after tick
    objects    the same for the controller's object list, cameras for `CameraView`
    signals    name -> [values, one a tick; counts of latched samples; their times; their values]

Fields are those of the dataclasses in `runtime.messages`; a version of the software with other fields records anew
(`fields_fingerprint` is part of the cache's key). Memory is bounded by one block.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import accumulate
from typing import Any, Protocol

from replay.backtest.columns import Packed, pack, unpack
from runtime.messages import CameraView, ControllerObject, Firing, SignalReader, SignalSample, SignalValue, Track
from runtime.pipeline import RuleEvaluation
from triggers.rules.applicability import Capabilities

#: Changes whenever the layout of blocks or what a tick records does.
FORMAT_VERSION = 2
BLOCK_TICKS = 2000

POPULATIONS: dict[str, type] = {"tracks": Track, "objects": ControllerObject, "cameras": CameraView}

Block = dict[str, Any]


def fields_fingerprint() -> str:
    """Changes whenever rules can read another field of a track, object or camera."""
    names = [f"{name}.{field.name}" for name, kind in POPULATIONS.items() for field in fields(kind)]
    return hashlib.sha256("\n".join([str(FORMAT_VERSION), *names]).encode()).hexdigest()


class BlockSink(Protocol):
    """Where blocks go."""

    def write(self, block: Block) -> None:
        """Take one block."""


class TickRecorder:
    """Stands between the tick and its rules: notes what they are given, and passes it on."""

    def __init__(self, rules: RuleEvaluation, sink: BlockSink) -> None:
        self.ticks = 0
        self.known_signals: set[str] = set()
        self.has_objects = False
        self._rules = rules
        self._sink = sink
        self._building = _BlockBuilder()

    def evaluate(
        self,
        tracks: Sequence[Track] | None,
        signals: SignalReader,
        time_ns: int,
        wall_ns: int,
        objects: Sequence[ControllerObject] | None = None,
        cameras: Sequence[CameraView] | None = None,
    ) -> list[Firing]:
        """Note one tick; what the rules make of it is returned."""
        populations = {"tracks": tracks, "objects": objects, "cameras": cameras}
        self._building.add(populations, signals, time_ns, wall_ns)
        self.has_objects |= objects is not None
        self.ticks += 1
        if self._building.ticks == BLOCK_TICKS:
            self.finish()
        return self._rules.evaluate(tracks, signals, time_ns, wall_ns, objects=objects, cameras=cameras)

    def as_recorded(self, capabilities: Capabilities) -> Capabilities:
        """What rules can count on in these ticks: of signals and objects, those that were there."""
        return replace(capabilities, signals=frozenset(self.known_signals), objects=self.has_objects)

    def finish(self) -> None:
        """Hand over the ticks that do not fill a block."""
        if self._building.ticks:
            block = self._building.block()
            self.known_signals.update(block["signals"])
            self._sink.write(block)
            self._building = _BlockBuilder()


class _SignalColumn:
    """One signal of a block while it grows: sparse, for most signals come more slowly than ticks or not at all."""

    def __init__(self) -> None:
        self.ticks: list[int] = []
        self.values: list[SignalValue] = []
        self.latched: list[tuple[int, SignalSample]] = []

    def packed(self, ticks: int) -> list[Packed]:
        values: list[SignalValue | None] = [None] * ticks
        for tick, value in zip(self.ticks, self.values, strict=True):
            values[tick] = value
        counts = [0] * ticks
        for tick, _ in self.latched:
            counts[tick] += 1
        times_ns = [sample.time_ns for _, sample in self.latched]
        return [pack(values), pack(counts), pack(times_ns), pack([sample.value for _, sample in self.latched])]


class _BlockBuilder:
    """One block while it grows."""

    def __init__(self) -> None:
        self.ticks = 0
        self._times_ns: list[int] = []
        self._wall_ns: list[int] = []
        self._signals: dict[str, _SignalColumn] = {}
        self._counts: dict[str, list[int | None]] = {name: [] for name in POPULATIONS}
        self._items: dict[str, list[Any]] = {name: [] for name in POPULATIONS}

    def add(self, populations: dict[str, Any], signals: SignalReader, time_ns: int, wall_ns: int) -> None:
        self._times_ns.append(time_ns)
        self._wall_ns.append(wall_ns)
        for name in POPULATIONS:
            items = populations.get(name)
            self._counts[name].append(None if items is None else len(items))
            self._items[name].extend(items or ())
        for name in signals.names():
            self._add_signal(name, signals.value(name), signals.samples(name))
        self.ticks += 1

    def _add_signal(self, name: str, value: SignalValue | None, samples: Sequence[SignalSample]) -> None:
        if value is None and not samples:
            return
        column = self._signals.setdefault(name, _SignalColumn())
        if value is not None:
            column.ticks.append(self.ticks)
            column.values.append(value)
        column.latched.extend((self.ticks, sample) for sample in samples)

    def block(self) -> Block:
        packed: Block = {"ticks": {"time_ns": pack(self._times_ns), "wall_ns": pack(self._wall_ns)}}
        for name, kind in POPULATIONS.items():
            packed[name] = {"count": pack(self._counts[name]), **_pack_items(kind, self._items[name])}
        packed["signals"] = {name: column.packed(self.ticks) for name, column in self._signals.items()}
        return packed


def _pack_items(kind: type, items: list[Any]) -> dict[str, Packed]:
    columns: dict[str, Packed] = {}
    for field in fields(kind):
        values = [getattr(item, field.name) for item in items]
        if field.name == "box_px":
            columns.update((f"box_px.{corner}", pack([float(box[corner]) for box in values])) for corner in range(4))
        else:
            columns[field.name] = pack(values)
    return columns


@dataclass(slots=True)
class RecordedTick:
    """What rules read at one tick. None: nothing looked."""

    time_ns: int
    wall_ns: int
    tracks: list[Track] | None
    signals: RecordedSignals
    objects: list[ControllerObject] | None
    cameras: list[CameraView] | None

    def evaluate(self, rules: RuleEvaluation) -> list[Firing]:
        """The firings of this tick."""
        return rules.evaluate(
            self.tracks, self.signals, self.time_ns, self.wall_ns, objects=self.objects, cameras=self.cameras
        )


class RecordedSignals:
    """A `SignalReader` over one block; columns are unpacked when they are first asked for."""

    def __init__(self, columns: dict[str, list[Packed]]) -> None:
        self.tick = 0
        self._columns = columns
        self._values: dict[str, list[SignalValue | None] | None] = {}
        self._latched: dict[str, tuple[list[int], list[SignalSample]] | None] = {}

    def value(self, name: str) -> SignalValue | None:
        if name not in self._values:
            packed = self._columns.get(name)
            self._values[name] = None if packed is None else unpack(packed[0])
        column = self._values[name]
        return None if column is None else column[self.tick]

    def samples(self, name: str) -> Sequence[SignalSample]:
        if name not in self._latched:
            self._latched[name] = self._unpack_samples(name)
        found = self._latched[name]
        if found is None:
            return ()
        offsets, samples = found
        return samples[offsets[self.tick] : offsets[self.tick + 1]]

    def _unpack_samples(self, name: str) -> tuple[list[int], list[SignalSample]] | None:
        packed = self._columns.get(name)
        if packed is None:
            return None
        times_ns, values = unpack(packed[2]), unpack(packed[3])
        samples = [SignalSample(name, at_ns, value) for at_ns, value in zip(times_ns, values, strict=True)]
        return [0, *accumulate(unpack(packed[1]))], samples

    def names(self) -> Sequence[str]:
        return sorted(self._columns)


def play_block(block: Block) -> Iterator[RecordedTick]:
    """The ticks of a block, in order. A tick's signals are valid until the next one is asked for."""
    signals = RecordedSignals(block["signals"])
    times = zip(unpack(block["ticks"]["time_ns"]), unpack(block["ticks"]["wall_ns"]), strict=True)
    tracks, objects, cameras = (_play_items(kind, block[name]) for name, kind in POPULATIONS.items())
    for tick, (time_ns, wall_ns) in enumerate(times):
        signals.tick = tick
        yield RecordedTick(time_ns, wall_ns, next(tracks), signals, next(objects), next(cameras))


def _play_items(kind: type, columns: dict[str, Packed]) -> Iterator[list[Any] | None]:
    counts = unpack(columns["count"])
    rows: list[Any] = []
    if any(counts):
        rows = list(map(kind, *(_field_values(columns, field.name) for field in fields(kind))))
    end = 0
    for count in counts:
        start, end = end, end + (count or 0)
        yield None if count is None else rows[start:end]


def _field_values(columns: dict[str, Packed], name: str) -> list[Any]:
    if name != "box_px":
        return unpack(columns[name])
    return list(zip(*(unpack(columns[f"box_px.{corner}"]) for corner in range(4)), strict=True))
