"""The work that the checks put on the GPU: a rig's frames, and one captured graph from frames to the network's input.

Eight cameras of differing sizes, pitches and pixel formats, noise from a seed. The graph is a tick's: the parameter
block goes to the device, one launch prepares all frames from the pinned memory they lie in, the batch comes back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.formats.image_spec import ImageSpec
from runtime.formats.source_image import PictureFormat
from runtime.inference.tensorrt.device_preparation import DevicePreparation
from runtime.inference.tensorrt.driver import CudaDriver, CudaError
from runtime.inference.tensorrt.kernel_image import load_first
from runtime.inference.tensorrt.preprocess import PreprocessKernel
from runtime.inference.tensorrt.preprocess_block import lookup_table
from runtime.inference.tensorrt.preprocess_reference import reference_elements

#: (pixel format, width, height, bytes of padding at each row's end, standard, full range, chroma site).
RIG = (
    ("nv12", 1280, 960, 0, "bt601", False, "left"),
    ("nv12", 1920, 1208, 128, "bt709", False, "left"),
    ("nv12", 1280, 720, 0, "bt709", True, "center"),
    ("nv12", 640, 480, 64, "bt601", True, "left"),
    ("rgb24", 1280, 960, 0, "bt601", False, "center"),
    ("bgr24", 801, 603, 5, "bt601", False, "center"),
    ("yuv420p", 1164, 874, 12, "bt601", False, "left"),
    ("nv12", 3840, 2160, 256, "bt2020", False, "left"),
)
_BYTES_A_PIXEL = {"nv12": 1, "yuv420p": 1, "rgb24": 3, "bgr24": 3}


@dataclass(frozen=True, slots=True)
class Subject:
    """What is checked, and with what."""

    driver: CudaDriver
    kernel: PreprocessKernel
    seed: int = 1  # of the frames' noise
    shrink: int = 1  # divides the frames' sides, for a quicker and lesser check


class Workload:
    """A rig's frames in memory, the kernel bound to them, and its graph."""

    def __init__(self, subject: Subject, spec: ImageSpec, element_type: str) -> None:
        driver = self._driver = subject.driver
        self.stream = driver.open_stream()
        self._preparation = DevicePreparation(
            driver, subject.kernel, spec, len(RIG), element_type, _lookup(element_type)
        )
        self.block = self._preparation.block
        self.output = driver.pinned(len(RIG) * 3 * spec.height * spec.width * self.block.element_bytes)
        self._device_output = driver.allocate(self.output.nbytes)
        self.block.place_batch(self._device_output)
        #: Each camera's format and this tick's frame; the next tick's lies elsewhere, as in capture's ring.
        self.frames, self._next_frames = (
            [_new_frame(driver, camera, subject.shrink) for camera in RIG] for _ in range(2)
        )

    def fill(self, random: np.random.Generator, absent: int | None = None) -> None:
        """New noise in every frame, at other addresses; the camera `absent` has none this time."""
        self.frames, self._next_frames = self._next_frames, self.frames
        for row, (picture, frame) in enumerate(self.frames):
            frame[:] = random.integers(0, 256, frame.shape, np.uint8)
            self._preparation.show(row, picture, frame)
        if absent is not None:
            self.block.leave_out(absent)

    def enqueue(self) -> None:
        """One tick's work on the stream."""
        self._preparation.before(self.stream)
        self._driver.copy_to_host(self.output, self._device_output, self.stream)

    def free(self) -> None:
        """Give stream and device memory back."""
        self._driver.close_stream(self.stream)
        self._driver.free(self._device_output)
        self._preparation.free()

    def capture(self) -> Any:
        """One tick's work as a graph."""
        self._driver.begin_capture(self.stream)
        try:
            self.enqueue()
        except CudaError:
            self._driver.abandon_capture(self.stream)
            raise
        return self._driver.end_capture(self.stream)

    def run(self, graph: Any = None) -> None:
        """One tick, to its end: through the graph where there is one."""
        if graph is None:
            self.enqueue()
        else:
            self._driver.launch_graph(graph, self.stream)
        self._driver.synchronise(self.stream)

    def differences(self, absent: int | None = None) -> int:
        """How many elements of the output are not what NumPy makes of the same frames, to the bit."""
        pictures = [None if row == absent else _colour_planes(*frame) for row, frame in enumerate(self.frames)]
        expected = reference_elements(self.block, pictures)
        found = self.output.view(f"<u{self.block.element_bytes}").reshape(expected.shape)
        return int(np.count_nonzero(found != expected))


def load_kernel(driver: CudaDriver) -> tuple[PreprocessKernel, str, tuple[str, ...]]:
    """The kernel in the first form that the driver takes, that form's name, and why others were refused."""

    def load(image: bytes) -> PreprocessKernel:
        return PreprocessKernel(driver, image)

    device = driver.device
    return load_first(device.driver_version, device.compute_capability, load, (CudaError,))


def _lookup(element_type: str) -> NDArray[np.uint32]:
    if element_type == "uint8":
        return lookup_table("uint8")
    quantum = 0.02 if element_type == "int8" else None
    return lookup_table(element_type, 1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), quantum)


def _new_frame(
    driver: CudaDriver, camera: tuple[str, int, int, int, str, bool, str], shrink: int
) -> tuple[PictureFormat, NDArray[np.uint8]]:
    """A camera's format, and pinned memory for one frame: its planes one after another."""
    pixel_format, width, height, padding, standard, is_full, site = camera
    width, height = width // shrink, height // shrink
    pitch = width * _BYTES_A_PIXEL[pixel_format] + padding
    planes = {"nv12": 2, "yuv420p": 3}.get(pixel_format, 1)
    picture = PictureFormat(pixel_format, width, height, (pitch,) * planes, standard, is_full, site)
    return picture, driver.pinned(sum(rows * pitch for rows in picture.plane_rows()))


def _colour_planes(picture: PictureFormat, frame: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """Y, U, V or R, G, B, as views of a frame's memory."""
    layout = zip(picture.plane_offsets(), picture.plane_rows(), picture.pitches_bytes, strict=True)
    memory = [frame[offset : offset + rows * pitch].reshape(rows, pitch) for offset, rows, pitch in layout]
    return [
        memory[plane.memory_plane][: plane.height, plane.first_byte :: plane.step_bytes][:, : plane.width]
        for plane in picture.colour_planes()
    ]
