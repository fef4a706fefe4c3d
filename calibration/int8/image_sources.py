"""Images, videos and folders of both, as a person names them after `--images`, as pictures to sample.

A folder stands for the images and videos that lie in it, not in folders below, in order of their names. A video (also a
moving GIF) has no clock that matters here: `count` of its frames are taken, one at random from each of as many equal
spans. Files are told apart by their suffix; one without a known suffix that is named by itself is tried as an image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from calibration.int8.light import choose_by_light
from calibration.int8.pictures import first_picture, luma

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm"})
VIDEO_SUFFIXES = frozenset({".mp4", ".mkv", ".mov", ".avi", ".ts", ".webm", ".gif", ".h264", ".hevc"})
#: Images for each row, among which light decides.
CANDIDATES = 4


def expand(paths: Sequence[Path], faults: list[str]) -> tuple[list[Path], list[Path]]:
    """Image files and video files that the paths stand for; a fault is noted for a folder that holds neither."""
    images: list[Path] = []
    videos: list[Path] = []
    for path in paths:
        inside = sorted(path.iterdir()) if path.is_dir() else [path]
        moving = [file for file in inside if file.suffix.lower() in VIDEO_SUFFIXES]
        still = [file for file in inside if not path.is_dir() or file.suffix.lower() in IMAGE_SUFFIXES]
        still = [file for file in still if file not in moving]
        if not still and not moving:
            wanted = ", ".join(sorted(IMAGE_SUFFIXES | VIDEO_SUFFIXES))
            faults.append(f"{path}: holds no images and no videos ({wanted}); name a folder that does, or files")
        images += still
        videos += moving
    return images, videos


def frames_of(path: Path, count: int, generator: np.random.Generator) -> Iterator[tuple[int, av.VideoFrame]]:
    """Number and picture of `count` frames at most, in order. Raises OSError or FFmpegError for no video."""
    with av.open(str(path)) as container:
        total = sum(1 for packet in container.demux(video=0) if packet.size)
    spans = np.linspace(0, total, min(count, total) + 1)
    wanted = {int(number) for number in generator.uniform(spans[:-1], spans[1:])}
    if not wanted:
        return
    with av.open(str(path)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number in wanted:
                yield number, frame
            if number >= max(wanted):
                return


def images_of_every_light(paths: Sequence[Path], wanted: int, faults: list[str]) -> list[Path]:
    """As many of the paths as are wanted; where there are more, light decides between neighbours."""
    if len(paths) <= wanted:
        return list(paths)
    groups = [paths[index::wanted][:CANDIDATES] for index in range(wanted)]
    pictures = ([read_image(path, faults) for path in group] for group in groups)
    lumas: list[NDArray[np.float64]] = [
        np.array([np.nan if picture is None else luma(picture) for picture in group]) for group in pictures
    ]
    return [group[index] for group, index in zip(groups, choose_by_light(lumas), strict=True)]


def read_image(path: Path, faults: list[str]) -> av.VideoFrame | None:
    """The image in a file; None, with a fault noted, when there is none."""
    try:
        return first_picture(path)
    except (OSError, av.error.FFmpegError, StopIteration) as error:
        faults.append(f"{path}: is not an image that can be read ({error}); give JPEG or PNG files")
        return None
