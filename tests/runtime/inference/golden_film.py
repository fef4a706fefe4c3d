"""Three seconds of film as a network saw it, and what decoding and tracking made of it before they were made fast.

`golden_film.npz` holds the outputs of hydra_mini over ticks 24 to 131 of the synthetic drive that
`tests/benchmarks/tick_over_model.py` plays (eight cameras, 36 per second, some 50 tracks), coarsened to whole steps so
that they are small and hold ties. `golden_film.json.gz` holds what was made of them: each track's every field, each
scalar, and a checksum over the detections. `play` adds what a drive brings besides: ticks without a prediction, a
camera that is absent, an image that is held, a source of unknown size, motion of the vehicle that is not known.

It was recorded from the code as it stood in commit 7fda7c7, in which each object was handled by itself. To record
anew, on purpose, because results are meant to change:

    PYTHONPATH=.:tests/runtime/inference python -m golden_film DRIVE/drive.mcap
"""

from __future__ import annotations

import gzip
import json
import sys
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from replay.synthetic.rigs import CAMERAS, synthetic_rig
from runtime.config.rig_config import BUNDLED_MODELS
from runtime.formats.image_spec import Geometry
from runtime.inference.backend import NetworkDescription, RawOutputs
from runtime.inference.bundle import load_bundle
from runtime.inference.ground import EgoMotion
from runtime.inference.network import Network
from runtime.inference.padding import padding_frameset
from runtime.inference.rows import layout_for
from runtime.inference.tracking import Tracker
from runtime.messages import NANOSECONDS_PER_SECOND, Prediction, Track

FOLDER = Path(__file__).parent
FILM, MADE = FOLDER / "golden_film.npz", FOLDER / "golden_film.json.gz"
FIRST_TICK, TICKS, RATE_HZ = 24, 108, 36.0
SOURCE_SIZE = (640, 480)
#: Cells under this say nothing: hydra_mini's threshold is 0.35.
FAINT = 0.2
DETECTION_STEPS, LANE_STEPS = 255, 3
TRACK_FIELDS = tuple(Track.__slots__)


@dataclass(frozen=True, slots=True)
class PlayedTick:
    """What decoding and tracking said on one tick."""

    prediction: Prediction | None
    tracks: list[Track]


class FilmBackend:
    """Gives the recorded outputs, one after another, as a backend that ran on these framesets would."""

    ring_length, sources = 4, None
    description = NetworkDescription("hydra_mini", "1", "film", "int8", "golden_film.npz", "", 1, "film")

    def __init__(self, film: Mapping[str, np.ndarray]) -> None:
        self._film = film
        self.tick = 0
        self.prepare()

    def prepare(self) -> None:
        """Unpack the outputs of `tick`, which the next run will give."""
        self._tensors = tensors_of(self._film, self.tick)

    def infer(self, frameset: Any, signals: Any) -> RawOutputs:
        return RawOutputs(0, self._tensors, frameset.present.copy())

    def warmup(self) -> None:
        """Nothing to warm."""

    reset = close = warmup


def tensors_of(film: Mapping[str, np.ndarray], tick: int) -> dict[str, np.ndarray]:
    """The network's outputs on one tick, as the film keeps them."""
    heat = film["heat"][tick].astype(np.float32) / np.float32(DETECTION_STEPS)
    rows, _, height, width = heat.shape
    box, state = np.zeros((rows, 4, height, width), np.float32), np.zeros((rows, 3, height, width), np.float32)
    row, y, x = np.nonzero(_has_box(film["heat"][tick]))
    first = int(film["box_begins"][tick])
    told = slice(first, first + row.size)
    box[row, :, y, x] = film["box"][told].astype(np.float32)
    state[row, :, y, x] = film["state"][told].astype(np.float32) / np.float32(DETECTION_STEPS)
    lanes = film["lanes"][tick].astype(np.float32) / np.float32(LANE_STEPS)
    tensors = {"det_heatmap": heat, "det_box": box, "det_state": state, "lane_drivable": lanes}
    tensors |= {name: film[name][tick] for name in ("control", "weather", "wiper")}
    return tensors | {"embedding": np.ones((rows, 64), np.float32)}


def _has_box(heat: np.ndarray) -> np.ndarray:
    """`[B, h, w]` cells whose box the film keeps."""
    return np.asarray((heat >= round(0.35 * DETECTION_STEPS)).any(axis=1))


def play(film: Mapping[str, np.ndarray], looks_ahead: bool = False) -> Iterator[PlayedTick]:
    """Decode and track the whole film; with `looks_ahead` tracks move before the network speaks, as in the tick."""
    bundle = load_bundle(BUNDLED_MODELS / "hydra_mini")
    backend = FilmBackend(film)
    network = Network(bundle, backend, layout_for(bundle.manifest, CAMERAS), CAMERAS)  # type: ignore[arg-type]
    tracker = Tracker(CAMERAS, synthetic_rig(*SOURCE_SIZE))
    whole = network.image_spec.geometry(*SOURCE_SIZE)
    frameset = padding_frameset(CAMERAS, network.image_spec, present=True)
    for tick in range(TICKS):
        backend.tick = tick
        backend.prepare()
        time_ns = 1000 * NANOSECONDS_PER_SECOND + round(tick * NANOSECONDS_PER_SECOND / RATE_HZ)
        present, fresh, geometries = _came(tick, whole)
        seen = replace(frameset, time_ns=time_ns, present=present)
        if looks_ahead:
            tracker.look_ahead(time_ns)
        prediction = None if tick % 23 == 7 else network.predict(seen, geometries, None)
        speed_mps, curvature_1pm = film["ego"][tick].tolist()
        ego = EgoMotion(None if 30 <= tick < 34 else speed_mps, None if tick in (31, 50) else curvature_1pm)
        yield PlayedTick(prediction, tracker.update(prediction, fresh, time_ns, ego, geometries))


def _came(tick: int, whole: Geometry) -> tuple[np.ndarray, np.ndarray, list[Geometry | None]]:
    """Which cameras are there, which of these show a new image, and how their images lie in the network's."""
    present = np.ones(len(CAMERAS), np.bool_)
    present[3] = not 40 <= tick < 52
    present[0] = not 60 <= tick < 62
    fresh = present.copy()
    fresh[5] = not 70 <= tick < 74
    geometries: list[Geometry | None] = [whole] * len(CAMERAS)
    if 80 <= tick < 84:
        geometries[2] = None
    return present, fresh, geometries


def text_of(played: PlayedTick) -> list[Any]:
    """What one tick said, as it goes into a file; equal texts are equal to the bit."""
    tracks = [[getattr(track, field) for field in TRACK_FIELDS] for track in played.tracks]
    prediction = played.prediction
    if prediction is None:
        return [None, None, None, _plain(tracks)]
    found = prediction.detections
    parts = (found.camera, found.class_id, found.score, found.box_px)
    checksum = zlib.crc32(b"".join(part.dtype.str.encode() + part.tobytes() for part in parts))
    control = prediction.control
    said = None if control is None else [control.accel_mps2, control.curvature_1pm, prediction.lead_distance_m]
    return _plain([[len(found), checksum, found.state], said, dict(prediction.scalars), tracks])


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))


def load_film() -> dict[str, np.ndarray]:
    """The film."""
    with np.load(FILM) as arrays:
        return dict(arrays)


def load_made() -> list[Any]:
    """What was made of it, tick by tick."""
    made = json.loads(gzip.decompress(MADE.read_bytes()))
    assert tuple(made["track_fields"]) == TRACK_FIELDS, "a track has other fields now: record anew on purpose"
    return list(made["ticks"])


def record(drive_path: Path) -> None:
    """Write both files from a drive and the code as it stands."""
    np.savez_compressed(FILM, **_coarsened(_outputs(drive_path)))
    ticks = [text_of(played) for played in play(load_film())]
    content = json.dumps({"track_fields": TRACK_FIELDS, "ticks": ticks}, separators=(",", ":"))
    MADE.write_bytes(gzip.compress(content.encode(), 9, mtime=0))


def _outputs(drive_path: Path) -> list[dict[str, np.ndarray]]:
    """The network's outputs and the vehicle's motion on each tick of a drive."""
    from replay.playing import DrivePlayer, network_for
    from runtime.composition import find_bundle, open_rules
    from runtime.drives import open_drive
    from runtime.shadow.comparison import driven_curvature_1pm

    drive = open_drive(drive_path)
    network = network_for(drive, find_bundle("hydra_mini"), 1, None)
    assert network is not None
    assert tuple(drive.cameras) == CAMERAS
    player = DrivePlayer(drive, network, None, open_rules(["library"], drive.declared), RATE_HZ)
    taken: list[dict[str, np.ndarray]] = []
    infer = network._backend.infer

    def keep(frameset: Any, signals: Any) -> RawOutputs:
        outputs = infer(frameset, signals)
        ego = np.array([signals.value("vehicle.speed_mps"), driven_curvature_1pm(signals)], np.float64)
        taken.append({name: tensor.copy() for name, tensor in outputs.tensors.items()} | {"ego": ego})
        return outputs

    network._backend.infer = keep  # type: ignore[method-assign]
    ticks = player.ticks()
    while len(taken) < FIRST_TICK + TICKS:
        next(ticks)
    player.close()
    return taken[FIRST_TICK:]


def _coarsened(taken: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The film of these outputs."""
    heat = np.stack([np.where(one["det_heatmap"] < FAINT, 0.0, one["det_heatmap"]) for one in taken])
    film = {"heat": np.round(heat * DETECTION_STEPS).astype(np.uint8)}
    cells = [np.nonzero(_has_box(codes)) for codes in film["heat"]]
    film["box_begins"] = np.cumsum([0, *(row.size for row, _, _ in cells)])[:-1]
    told = [(one, row, y, x) for one, (row, y, x) in zip(taken, cells, strict=True)]
    film["box"] = np.concatenate([one["det_box"][row, :, y, x] for one, row, y, x in told]).astype(np.float16)
    state = np.concatenate([one["det_state"][row, :, y, x] for one, row, y, x in told])
    film["state"] = np.round(state * DETECTION_STEPS).astype(np.uint8)
    film["lanes"] = np.stack([np.round(one["lane_drivable"] * LANE_STEPS).astype(np.uint8) for one in taken])
    return film | {name: np.stack([one[name] for one in taken]) for name in ("control", "weather", "wiper", "ego")}


if __name__ == "__main__":
    record(Path(sys.argv[1]))
