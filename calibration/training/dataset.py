"""The training set on disk: synthetic labelled instants, rendered once, kept as memory-mapped arrays.

A cache is one folder:
    images.npy   uint8 [N, 8, 3, 192, 320]  RGB, as the runtime would hand them to the network
    masks.npy    uint8 [N, 8, 2, 48, 80]    share of lane-line and drivable pixels per cell, 0..255
    objects.npy  OBJECT [K]                 every labelled box, in network pixels
    scalars.npy  SCALARS [N]                weather, wiper, control targets, speed, seed
    meta.json    what made it; written last, so a folder without it is unfinished and is made again

Instants are rendered at `SOURCE_SIZE` (as the cameras of a synthetic drive), most of them pass through JPEG at a random
quality (compression damage that H.264 frames will show at run time), then shrink to the network's size. Everything
follows from the seeds: the same seeds give the same bytes. `TRAIN_SEEDS` and `HELD_OUT_SEEDS` are disjoint, and
calibration uses `CALIBRATION_SEEDS`, disjoint from both.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration.training.layout import (
    CAMERAS,
    CLASSES,
    IMAGE_HEIGHT,
    IMAGE_WIDTH,
    LIGHT_STATES,
    SEGMENTATION_HEIGHT,
    SEGMENTATION_WIDTH,
    SEGMENTS,
    WEATHERS,
)

FORMAT = 3
TRAIN_PER_SEED = 25
HELD_OUT_PER_SEED = 10
SOURCE_SIZE = (640, 480)
TRAIN_SEEDS = tuple(range(1000, 1120))
HELD_OUT_SEEDS = tuple(range(9000, 9024))
CALIBRATION_SEEDS = tuple(range(5000, 5008))

JPEG_SHARE = 0.7
JPEG_QUALITY = (30, 90)

OBJECT = np.dtype(
    [
        ("instant", np.int32),
        ("camera", np.int8),
        ("class_id", np.int8),
        ("state", np.int8),  # index into LIGHT_STATES, -1 where it has none
        ("visible_fraction", np.float32),
        ("box", np.float32, 4),  # x0, y0, x1, y1 in network pixels
    ]
)
SCALARS = np.dtype(
    [
        ("seed", np.int32),
        ("weather", np.int8),
        ("wiper", np.int8),
        ("accel_mps2", np.float32),
        ("curvature_1pm", np.float32),
        ("lead_distance_m", np.float32),  # NaN when there is no lead
        ("speed_mps", np.float32),
    ]
)


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """An opened cache; arrays are read-only views of its files."""

    images: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    objects: NDArray[np.void]
    scalars: NDArray[np.void]

    def __len__(self) -> int:
        return int(self.images.shape[0])

    def objects_of(self, instant: int) -> NDArray[np.void]:
        """Rows of one instant; `objects` is sorted by instant."""
        low, high = np.searchsorted(self.objects["instant"], [instant, instant + 1])
        return self.objects[low:high]


def default_cache_directory() -> Path:
    """Where caches live unless told otherwise: `$XDG_CACHE_HOME/shadowrig/training`."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "shadowrig" / "training"


def open_or_make(
    root: Path,
    name: str,
    seeds: Sequence[int],
    per_seed: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
    workers: int = 2,
) -> TrainingSet:
    """The cache `root/name` of `per_seed` instants for each seed, rendered now if it is not there or differs."""
    folder = root / name
    meta = {"format": FORMAT, "seeds": list(seeds), "per_seed": per_seed, "source_size": list(SOURCE_SIZE)}
    if not _is_made(folder, meta):
        _make(folder, meta, seeds, per_seed, progress, workers)
    return open_cache(folder)


def open_cache(folder: Path) -> TrainingSet:
    """Open a finished cache."""
    return TrainingSet(
        images=np.load(folder / "images.npy", mmap_mode="r"),
        masks=np.load(folder / "masks.npy", mmap_mode="r"),
        objects=np.load(folder / "objects.npy"),
        scalars=np.load(folder / "scalars.npy"),
    )


def _is_made(folder: Path, meta: dict[str, object]) -> bool:
    path = folder / "meta.json"
    return path.exists() and bool(json.loads(path.read_text(encoding="utf-8")) == meta)


def _make(
    folder: Path,
    meta: dict[str, object],
    seeds: Sequence[int],
    per_seed: int,
    progress: Callable[[int, int], None],
    workers: int,
) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    total = len(seeds) * per_seed
    cameras = len(CAMERAS)
    images = np.lib.format.open_memmap(
        folder / "images.npy", "w+", np.uint8, (total, cameras, 3, IMAGE_HEIGHT, IMAGE_WIDTH)
    )
    mask_shape = (total, cameras, len(SEGMENTS), SEGMENTATION_HEIGHT, SEGMENTATION_WIDTH)
    masks = np.lib.format.open_memmap(folder / "masks.npy", "w+", np.uint8, mask_shape)
    objects: list[NDArray[np.void]] = []
    scalars = np.zeros(total, SCALARS)
    for index, part in enumerate(_rendered(seeds, per_seed, workers)):
        start = index * per_seed
        images[start : start + per_seed], masks[start : start + per_seed] = part.images, part.masks
        scalars[start : start + per_seed] = part.scalars
        part.objects["instant"] += start
        objects.append(part.objects)
        progress(start + per_seed, total)
    images.flush()
    masks.flush()
    np.save(folder / "objects.npy", np.concatenate(objects))
    np.save(folder / "scalars.npy", scalars)
    (folder / "meta.json").write_text(json.dumps(meta), encoding="utf-8")


def _rendered(seeds: Sequence[int], per_seed: int, workers: int) -> Iterator[TrainingSet]:
    """The parts of a cache in order, rendered by `workers` processes (1: by this one)."""
    if workers <= 1:
        for seed in seeds:
            yield _render_seed(seed, per_seed, SOURCE_SIZE)
        return
    # Spawned, not forked: PyTorch and ONNX Runtime may have threads, whose locks a forked child never gets back.
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        yield from pool.map(_render_seed, seeds, repeat(per_seed), repeat(SOURCE_SIZE))


def _render_seed(seed: int, count: int, size: tuple[int, int]) -> TrainingSet:
    """Instants of one seed as arrays."""
    from replay.synthetic import labelled_instants  # the renderer is needed only when a cache is made

    return pack(labelled_instants(seed=seed, count=count, size=size), seed, count)


def pack(instants: Iterable[Any], seed: int, count: int) -> TrainingSet:
    """Turn labelled instants into the arrays of a cache; `seed` drives the JPEG damage."""
    generator = np.random.default_rng(seed)
    cameras = len(CAMERAS)
    images = np.zeros((count, cameras, 3, IMAGE_HEIGHT, IMAGE_WIDTH), np.uint8)
    masks = np.zeros((count, cameras, len(SEGMENTS), SEGMENTATION_HEIGHT, SEGMENTATION_WIDTH), np.uint8)
    scalars = np.zeros(count, SCALARS)
    objects: list[tuple[object, ...]] = []
    made = 0
    for row, instant in enumerate(instants):
        for camera in range(cameras):
            images[row, camera] = prepare_image(instant.images[camera], generator)
            layers = (instant.lane_mask[camera], instant.drivable_mask[camera])
            masks[row, camera] = [shrink_mask(layer) for layer in layers]
            objects += [_object_row(row, camera, box, instant.images[camera].shape) for box in instant.boxes[camera]]
        scalars[row] = _scalar_row(seed, instant)
        made = row + 1
    if made != count:
        raise ValueError(f"seed {seed} gave {made} instants, {count} were asked for")
    return TrainingSet(images, masks, np.array(objects, OBJECT), scalars)


def prepare_image(image: NDArray[np.uint8], generator: np.random.Generator) -> NDArray[np.uint8]:
    """`[H, W, 3]` RGB of a camera to `[3, 192, 320]`, mostly through JPEG at a random quality."""
    if generator.random() < JPEG_SHARE:
        quality = int(generator.integers(*JPEG_QUALITY))
        coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        image = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR_BGR), np.uint8)  # channels keep their order both ways
    small = cv2.resize(image, (IMAGE_WIDTH, IMAGE_HEIGHT), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(small.transpose(2, 0, 1))


def shrink_mask(mask: NDArray[Any]) -> NDArray[np.uint8]:
    """Share of set pixels per segmentation cell, 0..255."""
    share = np.asarray(mask > 0, np.float32)
    small = cv2.resize(share, (SEGMENTATION_WIDTH, SEGMENTATION_HEIGHT), interpolation=cv2.INTER_AREA)
    return np.rint(small * 255.0).astype(np.uint8)


def _object_row(row: int, camera: int, box: Any, shape: tuple[int, ...]) -> tuple[object, ...]:
    scale = (IMAGE_WIDTH / shape[1], IMAGE_HEIGHT / shape[0]) * 2
    corners = [float(value) * factor for value, factor in zip(box.box, scale, strict=True)]
    state = LIGHT_STATES.index(box.state) if box.state in LIGHT_STATES else -1
    return (row, camera, CLASSES.index(box.class_name), state, float(box.visible_fraction), corners)


def _scalar_row(seed: int, instant: Any) -> tuple[object, ...]:
    lead = float("nan") if instant.lead_distance_m is None else float(instant.lead_distance_m)
    return (
        seed,
        WEATHERS.index(instant.weather),
        int(instant.wiper),
        instant.accel_mps2,
        instant.curvature_1pm,
        lead,
        instant.speed_mps,
    )
