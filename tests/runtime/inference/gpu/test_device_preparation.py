"""Packets to the network's input by the device's way: decoded, left as they are in pinned memory, one graph a tick."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from video_samples import encode, scenes

from runtime.capture.decoding import PacketDecoder
from runtime.capture.preparation import ImagePreparer
from runtime.capture.source_frames import SourcePicture
from runtime.formats.bitstream import StreamInfo
from runtime.formats.image_spec import ImageSpec
from runtime.inference.tensorrt.device_preparation import DevicePreparation
from runtime.inference.tensorrt.driver_ctypes import CtypesDriver
from runtime.inference.tensorrt.kernel_image import load_first
from runtime.inference.tensorrt.preprocess import PreprocessKernel
from runtime.inference.tensorrt.preprocess_block import lookup_table
from tests.host_kernel import host_libcuda

SPEC = ImageSpec(160, 96, "bgr", "letterbox")
CODECS = ("h264", "h265", "mjpeg")


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> CtypesDriver:
    return CtypesDriver(path=str(host_libcuda(tmp_path_factory.mktemp("driver"))))


def _decoded(codec: str, width: int, height: int) -> list[av.VideoFrame]:
    decoder = PacketDecoder(StreamInfo(codec, width, height))
    packets = encode(scenes(5, width, height), codec=codec)
    return [frame.picture for packet in packets for frame in decoder.decode(packet)]


def test_one_captured_graph_prepares_decoded_video_as_the_cpu_does(driver: CtypesDriver) -> None:
    device = driver.device
    kernel, image, _ = load_first(
        device.driver_version, device.compute_capability, lambda code: PreprocessKernel(driver, code), (RuntimeError,)
    )
    assert image == "preprocess.cuda12.sm_87.cubin"
    preparation = DevicePreparation(driver, kernel, SPEC, len(CODECS), "uint8", lookup_table("uint8"))
    output = driver.pinned(len(CODECS) * 3 * SPEC.height * SPEC.width)
    on_device = driver.allocate(output.nbytes)
    preparation.block.place_batch(on_device)
    stream = driver.open_stream()
    driver.begin_capture(stream)
    preparation.before(stream)
    driver.copy_to_host(output, on_device, stream)
    graph = driver.end_capture(stream)

    sizes = [(320, 240), (330, 246), (256, 192)]
    streams = [_decoded(codec, *size) for codec, size in zip(CODECS, sizes, strict=True)]
    slots = [[driver.pinned(200_000) for _ in CODECS] for _ in range(2)]
    batch = output.reshape(len(CODECS), 3, SPEC.height, SPEC.width)
    for tick in range(5):
        expected = np.full_like(batch, SPEC.pad_value)
        for row, frames in enumerate(streams):
            if (tick, row) == (3, 1):
                preparation.block.leave_out(row)
                continue
            slot = slots[tick % 2][row]
            picture = SourcePicture(frames[tick], CODECS[row])
            picture.copy(slot)
            assert preparation.show(row, picture.format, slot) == ImagePreparer(SPEC).prepare(
                frames[tick], expected[row]
            )
        driver.launch_graph(graph, stream)
        driver.synchronise(stream)
        assert np.abs(batch.astype(int) - expected).max() <= 1
        assert len(np.unique(batch[0])) > 50


def test_a_stream_that_changes_its_size_is_described_anew(driver: CtypesDriver) -> None:
    kernel = PreprocessKernel(driver, b"//\0")
    preparation = DevicePreparation(driver, kernel, SPEC, 1, "uint8", lookup_table("uint8"))
    slot = driver.pinned(200_000)
    output = driver.pinned(3 * SPEC.height * SPEC.width)
    preparation.block.place_batch(output.ctypes.data)
    stream = driver.open_stream()
    for width, height in ((320, 240), (160, 240)):
        (frame, *_) = _decoded("h264", width, height)
        expected: NDArray[np.uint8] = np.full(SPEC.plane_shape, SPEC.pad_value, np.uint8)
        geometry = ImagePreparer(SPEC).prepare(frame, expected)
        picture = SourcePicture(frame, "h264")
        picture.copy(slot)
        assert preparation.show(0, picture.format, slot) == geometry
        preparation.before(stream)
        assert np.abs(output.reshape(SPEC.plane_shape).astype(int) - expected).max() <= 1


def test_what_the_kernel_does_not_know_is_named() -> None:
    with pytest.raises(ValueError, match=r"yuv420p10le are not known there, only bgr24, .*yuvj444p"):
        _ = SourcePicture(av.VideoFrame(64, 48, "yuv420p10le"), "h265").format


def test_a_slot_that_is_too_small_is_refused_before_anything_is_written() -> None:
    frame = av.VideoFrame(64, 48, "nv12")
    slot = np.full(100, 7, np.uint8)
    with pytest.raises(ValueError, match=r"64x48 nv12 takes \d+ bytes and its slot has 100"):
        SourcePicture(frame, "h264").copy(slot)
    assert (slot == 7).all()


@pytest.mark.real
def test_real_video_is_prepared_on_the_device_as_on_the_cpu(driver: CtypesDriver, real_material: Path) -> None:
    with av.open(str(sorted((real_material / "video").glob("*.mp4"))[0])) as container:
        frame = next(container.decode(video=0))
    preparation = DevicePreparation(
        driver, PreprocessKernel(driver, b"//\0"), ImageSpec(320, 192), 1, "uint8", lookup_table("uint8")
    )
    slot, output = driver.pinned(8_000_000), driver.pinned(3 * 192 * 320)
    preparation.block.place_batch(output.ctypes.data)
    picture = SourcePicture(frame, "h264")
    picture.copy(slot)
    preparation.show(0, picture.format, slot)
    preparation.before(driver.open_stream())
    expected = np.zeros((3, 192, 320), np.uint8)
    ImagePreparer(ImageSpec(320, 192)).prepare(frame, expected)
    assert np.abs(output.reshape(3, 192, 320).astype(int) - expected).max() <= 1
