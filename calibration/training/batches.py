"""Training batches: instants drawn from a cache, augmented, with dense targets.

Augmentation keeps what the camera geometry means for control (no crops, no shifts): mirroring of the whole scene with
cameras swapped, exposure and colour of each camera, sensor noise, blur, and cameras that are missing (grey, as at run
time). Everything follows from the generator that is passed in.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calibration.training.dataset import TrainingSet
from calibration.training.layout import CAMERAS, CLASSES, IMAGE_WIDTH, MIRRORED_CAMERA, PAD_VALUE, WEATHERS
from calibration.training.losses import Batch
from calibration.training.targets import detection_targets, is_countable, mirror_objects

MIRROR_SHARE = 0.25
DROPOUT_SHARE = 0.12  # of instants that lose one to three cameras
BLUR_SHARE = 0.15
NOISE_SHARE = 0.4
NOISE_TABLE_SIZE = 256
QUEUE_SIZE = 4


def epoch_batches(data: TrainingSet, size: int, generator: np.random.Generator) -> Iterator[Batch]:
    """Every instant once, in random order, prepared ahead by a thread. An incomplete last batch is left out."""
    order = generator.permutation(len(data))
    groups = [order[start : start + size] for start in range(0, len(order) - size + 1, size)]
    ready: queue.Queue[Batch | BaseException | None] = queue.Queue(QUEUE_SIZE)
    stop = threading.Event()

    def produce() -> None:
        try:
            for group in groups:
                _put(ready, make_batch(data, np.sort(group), generator), stop)
                if stop.is_set():
                    return
            _put(ready, None, stop)
        except BaseException as error:  # handed over and raised by the reader
            _put(ready, error, stop)

    worker = threading.Thread(target=produce, name="batches", daemon=True)
    worker.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        worker.join()


def _put(
    ready: queue.Queue[Batch | BaseException | None], item: Batch | BaseException | None, stop: threading.Event
) -> None:
    while not stop.is_set():
        try:
            ready.put(item, timeout=0.2)
            return
        except queue.Full:
            continue


def make_batch(data: TrainingSet, instants: NDArray[np.int64], generator: np.random.Generator) -> Batch:
    """One augmented batch of the given instants."""
    images, masks, objects = [], [], []
    signs = np.ones(len(instants), np.float32)
    for row, instant in enumerate(instants):
        image, mask, labels = data.images[instant], data.masks[instant], data.objects_of(int(instant))
        if generator.random() < MIRROR_SHARE:
            order = list(MIRRORED_CAMERA)
            image, mask = image[order][..., ::-1], mask[order][..., ::-1]
            labels = mirror_objects(labels, IMAGE_WIDTH)
            signs[row] = -1.0
        missing = _missing_cameras(generator)
        image, mask = np.array(image), np.array(mask)
        image[missing], mask[missing] = PAD_VALUE, 0
        images.append(image)
        masks.append(mask)
        objects.append(labels[~np.isin(labels["camera"], missing)])
    augmented = degrade(np.concatenate(images), generator)
    return _assemble(torch.from_numpy(augmented), np.concatenate(masks), objects, data.scalars[instants], signs)


def _missing_cameras(generator: np.random.Generator) -> NDArray[np.int64]:
    if generator.random() >= DROPOUT_SHARE:
        return np.zeros(0, np.int64)
    return generator.choice(len(CAMERAS), size=int(generator.integers(1, 4)), replace=False)


def degrade(images: NDArray[np.uint8], generator: np.random.Generator) -> NDArray[np.uint8]:
    """Exposure, colour, blur and noise of a camera, each image `[3, H, W]` by itself, in place.

    Eight-bit arithmetic of OpenCV: in floating point this took as long as the training step itself.
    """
    levels = np.arange(256, dtype=np.float32)
    for image in images:
        if (image == PAD_VALUE).all():
            continue
        gain = generator.uniform(0.7, 1.3) * generator.uniform(0.93, 1.07, 3)
        shift = generator.uniform(-14, 14)
        blurs = generator.random() < BLUR_SHARE
        sigma = generator.uniform(1, 8) if generator.random() < NOISE_SHARE else 0.0
        for plane, factor in zip(image, gain, strict=True):
            table = np.clip(levels * np.float32(factor) + np.float32(shift), 0, 255).astype(np.uint8)
            cv2.LUT(plane, table, dst=plane)
            if blurs:
                cv2.blur(plane, (3, 3), dst=plane)
            if sigma:
                _add_noise(plane, sigma, generator)
    return images


def _add_noise(plane: NDArray[np.uint8], sigma: float, generator: np.random.Generator) -> None:
    """Noise of this strength, drawn from a table: a new normal number for every pixel costs more than it teaches."""
    table = np.rint(generator.normal(0.0, sigma, NOISE_TABLE_SIZE)).astype(np.int8)
    picks = np.frombuffer(generator.bytes(plane.size), np.uint8).reshape(plane.shape)
    noise = np.take(table, picks)
    cv2.add(plane, np.maximum(noise, 0).astype(np.uint8), dst=plane)
    cv2.subtract(plane, np.maximum(-noise, 0).astype(np.uint8), dst=plane)


def content_descriptors(
    objects: list[NDArray[np.void]], masks: NDArray[np.uint8], weather: NDArray[np.int64]
) -> NDArray[np.float32]:
    """What each image shows, as numbers whose distance means difference: weather, objects by class, road, lines."""
    images = masks.shape[0]
    counts = np.zeros((images, len(CLASSES)), np.float32)
    for instant, labels in enumerate(objects):
        seen = labels[is_countable(labels)]
        np.add.at(counts, (instant * len(CAMERAS) + seen["camera"].astype(int), seen["class_id"].astype(int)), 1.0)
    kind = np.repeat(np.eye(len(WEATHERS), dtype=np.float32)[weather], len(CAMERAS), axis=0)
    share = masks.reshape(images, 2, -1).mean(axis=2, dtype=np.float32) / 255.0
    return np.concatenate([0.7 * kind, 0.6 * np.log1p(counts), 1.5 * share], axis=1).astype(np.float32)


def _assemble(
    images: Tensor,
    masks: NDArray[np.uint8],
    objects: list[NDArray[np.void]],
    scalars: NDArray[np.void],
    signs: NDArray[np.float32],
) -> Batch:
    targets = detection_targets(objects)
    weather = scalars["weather"].astype(np.int64)
    lead = scalars["lead_distance_m"]
    control = np.stack(
        [np.clip(scalars["accel_mps2"], -8, 8), scalars["curvature_1pm"] * signs, lead, ~np.isnan(lead)], axis=1
    )
    return Batch(
        images=images,
        speed_mps=torch.from_numpy(scalars["speed_mps"].astype(np.float32)).reshape(-1, 1),
        heatmap=torch.from_numpy(targets.heatmap),
        heat_weight=torch.from_numpy(targets.weight),
        positive_image=torch.from_numpy(targets.image),
        positive_cell=torch.from_numpy(targets.cell),
        positive_box=torch.from_numpy(targets.box),
        positive_state=torch.from_numpy(targets.state),
        masks=torch.from_numpy(masks).float() / 255.0,
        weather=torch.from_numpy(weather),
        wiper=torch.from_numpy(scalars["wiper"].astype(np.float32)).reshape(-1, 1),
        control=torch.from_numpy(control.astype(np.float32)),
        descriptors=torch.from_numpy(content_descriptors(objects, masks, weather)),
    )
