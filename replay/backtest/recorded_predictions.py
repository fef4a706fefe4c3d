"""A drive whose recording holds whole ticks (`/tick`: tracks, camera views, the tick's own signals): no network needed.

What the vehicle recorded is what its rules saw, by its model, at its rate. Signals from outside come from the other
topics, and the controller's objects from them, as in the tick itself. Videos are read for their bytes, not decoded.
Queries and learned triggers may be newer than the recording: they are answered from the embeddings that it holds, and
what the vehicle itself said under the same name is put aside. Without embeddings such rules are not applicable.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from replay.backtest.recorded_ticks import TickRecorder
from replay.backtest.tick_file import CameraRate, DriveFacts
from replay.playing import SampleFeed
from runtime.composition import open_signals
from runtime.controller_objects import ControllerObjects
from runtime.drives import Drive, DriveCamera, DriveVideoError
from runtime.formats.mcap_files import McapFileError, McapTopicReader
from runtime.inference.learned import LearnedRules
from runtime.messages import SignalValue
from runtime.recorded_embeddings import recorded_learned, recorded_model
from runtime.recording.manifest import ManifestError
from runtime.tick_signals import TickSignals
from triggers.rules.applicability import Capabilities

#: Signals that follow from rules' own queries and learned triggers.
LEARNED_PREFIXES = ("embedding.", "classifier.")


def has_recorded_ticks(drive: Drive) -> bool:
    """Whether the drive is a recording of ours with ticks that rules can be evaluated on."""
    if drive.path.suffix != ".mcap":
        return False
    try:
        with McapTopicReader(drive.path) as reader:
            return next(iter(reader.ticks()), None) is not None
    except McapFileError:
        return False  # ticks of an older version: tracks and signals are not in them


def record_recorded_ticks(drive: Drive, recorder: TickRecorder, learned: LearnedRules) -> DriveFacts:
    """Hand every tick of the recording to `recorder`, with what the queries and triggers of `learned` say of it.

    Raises:
        McapFileError: a tick cannot be read.
        DocumentError: a query or classifier does not do for the recorded embedding.
    """
    table, objects, samples = open_signals({}), ControllerObjects(), SampleFeed(drive)
    heads: set[str] = set()
    heads_b: set[str] = set()
    has_looked = False
    with McapTopicReader(drive.path) as reader, McapTopicReader(drive.path) as embeddings:
        model, notes = _embedding_model(embeddings)
        later = _LearnedLater(None if model is None else recorded_learned(embeddings, learned, model))
        for tick in reader.ticks():
            for sample in samples.until(tick.time_ns):
                table.offer(sample)
            outside = table.at(tick.time_ns)
            own = {name: value for name, value in tick.signals.items() if not name.startswith(LEARNED_PREFIXES)}
            signals = TickSignals(outside, {**own, **later.at(tick.time_ns)}, tick.time_ns)
            listed = objects.at(outside, tick.time_ns)
            recorder.evaluate(tick.tracks, signals, tick.time_ns, tick.wall_ns, objects=listed, cameras=tick.cameras)
            heads.update(name.removeprefix("heads.") for name in tick.signals if name.startswith("heads."))
            heads_b.update(name.removeprefix("heads_b.") for name in tick.signals if name.startswith("heads_b."))
            has_looked |= tick.tracks is not None
    recorder.finish()
    # Which classes and fields the vehicle's model knew is not recorded: none of them is held against a rule.
    capabilities = Capabilities(
        heads=frozenset(heads), heads_b=frozenset(heads_b), cameras=len(drive.cameras), embedding_model=model,
        has_images=has_looked,
    )  # fmt: skip
    return _facts(drive, recorder, recorder.as_recorded(capabilities), notes)


class _LearnedLater:
    """What later queries and triggers say, tick by tick: read as it is asked for, so that memory is that of one."""

    def __init__(self, answers: Iterator[tuple[int, Mapping[str, SignalValue]]] | None) -> None:
        self._answers = iter(()) if answers is None else answers
        self._next = next(self._answers, None)

    def at(self, time_ns: int) -> Mapping[str, SignalValue]:
        """Of the tick at that time; times that are asked for only grow."""
        while self._next is not None and self._next[0] < time_ns:
            self._next = next(self._answers, None)
        return {} if self._next is None or self._next[0] > time_ns else self._next[1]


def _embedding_model(reader: McapTopicReader) -> tuple[str | None, list[str]]:
    """Whose embeddings the recording holds, if any; and what is wrong with what it says of that."""
    try:
        model = recorded_model(reader)
    except ManifestError as error:
        return None, [f"queries and learned triggers cannot be answered: {error}"]
    return None if model is None else model.name, []


def _facts(drive: Drive, recorder: TickRecorder, capabilities: Capabilities, more_notes: list[str]) -> DriveFacts:
    notes = ["rules were evaluated on the predictions that the vehicle recorded", *more_notes, *drive.faults]
    sizes: dict[str, tuple[int, int]] = {}
    rates: dict[str, CameraRate] = {}
    for name, camera in drive.cameras.items():
        try:
            info = camera.stream()
            sizes[name] = (info.width, info.height)
        except DriveVideoError as error:
            notes.append(f"camera {name}: {error}")
        rates[name] = _rate(camera, max(drive.duration_s, 1e-9), notes)
    return DriveFacts(
        name=drive.name,
        start_ns=drive.start_ns,
        duration_s=drive.duration_s,
        ticks=recorder.ticks,
        cameras=rates,
        capabilities=capabilities,
        image_sizes=sizes,
        model={"name": "recorded"} if capabilities.has_images else None,
        notes=tuple(notes),
    )


def _rate(camera: DriveCamera, duration_s: float, notes: list[str]) -> CameraRate:
    recorded_bytes = 0
    codec: str | None = None
    try:
        for packet in camera.packets():
            recorded_bytes += len(packet.data)
            codec = packet.codec
    except DriveVideoError as error:
        notes.append(f"camera {camera.name}: {error}")
    return CameraRate(codec, recorded_bytes / duration_s)
