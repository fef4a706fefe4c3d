"""How an uncompressed picture lies in memory and what its numbers mean: all that is needed to read it as RGB.

A picture has one to three memory planes (NV12: luma, then interleaved chroma), each at an address with a pitch. Seen
by colour it always has three: Y, U, V or R, G, B, each with a first byte, a step between samples, and a size of its
own. `PictureFormat.colour_planes` gives that view, `rgb_matrix` the way from its values to RGB.

The standards' weights of red and blue are those of ITU-R BT.601-7, BT.709-6 and BT.2020-2, of the FCC's 1953 rules and
of SMPTE 240M; limited range is 16 to 235 (luma) and 16 to 240 (chroma), BT.601-7 section 2.5.3. A picture that states
no standard is BT.601, and one that states no range is limited, as FFmpeg's scaler has it. Chroma of 4:2:0 and 4:2:2
lies between two luma samples ("center") or on the left one ("left", what H.264 and H.265 mean when they say nothing:
ITU-T H.264 annex E.2.1); vertically it lies between two rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from runtime.formats.image_spec import MAX_SIDE_PX

#: (memory plane, first byte, bytes between samples, halvings of width and of height) of the three colour planes.
_Plane = tuple[int, int, int, int, int]


def _planar(halved_x: int, halved_y: int) -> tuple[_Plane, ...]:
    return ((0, 0, 1, 0, 0), (1, 0, 1, halved_x, halved_y), (2, 0, 1, halved_x, halved_y))


_LAYOUTS: dict[str, tuple[_Plane, ...]] = {
    "nv12": ((0, 0, 1, 0, 0), (1, 0, 2, 1, 1), (1, 1, 2, 1, 1)),
    "nv21": ((0, 0, 1, 0, 0), (1, 1, 2, 1, 1), (1, 0, 2, 1, 1)),
    "yuv420p": _planar(1, 1),
    "yuv422p": _planar(1, 0),
    "yuv444p": _planar(0, 0),
    "yuyv422": ((0, 0, 2, 0, 0), (0, 1, 4, 1, 0), (0, 3, 4, 1, 0)),
    "uyvy422": ((0, 1, 2, 0, 0), (0, 0, 4, 1, 0), (0, 2, 4, 1, 0)),
    "rgb24": ((0, 0, 3, 0, 0), (0, 1, 3, 0, 0), (0, 2, 3, 0, 0)),
    "bgr24": ((0, 2, 3, 0, 0), (0, 1, 3, 0, 0), (0, 0, 3, 0, 0)),
    "gbrp": ((2, 0, 1, 0, 0), (0, 0, 1, 0, 0), (1, 0, 1, 0, 0)),
}
PIXEL_FORMATS = tuple(_LAYOUTS)
_RGB_FORMATS = frozenset({"rgb24", "bgr24", "gbrp"})
#: FFmpeg's older names for full-range pictures.
_FULL_RANGE_NAMES = {"yuvj420p": "yuv420p", "yuvj422p": "yuv422p", "yuvj444p": "yuv444p"}
#: Names that `picture_format_of` takes.
KNOWN_NAMES = frozenset({*_LAYOUTS, *_FULL_RANGE_NAMES})

#: Weights of red and blue in luma.
STANDARDS = {
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
    "bt2020": (0.2627, 0.0593),
    "fcc": (0.30, 0.11),
    "smpte240m": (0.212, 0.087),
}
#: ISO/IEC 23091-2 MatrixCoefficients, FFmpeg's AVColorSpace; all others are read as BT.601.
_STANDARD_OF_CODE = {1: "bt709", 4: "fcc", 7: "smpte240m", 9: "bt2020"}
_FULL_RANGE_CODE = 2
CHROMA_SITES = ("center", "left")


@dataclass(frozen=True, slots=True)
class ColourPlane:
    """One of a picture's three colour planes."""

    memory_plane: int
    first_byte: int
    step_bytes: int
    width: int
    height: int
    pitch_bytes: int
    #: How far the samples lie left of the middle of what they stand for, in samples of this plane.
    left_by: float


@dataclass(frozen=True, slots=True)
class PictureFormat:
    """Everything about a camera's pictures but their pixels. Raises ValueError for what cannot be."""

    pixel_format: str
    width: int
    height: int
    pitches_bytes: tuple[int, ...]
    standard: str = "bt601"
    is_full_range: bool = False
    chroma_site: str = "center"

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("pixel format", self.pixel_format, PIXEL_FORMATS),
            ("colour standard", self.standard, tuple(STANDARDS)),
            ("chroma site", self.chroma_site, CHROMA_SITES),
        ):
            if value not in allowed:
                raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(allowed)}")
        if not (1 <= self.width <= MAX_SIDE_PX and 1 <= self.height <= MAX_SIDE_PX):
            raise ValueError(f"picture is {self.width}x{self.height}; each side must be 1 to {MAX_SIDE_PX}")
        if len(self.pitches_bytes) != self.memory_planes:
            found = f"{len(self.pitches_bytes)} pitches {self.pitches_bytes}"
            raise ValueError(f"{self.pixel_format} has {self.memory_planes} planes in memory, not {found}")
        for plane in self.colour_planes():
            needed = plane.first_byte + (plane.width - 1) * plane.step_bytes + 1
            if plane.pitch_bytes < needed:
                where = f"plane {plane.memory_plane} of {self.width}x{self.height} {self.pixel_format}"
                raise ValueError(f"{where} has a pitch of {plane.pitch_bytes} bytes; its rows have {needed}")

    @property
    def memory_planes(self) -> int:
        """How many addresses the picture has."""
        return 1 + max(plane[0] for plane in _LAYOUTS[self.pixel_format])

    @property
    def is_rgb(self) -> bool:
        """True when the colour planes are R, G, B; else Y, U, V."""
        return self.pixel_format in _RGB_FORMATS

    def plane_rows(self) -> tuple[int, ...]:
        """Rows of each plane in memory: with the pitches, how much memory the picture takes."""
        rows = {plane.memory_plane: plane.height for plane in self.colour_planes()}
        return tuple(rows[plane] for plane in range(self.memory_planes))

    def plane_offsets(self) -> tuple[int, ...]:
        """Where each plane in memory begins, when they lie one after another."""
        sizes = [rows * pitch for rows, pitch in zip(self.plane_rows(), self.pitches_bytes, strict=True)]
        return tuple(sum(sizes[:number]) for number in range(len(sizes)))

    def colour_planes(self) -> tuple[ColourPlane, ...]:
        """Y, U, V or R, G, B. Chroma of odd sizes is rounded up."""
        return tuple(
            ColourPlane(
                memory_plane=memory_plane,
                first_byte=first_byte,
                step_bytes=step_bytes,
                width=-(-self.width >> halved_x),
                height=-(-self.height >> halved_y),
                pitch_bytes=self.pitches_bytes[memory_plane],
                left_by=0.25 if halved_x and self.chroma_site == "left" else 0.0,
            )
            for memory_plane, first_byte, step_bytes, halved_x, halved_y in _LAYOUTS[self.pixel_format]
        )

    def rgb_matrix(self) -> tuple[tuple[tuple[float, float, float], ...], tuple[float, float, float]]:
        """`(matrix, base)`: R, G, B of 0 to 255 are `matrix @ (colour planes - base)`, before clipping."""
        if self.is_rgb:
            return ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), (0.0, 0.0, 0.0)
        red, blue = STANDARDS[self.standard]
        green = 1.0 - red - blue
        luma, chroma = (1.0, 1.0) if self.is_full_range else (255 / 219, 255 / 224)
        from_v, from_u = 2 * (1 - red) * chroma, 2 * (1 - blue) * chroma
        matrix = (
            (luma, 0.0, from_v),
            (luma, -from_u * blue / green, -from_v * red / green),
            (luma, from_u, 0.0),
        )
        return matrix, (0.0 if self.is_full_range else 16.0, 128.0, 128.0)


@dataclass(frozen=True, slots=True)
class SourceImage:
    """A camera's decoded picture in memory: flat, its planes one after another from the beginning."""

    pixels: NDArray[np.uint8]
    picture: PictureFormat


class SourceMemory(Protocol):
    """Whoever prepares images from source frames, as capture sees it: on any thread."""

    def take(self, size_bytes: int) -> NDArray[np.uint8]:
        """Flat memory that it can read, held as long as somebody looks at it. Raises MemoryError."""

    def why_not(self, picture: PictureFormat) -> str:
        """Why it cannot prepare such pictures; empty when it can."""


def picture_format_of(
    pixel_format: str,
    width: int,
    height: int,
    pitches_bytes: tuple[int, ...],
    *,
    colorspace: int,
    color_range: int,
    chroma_site: str,
) -> PictureFormat:
    """From FFmpeg's names and numbers for a decoded picture. Raises ValueError for a format that is not known here."""
    plain = _FULL_RANGE_NAMES.get(pixel_format, pixel_format)
    is_full_range = plain != pixel_format or color_range == _FULL_RANGE_CODE
    standard = _STANDARD_OF_CODE.get(colorspace, "bt601")
    return PictureFormat(plain, width, height, pitches_bytes, standard, is_full_range, chroma_site)
