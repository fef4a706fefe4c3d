"""What the preprocessing kernel reads: one block of memory, laid out once, in which a tick changes addresses only.

    cameras [rows]      where each row's planes are, how they are sampled, its colour matrix, where its output goes
    lookup  [3][256]    the network's bit pattern for each channel's pixel value, 0 to 255

The caller provides the memory (pinned, so that the copy to the device, or the device itself, reads it while the host
runs on). `describe` says what a camera's pictures are, when its stream opens or changes; `point` where this tick's
picture is; `leave_out` that there is none, and the kernel writes padding. None of the last two allocates.

The lookup is why the kernel knows nothing of types and normalisation: a pixel is rounded to 0..255, as on the CPU,
and `(pixel * scale - mean) / std`, INT8's scale and FP16's rounding are all worked out here, by NumPy, beforehand.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from runtime.formats.image_spec import Geometry, ImageSpec
from runtime.formats.source_image import ColourPlane, PictureFormat

#: `Plane` and `Camera` of kernels/preprocess.cu, field by field.
PLANE = np.dtype(
    [
        ("samples", "<u8"),
        *((name, "<i4") for name in ("pitch_bytes", "step_bytes", "width", "height")),
        *((name, "<i4") for name in ("increment_x", "increment_y", "bias_x", "bias_y", "extent_x", "extent_y")),
        ("coarse_shift", "<i4"),
        ("reciprocal", "<u4"),
        ("fine_shift", "<i4"),
        ("unused", "<i4"),
    ]
)
CAMERA = np.dtype(
    [
        ("planes", PLANE, (3,)),
        ("offset", "<i8", (3,)),
        ("matrix", "<i4", (3, 3)),
        ("is_present", "<i4"),
        ("content_width", "<i4"),
        ("content_height", "<i4"),
        ("output", "<u8"),
    ]
)
LOOKUP_ENTRIES = 3 * 256
ELEMENT_TYPES = ("uint8", "int8", "float16", "float32")

_ONE = 1 << 16  # a sample's width in the kernel's window arithmetic, and one unit of its averages
_MATRIX_ONE = 1 << 14
#: The kernel's sum over a row of samples is 32 bits wide: 255 * extent must fit.
MAX_REDUCTION = 255


def lookup_table(
    element_type: str,
    scale: float = 1.0,
    mean: Sequence[float] = (0.0, 0.0, 0.0),
    std: Sequence[float] = (1.0, 1.0, 1.0),
    int8_scale: float | None = None,
) -> NDArray[np.uint32]:
    """`[3, 256]`: bit patterns of `(pixel * scale - mean) / std` for each channel of the network.

    Args:
        element_type: what the input tensor holds: uint8, int8, float16 or float32.
        int8_scale: an int8 element `q` stands for `q * int8_scale`; needed for int8, and for nothing else.
    """
    if element_type not in ELEMENT_TYPES:
        raise ValueError(f"element type is {element_type!r}; it must be one of {', '.join(ELEMENT_TYPES)}")
    if (int8_scale is not None) != (element_type == "int8") or (int8_scale is not None and int8_scale <= 0.0):
        raise ValueError(f"{element_type} with an int8 scale of {int8_scale}: int8 needs one above 0, others none")
    pixels = np.arange(256, dtype=np.float32)
    deviation = np.array(std, np.float32).reshape(3, 1)
    values = pixels * (np.float32(scale) / deviation) + -np.array(mean, np.float32).reshape(3, 1) / deviation
    if int8_scale is not None:
        elements: NDArray[np.generic] = np.clip(np.rint(values / np.float32(int8_scale)), -128, 127).astype(np.int8)
    elif element_type == "uint8":
        elements = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    elif element_type == "float16":
        elements = values.astype(np.float16)
    else:
        elements = values.astype(np.float32)
    bits: NDArray[np.uint32] = elements.view(f"<u{elements.itemsize}").astype(np.uint32)
    return bits


class ParameterBlock:
    """The kernel's block over memory that the caller owns."""

    def __init__(
        self, memory: NDArray[np.uint8], spec: ImageSpec, rows: int, element_type: str, lookup: NDArray[np.uint32]
    ) -> None:
        """`memory` is a flat view of `size_bytes(rows)` bytes; `lookup` is what `lookup_table` gave for the type."""
        if memory.shape != (self.size_bytes(rows),):
            raise ValueError(f"a block of {rows} rows needs {self.size_bytes(rows)} bytes, not {memory.shape}")
        self.spec = spec
        self.rows = rows
        self.element_bytes = np.dtype(element_type).itemsize
        self.lookup_offset = rows * CAMERA.itemsize
        memory[:] = 0
        self.cameras = memory[: self.lookup_offset].view(CAMERA)
        self.lookup = memory[self.lookup_offset :].view(np.uint32).reshape(3, 256)
        self.lookup[:] = lookup
        self._addresses = self.cameras["planes"]["samples"]  # [rows, 3]
        self._is_present = self.cameras["is_present"]
        self._formats: list[PictureFormat | None] = [None] * rows
        self._planes: list[tuple[tuple[int, int], ...]] = [()] * rows

    @staticmethod
    def size_bytes(rows: int) -> int:
        """How much memory a block takes."""
        return rows * CAMERA.itemsize + LOOKUP_ENTRIES * 4

    def place_output(self, row: int, address: int) -> None:
        """Where the row's `[3, height, width]` elements go on the device."""
        self.cameras["output"][row] = address

    def place_batch(self, address: int) -> None:
        """All rows' outputs, one after another from `address`."""
        row_bytes = 3 * self.spec.height * self.spec.width * self.element_bytes
        for row in range(self.rows):
            self.place_output(row, address + row * row_bytes)

    def describe(self, row: int, picture: PictureFormat) -> Geometry:
        """Say what the row's pictures are from now on; nothing when that has not changed. Returns their geometry.

        Raises ValueError when they would have to shrink by more than `MAX_REDUCTION`.
        """
        geometry = self.spec.geometry(picture.width, picture.height)
        if self._formats[row] != picture:
            self._is_present[row] = 0
            camera = self.cameras[row]
            camera["content_width"], camera["content_height"] = geometry.content_width, geometry.content_height
            planes = picture.colour_planes()
            for number, plane in enumerate(planes):
                _describe_plane(camera["planes"][number], plane, geometry)
            _describe_colour(camera, picture, self.spec.color)
            self._planes[row] = tuple((plane.memory_plane, plane.first_byte) for plane in planes)
            self._formats[row] = picture
        return geometry

    def point(self, row: int, addresses: Sequence[int]) -> None:
        """This tick's picture: an address on the device for each of its planes in memory."""
        if not self._planes[row]:
            raise ValueError(f"row {row} has no picture format; call describe before point")
        for number, (memory_plane, first_byte) in enumerate(self._planes[row]):
            self._addresses[row, number] = addresses[memory_plane] + first_byte
        self._is_present[row] = 1

    def leave_out(self, row: int) -> None:
        """The row has no picture this tick: it gets the pad value."""
        self._is_present[row] = 0


def _describe_plane(record: np.void, plane: ColourPlane, geometry: Geometry) -> None:
    """Fill in how a plane is sampled."""
    record["pitch_bytes"], record["step_bytes"] = plane.pitch_bytes, plane.step_bytes
    record["width"], record["height"] = plane.width, plane.height
    shift = round(plane.left_by * _ONE)
    sizes = (plane.width, geometry.content_width, shift), (plane.height, geometry.content_height, 0)
    total = 1
    for axis, (source, content, left_by) in zip("xy", sizes, strict=True):
        increment = ((source << 16) + (content >> 1)) // content  # as FFmpeg's scaler rounds it
        extent = max(increment, _ONE)
        if extent > MAX_REDUCTION * _ONE:
            raise ValueError(f"{source} samples into {content} pixels: more than {MAX_REDUCTION} to 1 is not supported")
        record[f"increment_{axis}"], record[f"extent_{axis}"] = increment, extent
        record[f"bias_{axis}"] = (increment - extent) // 2 + left_by
        total *= extent
    coarse_shift = max(0, (255 * total).bit_length() - 31)
    fine_shift = 8
    while _reciprocal(total, coarse_shift, fine_shift + 1) < 1 << 32:
        fine_shift += 1
    record["coarse_shift"], record["fine_shift"] = coarse_shift, fine_shift
    record["reciprocal"] = _reciprocal(total, coarse_shift, fine_shift)


def _reciprocal(total: int, coarse_shift: int, fine_shift: int) -> int:
    """What `(sum >> coarse_shift)` is multiplied by to give `sum / total` in 1/65536, shifted left by `fine_shift`."""
    return ((_ONE << (coarse_shift + fine_shift)) + total // 2) // total


def _describe_colour(camera: np.void, picture: PictureFormat, order: str) -> None:
    matrix, base = picture.rgb_matrix()
    channels = (0, 1, 2) if order == "rgb" else (2, 1, 0)
    for row, channel in enumerate(channels):
        whole = [round(weight * _MATRIX_ONE) for weight in matrix[channel]]
        camera["matrix"][row] = whole
        half = _MATRIX_ONE * _ONE // 2
        camera["offset"][row] = half - sum(weight * round(low * _ONE) for weight, low in zip(whole, base, strict=True))
