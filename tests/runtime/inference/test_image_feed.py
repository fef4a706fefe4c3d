"""Nothing is copied where the network can read what capture prepared."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.inference.image_feed import ImageFeed
from runtime.inference.manifest import Manifest
from runtime.inference.rows import layout_for
from tests.runtime.inference.input_networks import separate_manifest
from tests.runtime.inference.tiny_networks import SIDE, frameset_of, mean_manifest, noise

CAMERAS = tuple(f"camera_{index}" for index in range(3))
FILES = {"fp32": {"path": "a.onnx", "sha256": "0" * 64}}


def _feed(manifest: dict, **more: object) -> ImageFeed:
    checked = Manifest.model_validate({**manifest, **more, "files": FILES})
    return ImageFeed(checked, layout_for(checked, CAMERAS), CAMERAS)


def test_a_batch_in_order_is_read_where_it_lies() -> None:
    images = noise(3)
    assert list(_feed(mean_manifest(3)).addresses(frameset_of(images))) == [images.ctypes.data]


@pytest.mark.parametrize("named", [False, True], ids=["in the rig's order", "by name"])
def test_each_separate_input_reads_its_camera_where_it_lies(named: bool) -> None:
    manifest = separate_manifest(4)
    order = [2, 0, 1] if named else [0, 1, 2]  # of input 0, 1, 2: which camera
    for entry, camera in zip(manifest["inputs"], order, strict=False):
        entry.update({"camera": f"camera_{camera}"} if named else {})
    feed, images = _feed(manifest), noise(3)
    addresses = list(feed.addresses(frameset_of(images)))
    assert addresses[:3] == [images[camera].ctypes.data for camera in order]
    other = noise(3, 1)
    again = list(feed.addresses(frameset_of(other)))
    assert again[:3] == [other[camera].ctypes.data for camera in order]
    assert again[3] == addresses[3]  # the input without a camera keeps its padding


def test_one_image_at_a_time_is_read_where_it_lies() -> None:
    images = noise(3)
    feed = _feed(mean_manifest(1))
    assert [feed.camera_addresses(frameset_of(images), camera)[0] for camera in range(3)] == [
        image.ctypes.data for image in images
    ]


def test_what_must_be_converted_goes_into_one_buffer_for_good() -> None:
    feed = _feed(mean_manifest(3, "float32", scale=0.5))
    addresses = {feed.addresses(frameset_of(noise(3, seed)))[0] for seed in range(5)}
    assert len(addresses) == 1
    separate = _feed(separate_manifest(3, dtype="float32"))
    first = list(separate.addresses(frameset_of(noise(3))))
    assert list(separate.addresses(frameset_of(noise(3, 1)))) == first
    assert np.diff(first).tolist() == [3 * SIDE * SIDE * 4] * 2
