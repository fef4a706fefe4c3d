"""The whole tick on the device: source frames in, images and outputs back, as `preprocess: device` does in the vehicle.

Pictures as a decoder leaves them (NV12, smooth textures from a seed) lie in the backend's own pinned memory; one graph
prepares them, runs the network and copies both back. The images must be the CPU path's within one step of 255, the
outputs those of ONNX Runtime on the very images that the device made.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from deploy.gpu_check.engine import FRAMESETS, Pair, Probe, judge, least_cosines, open_pair, run
from deploy.gpu_check.outcome import FailedError, Found
from runtime.capture.preparation import ImagePreparer
from runtime.capture.source_frames import SourcePicture
from runtime.formats.source_image import SourceImage, SourceMemory
from runtime.inference.tensorrt.driver import CudaDriver
from runtime.messages import Frameset

#: Sizes of the cameras' pictures, in turn: those of real ones.
SIZES = ((1280, 960), (1920, 1208), (1280, 720), (640, 480))
#: A camera that is missing on this frameset: its row must be padding.
MISSING_ON, MISSING_CAMERA = 2, 0
LARGEST_STEP = 1


def device_prepares_as_the_cpu(
    driver: CudaDriver, directory: Path | None, seed: int, shrink: int = 1, probe: Probe | None = None
) -> Found:
    """Over some framesets. Raises NotRunError without a bundle or TensorRT, FailedError."""
    pair = open_pair(driver, directory, "device", probe)
    memory = pair.engine.sources
    if memory is None:
        raise FailedError(f"{pair.what}: the backend prepares no images: {pair.engine.host_because}")
    random = np.random.default_rng(seed)
    worst, outputs = 0, []
    for sequence in range(FRAMESETS):
        frameset, expected = _frameset(pair, memory, random, sequence, shrink)
        found = run(pair.engine, frameset)
        worst = max(worst, int(np.abs(frameset.images.astype(np.int16) - expected).max()))
        outputs.append((found, run(pair.peer, _prepared(frameset))))
    if worst > LARGEST_STEP:
        raise FailedError(f"{pair.what}: an image of the device differs from the CPU's by {worst} steps of 255")
    detail, figures = judge(least_cosines(outputs), pair.what)
    return f"images within {worst} step of the CPU's; {detail}", {**figures, "largest_step": worst}


def _frameset(
    pair: Pair, memory: SourceMemory, random: np.random.Generator, sequence: int, shrink: int
) -> tuple[Frameset, NDArray[np.uint8]]:
    """A frameset of source frames, and what the CPU makes of the same pictures."""
    spec, count = pair.bundle.manifest.images.image_spec, len(pair.cameras)
    expected = np.full((count, *spec.plane_shape), spec.pad_value, np.uint8)
    present = np.ones(count, np.bool_)
    present[MISSING_CAMERA] = sequence != MISSING_ON
    sources: list[SourceImage | None] = []
    for row in range(count):
        if not present[row]:
            sources.append(None)
            continue
        width, height = (side // shrink // 2 * 2 for side in SIZES[row % len(SIZES)])
        picture = _picture(random, width, height)
        ImagePreparer(spec).prepare(picture, expected[row])
        sources.append(_left(SourcePicture(picture, "rawvideo"), memory))
    return _of(pair.cameras, sequence, present, np.full_like(expected, spec.pad_value), sources), expected


def _picture(random: np.random.Generator, width: int, height: int) -> av.VideoFrame:
    coarse = random.integers(0, 256, (9, 12, 3), np.uint8)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return av.VideoFrame.from_ndarray(smooth, "rgb24").reformat(format="nv12")


def _left(picture: SourcePicture, memory: SourceMemory) -> SourceImage:
    slot = memory.take(picture.size_bytes)
    picture.copy(slot)
    return SourceImage(slot, picture.format)


def _prepared(frameset: Frameset) -> Frameset:
    """The same instant with the images that the device made, for who takes prepared ones."""
    return _of(frameset.cameras, frameset.sequence, frameset.present, frameset.images.copy(), None)


def _of(
    cameras: tuple[str, ...],
    sequence: int,
    present: NDArray[np.bool_],
    images: NDArray[np.uint8],
    sources: Sequence[SourceImage | None] | None,
) -> Frameset:
    time_ns = sequence * 50_000_000
    return Frameset(
        sequence=sequence,
        time_ns=time_ns,
        cameras=cameras,
        present=present,
        frame_time_ns=np.full(len(cameras), time_ns, np.int64),
        frame_sequence=np.full(len(cameras), sequence, np.int64),
        images=images,
        sources=None if sources is None else tuple(sources),
    )
