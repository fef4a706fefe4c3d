"""The recorded ticks of a drive: from the cache, or played through network and tracker now.

A cache file that is damaged is recorded anew, with a note. A cache folder that cannot be written is a note as well:
the ticks then lie in a temporary file for as long as the backtest takes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from replay.backtest.cache import TickCache, cache_key, tick_sources_sha256
from replay.backtest.recorded_predictions import has_recorded_ticks, record_recorded_ticks
from replay.backtest.recorded_ticks import Block, TickRecorder, fields_fingerprint
from replay.backtest.tick_file import MAX_TICKS, CameraRate, DriveFacts, TickFile, TickFileError, TickFileWriter
from replay.playing import DrivePlayer, ReplayError, check_rate, network_for, rig_beside
from runtime.composition import find_bundle, model_facts, open_rig
from runtime.drives import Drive, open_drive
from runtime.formats.durable_files import sha256_of
from runtime.inference.manifest import MANIFEST_FILE
from runtime.messages import PASS_THROUGH_CODECS, CameraView, ControllerObject, Firing, SignalReader, Track
from runtime.openings import Openings
from runtime.version import package_version
from triggers import RuleEngine, RuleSet


@dataclass(frozen=True, slots=True)
class RecordingRequest:
    """What the ticks of a drive follow from. `model` None: signals only."""

    drive: Path
    model: str | None
    rig: Path | None = None
    rate_hz: float = 20.0
    threads: int = 1
    cache: Path | None = None  # None: no cache
    #: "run": the network; "recorded": what the recording's own ticks say; "auto": recorded, where a drive has it.
    predictions: str = "auto"
    second_model: str | None = None  # another candidate beside it, run with it


@dataclass(slots=True)
class DriveTicks:
    """A drive with its recorded ticks."""

    drive: Drive
    file: TickFile
    was_cached: bool
    notes: list[str] = field(default_factory=list)

    @property
    def facts(self) -> DriveFacts:
        """What is known of the drive besides its ticks."""
        return self.file.facts

    def blocks(self) -> Iterator[Block]:
        """See `TickFile.blocks`."""
        return self.file.blocks()


@contextmanager
def drive_ticks(request: RecordingRequest, rules: RuleSet, show_progress: bool = False) -> Iterator[DriveTicks]:
    """The ticks of a drive. `rules` says which learned parts the tick computes; they are not evaluated here.

    Raises:
        DocumentError: the drive, the model or the calibration is bad.
        ReplayError: they do not fit together, or the drive is too long.
        OSError: no place to write the ticks to.
    """
    check_rate(request.rate_hz)
    parts = _Parts(request, replace(rules, rules=()))
    with tempfile.TemporaryDirectory(prefix="shadowrig-ticks-") as temporary:
        yield parts.ticks(Path(temporary), show_progress)


class _NoRules:
    """Evaluates nothing."""

    def evaluate(
        self,
        tracks: Sequence[Track] | None,
        signals: SignalReader,
        time_ns: int,
        wall_ns: int,
        objects: Sequence[ControllerObject] | None = None,
        cameras: Sequence[CameraView] | None = None,
    ) -> list[Firing]:
        return []


class _Parts:
    """Drive, model and calibration of one recording."""

    def __init__(self, request: RecordingRequest, learned: RuleSet) -> None:
        self._request = request
        self._learned = learned
        openings = Openings()
        drive = openings.open(lambda: open_drive(request.drive))
        self._rig_path = request.rig or (rig_beside(drive) if drive is not None else None)
        self._rig = openings.open(lambda: open_rig(self._rig_path))
        self._bundle = openings.open(lambda: None if request.model is None else find_bundle(request.model))
        second = request.second_model
        self._second_bundle = openings.open(lambda: None if second is None else find_bundle(second))
        openings.settle()
        assert drive is not None
        self._drive = drive
        self._uses_recorded = request.predictions != "run" and has_recorded_ticks(drive)
        if request.predictions == "recorded" and not self._uses_recorded:
            raise ReplayError(f"{request.drive} holds no recorded ticks: choose --predictions run or auto")
        self._notes: list[str] = []

    def ticks(self, temporary: Path, show_progress: bool) -> DriveTicks:
        """From the cache, or recorded into it, or into `temporary`."""
        cache, path = self._place(temporary)
        if cache is not None and (found := self._cached(path)) is not None:
            cache.touch(path)
            return DriveTicks(self._drive, found.of(self._drive.name), True, self._notes)
        self._record(path, show_progress)
        if cache is not None:
            cache.shrink(keep=path)
        return DriveTicks(self._drive, TickFile.open(path), False, self._notes)

    def _place(self, temporary: Path) -> tuple[TickCache | None, Path]:
        fallback = temporary / "drive.ticks"
        if self._request.cache is None:
            return None, fallback
        cache = TickCache(self._request.cache)
        try:
            return cache, cache.path_of(self._key(cache))
        except OSError as error:
            self._notes.append(f"no cache: {error}")
            return None, fallback

    def _key(self, cache: TickCache) -> str:
        facts = {
            "format": fields_fingerprint(),
            "software": f"{package_version()} {tick_sources_sha256()}",
            "drive": cache.hashes(self._drive.files),  # in the order of its description; where they lie is all the same
            "model": None if self._bundle is None else sha256_of(self._bundle / MANIFEST_FILE),  # names all its hashes
            "second_model": None if self._second_bundle is None else sha256_of(self._second_bundle / MANIFEST_FILE),
            "rig": None if self._rig_path is None else sha256_of(self._rig_path),
            "rate_hz": self._request.rate_hz,
            "queries": {name: repr(query) for name, query in self._learned.queries.items()},
            "classifiers": {name: source.sha256 for name, source in self._learned.classifiers.items()},
        }
        if self._uses_recorded:
            facts.update(model="recorded", second_model=None, rig=None, rate_hz=None)  # as the vehicle had them
        return cache_key(facts)

    def _cached(self, path: Path) -> TickFile | None:
        if not path.exists():
            return None
        try:
            found = TickFile.open(path)
            found.verify()
            return found
        except (TickFileError, OSError) as error:
            self._notes.append(f"the cache file {path.name} {error}; recorded anew")
            return None

    def _record(self, path: Path, show_progress: bool) -> None:
        with TickFileWriter(path) as writer:
            if self._uses_recorded:
                facts = record_recorded_ticks(self._drive, TickRecorder(_NoRules(), writer), self._learned)
            else:
                facts = self._run(writer, show_progress)
            writer.finish(facts)

    def _run(self, writer: TickFileWriter, show_progress: bool) -> DriveFacts:
        """Play the drive through network and tracker."""
        recorders: list[TickRecorder] = []

        def wrap(engine: RuleEngine) -> TickRecorder:
            recorders.append(TickRecorder(engine, writer))
            return recorders[0]

        bundles, threads = (self._bundle, self._second_bundle), self._request.threads
        network, second = (network_for(self._drive, bundle, threads, self._rig) for bundle in bundles)
        rate_hz = self._request.rate_hz
        player = DrivePlayer(
            self._drive, network, self._rig, self._learned, rate_hz, measures_images=True, wrap_rules=wrap,
            second=second,
        )  # fmt: skip
        try:
            self._play(player, recorders[0], show_progress)
            return self._facts(player, recorders[0])
        finally:
            player.close()

    def _play(self, player: DrivePlayer, recorder: TickRecorder, show_progress: bool) -> None:
        for _ in player.ticks(show_progress):
            if recorder.ticks > MAX_TICKS:
                raise ReplayError(f"{self._drive.path} is longer than {MAX_TICKS} ticks: split it, or lower --rate")
        recorder.finish()

    def _facts(self, player: DrivePlayer, recorder: TickRecorder) -> DriveFacts:
        drive, network = self._drive, player.network
        duration_s = max(drive.duration_s, 1e-9)
        cameras = {
            camera.watch.name: CameraRate(camera.codec, camera.recorded_bytes / duration_s)
            for camera in player.cameras.players
        }
        return DriveFacts(
            name=drive.name,
            start_ns=drive.start_ns,
            duration_s=drive.duration_s,
            ticks=recorder.ticks,
            cameras=cameras,
            capabilities=recorder.as_recorded(player.parts.capabilities),
            image_sizes=dict(player.parts.image_sizes),
            model=model_facts(network),
            notes=(*self._damage(player), *_codec_notes(cameras)),
        )

    def _damage(self, player: DrivePlayer) -> Iterator[str]:
        yield from self._drive.faults
        yield from (f"camera {camera}: {fault}" for camera, fault in player.camera_faults.items())
        counters = {} if player.parts.assembler is None else player.parts.assembler.counters()
        for camera, counter in counters.items():
            if counter.missing:
                yield f"camera {camera}: no frame at {counter.missing} ticks"


def _codec_notes(cameras: dict[str, CameraRate]) -> Iterator[str]:
    for name, rate in cameras.items():
        if rate.codec is not None and rate.codec not in PASS_THROUGH_CODECS:
            yield f"camera {name}: clips would hold it encoded anew; its cost is that of the recorded {rate.codec}"
