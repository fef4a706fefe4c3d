"""A drive whose recording holds whole ticks (`/tick`: tracks, camera views, the tick's own signals): no network needed.

What the vehicle recorded is what its rules saw, by its model, at its rate. Signals from outside come from the other
topics, and the controller's objects from them, as in the tick itself. Videos are read for their bytes, not decoded.
"""

from __future__ import annotations

from replay.backtest.recorded_ticks import TickRecorder
from replay.backtest.tick_file import CameraRate, DriveFacts
from replay.playing import SampleFeed
from runtime.composition import open_signals
from runtime.controller_objects import ControllerObjects
from runtime.drives import Drive, DriveCamera, DriveVideoError
from runtime.formats.mcap_files import McapFileError, McapTopicReader
from runtime.tick_signals import TickSignals
from triggers.rules.applicability import Capabilities


def has_recorded_ticks(drive: Drive) -> bool:
    """Whether the drive is a recording of ours with ticks that rules can be evaluated on."""
    if drive.path.suffix != ".mcap":
        return False
    try:
        with McapTopicReader(drive.path) as reader:
            return next(iter(reader.ticks()), None) is not None
    except McapFileError:
        return False  # ticks of an older version: tracks and signals are not in them


def record_recorded_ticks(drive: Drive, recorder: TickRecorder) -> DriveFacts:
    """Hand every tick of the recording to `recorder`. Raises McapFileError for a tick that cannot be read."""
    table, objects, samples = open_signals({}), ControllerObjects(), SampleFeed(drive)
    heads: set[str] = set()
    has_looked = False
    with McapTopicReader(drive.path) as reader:
        for tick in reader.ticks():
            for sample in samples.until(tick.time_ns):
                table.offer(sample)
            outside = table.at(tick.time_ns)
            signals = TickSignals(outside, tick.signals, tick.time_ns)
            listed = objects.at(outside, tick.time_ns)
            recorder.evaluate(tick.tracks, signals, tick.time_ns, tick.wall_ns, objects=listed, cameras=tick.cameras)
            heads.update(name.removeprefix("heads.") for name in tick.signals if name.startswith("heads."))
            has_looked |= tick.tracks is not None
    recorder.finish()
    # Which classes and fields the vehicle's model knew is not recorded: none of them is held against a rule.
    capabilities = Capabilities(heads=frozenset(heads), cameras=len(drive.cameras), has_images=has_looked)
    return _facts(drive, recorder, recorder.as_recorded(capabilities))


def _facts(drive: Drive, recorder: TickRecorder, capabilities: Capabilities) -> DriveFacts:
    notes = ["rules were evaluated on the predictions that the vehicle recorded", *drive.faults]
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
