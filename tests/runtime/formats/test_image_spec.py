"""Image specifications and the way back from network pixels to source pixels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.formats.image_spec import ImageSpec


def test_stretch_fills_the_whole_image() -> None:
    geometry = ImageSpec(320, 192).geometry(1280, 960)
    assert (geometry.content_width, geometry.content_height) == (320, 192)
    assert (geometry.scale_x, geometry.scale_y) == (0.25, 0.2)


def test_letterbox_keeps_the_aspect_ratio_and_the_top_left_corner() -> None:
    geometry = ImageSpec(416, 416, resize="letterbox").geometry(1280, 720)
    assert (geometry.content_width, geometry.content_height) == (416, 234)
    assert (geometry.offset_x, geometry.offset_y) == (0.0, 0.0)


@given(
    width=st.integers(1, 4000),
    height=st.integers(1, 4000),
    resize=st.sampled_from(["stretch", "letterbox"]),
)
def test_boxes_come_back_to_where_they_were(width: int, height: int, resize: str) -> None:
    geometry = ImageSpec(416, 320, resize=resize).geometry(width, height)
    boxes = np.array([[0, 0, width, height], [width / 4, height / 3, width / 2, height]], np.float32)
    mapped = geometry.boxes_to_network(boxes)
    assert mapped[:, 2].max() <= 416.01
    assert mapped[:, 3].max() <= 320.01
    np.testing.assert_allclose(geometry.boxes_to_source(mapped), boxes, rtol=1e-4, atol=1e-2)


def test_boxes_are_clipped_to_the_source_image() -> None:
    geometry = ImageSpec(320, 192).geometry(640, 384)
    outside = np.array([[-5, -5, 400, 300]], np.float32)
    np.testing.assert_array_equal(geometry.boxes_to_source(outside), [[0, 0, 640, 384]])
    np.testing.assert_array_equal(geometry.boxes_to_source(outside, clip=False), [[-10, -10, 800, 600]])


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"width": 0, "height": 10}, "width is 0"),
        ({"width": 10, "height": 100_000}, "height is 100000"),
        ({"width": 10, "height": 10, "color": "grb"}, "'grb'"),
        ({"width": 10, "height": 10, "resize": "crop"}, "'crop'"),
        ({"width": 10, "height": 10, "pad_value": 256}, "256"),
    ],
)
def test_impossible_specifications_are_refused_with_the_value(arguments: dict[str, int], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        ImageSpec(**arguments)


def test_a_source_without_pixels_is_refused() -> None:
    with pytest.raises(ValueError, match="0x480"):
        ImageSpec(320, 192).geometry(0, 480)
