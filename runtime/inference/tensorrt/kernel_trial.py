"""The preprocessing kernel, loaded and tried: one frame of noise, compared with the NumPy reference to the bit.

A vehicle would not notice images that are subtly wrong, and no driver promises that what it loads is what was meant. So
the kernel is believed only after it has prepared one frame on this very device; that takes some 10 ms, once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from runtime.formats.image_spec import ImageSpec
from runtime.formats.source_image import PictureFormat
from runtime.inference.tensorrt.device_preparation import DevicePreparation
from runtime.inference.tensorrt.driver import CudaDriver, CudaError
from runtime.inference.tensorrt.kernel_image import KernelImageError, load_first
from runtime.inference.tensorrt.preprocess import PreprocessKernel
from runtime.inference.tensorrt.preprocess_block import lookup_table
from runtime.inference.tensorrt.preprocess_reference import reference_elements

#: Odd sides and a pitch of its own, so that every rule of rounding is met.
_WIDTH, _HEIGHT, _PITCH, _SEED = 93, 67, 96, 7


def open_kernel(driver: CudaDriver, spec: ImageSpec, stream: Any) -> PreprocessKernel:
    """The kernel in the first form that the driver takes.

    Raises:
        KernelImageError: it takes none, or what it makes of a frame is not what NumPy makes of it.
        CudaError: the device failed meanwhile.
    """
    device = driver.device
    kernel, image, _ = load_first(
        device.driver_version, device.compute_capability, lambda code: PreprocessKernel(driver, code), (CudaError,)
    )
    wrong, total = _differences(driver, kernel, spec, stream)
    if wrong:
        raise KernelImageError(f"{image}: {wrong} of {total} values of a trial frame differ from the NumPy reference")
    return kernel


def _differences(driver: CudaDriver, kernel: PreprocessKernel, spec: ImageSpec, stream: Any) -> tuple[int, int]:
    picture = PictureFormat("nv12", _WIDTH, _HEIGHT, (_PITCH, _PITCH), "bt709")
    start = picture.plane_offsets()[1]
    memory = driver.pinned(sum(picture.plane_rows()) * _PITCH)
    memory[:] = np.random.default_rng(_SEED).integers(0, 256, memory.nbytes, np.uint8)
    rows = [memory[:start].reshape(-1, _PITCH), memory[start:].reshape(-1, _PITCH)]
    planes = [
        rows[plane.memory_plane][: plane.height, plane.first_byte :: plane.step_bytes][:, : plane.width]
        for plane in picture.colour_planes()
    ]
    output = driver.pinned(int(np.prod(spec.plane_shape)))
    target = driver.allocate(output.nbytes)
    try:
        preparation = DevicePreparation(driver, kernel, spec, 1, "uint8", lookup_table("uint8"))
        try:
            preparation.block.place_batch(target)
            preparation.show(0, picture, memory)
            preparation.before(stream)
            driver.copy_to_host(output, target, stream)
            driver.synchronise(stream)
        finally:
            preparation.free()
    finally:
        driver.free(target)
    expected = reference_elements(preparation.block, [planes])[0]
    return int(np.count_nonzero(expected != output.reshape(spec.plane_shape))), output.nbytes
