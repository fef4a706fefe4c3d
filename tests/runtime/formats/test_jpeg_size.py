"""The size in a JPEG's header is what a decoder would find, and nothing that could be claimed instead passes for it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from runtime.formats.jpeg_size import jpeg_size


def encoded(width: int, height: int, *settings: int) -> bytes:
    ok, data = cv2.imencode(".jpg", np.zeros((height, width, 3), np.uint8), list(settings))
    assert ok
    return data.tobytes()


@pytest.mark.parametrize("settings", [(), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 4)])
def test_the_size_is_that_of_the_picture(settings: tuple[int, ...]) -> None:
    assert jpeg_size(encoded(321, 123, *settings)) == (321, 123)


def test_comments_and_fill_bytes_before_the_frame_are_passed_over() -> None:
    whole = encoded(32, 16)
    comment = b"\xff\xff\xff\xfe" + (2 + 7).to_bytes(2, "big") + b"\xff\xc0 more"
    assert jpeg_size(whole[:2] + comment + whole[2:]) == (32, 16)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\xff\xd8", b"\x89PNG\r\n\x1a\n", encoded(32, 16)[:20], b"\xff\xd8\xff", b"\xff\xd8\xff\xe0\x00\x00",
        b"\xff\xd8\xff\xd9", encoded(32, 16)[:2] + b"garbage" + encoded(32, 16)[2:],
    ],
    ids=["empty", "start only", "PNG", "cut short", "no marker", "no length", "no frame", "garbage"],
)  # fmt: skip
def test_what_does_not_say_its_size_has_none(data: bytes) -> None:
    assert jpeg_size(data) is None


def test_every_beginning_of_a_jpeg_is_read_without_an_error() -> None:
    whole = encoded(32, 16)
    assert {jpeg_size(whole[:length]) for length in range(len(whole))} == {None, (32, 16)}
