"""The GPU's preprocessing, compiled for the host from its source, against NumPy, the definition and the CPU path."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from video_samples import encode, scenes

from runtime.capture.decoding import PacketDecoder
from runtime.capture.preparation import ImagePreparer
from runtime.formats.bitstream import StreamInfo
from runtime.formats.image_spec import ImageSpec
from runtime.formats.source_image import PIXEL_FORMATS, STANDARDS, PictureFormat
from runtime.inference.manifest import ImagesInput
from runtime.inference.tensorrt.preprocess_block import CAMERA, LOOKUP_ENTRIES, ParameterBlock, lookup_table
from runtime.inference.tensorrt.preprocess_reference import reference_elements
from tests.host_kernel import HostKernel, colour_planes, new_block, of_frame

SIZES = [(1280, 960, 320, 192), (131, 97, 60, 50), (100, 100, 170, 150), (640, 480, 640, 480), (1164, 874, 416, 312)]
#: FFmpeg's numbers for the standards that its scaler and ours share by code.
CODES = {"bt601": 6, "bt709": 1, "bt2020": 9, "fcc": 4, "smpte240m": 7}


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> HostKernel:
    return HostKernel(tmp_path_factory.mktemp("kernel"))


def _random_picture(random: np.random.Generator, pixel_format: str) -> tuple[PictureFormat, list[NDArray[np.uint8]]]:
    """Any size, any pitch that holds it, any standard; noise over the whole of 0 to 255."""
    width, height = (int(side) for side in random.integers(1, 300, 2))
    pitches = [int(width * 4 + random.integers(0, 70)) for _ in range(3)]
    standard = str(random.choice(sorted(STANDARDS)))
    site = str(random.choice(["center", "left"]))
    planes = {"nv12": 2, "nv21": 2, "yuv420p": 3, "yuv422p": 3, "yuv444p": 3, "gbrp": 3}.get(pixel_format, 1)
    picture = PictureFormat(
        pixel_format, width, height, tuple(pitches[:planes]), standard, bool(random.integers(2)), site
    )
    rows = picture.plane_rows()
    return picture, [random.integers(0, 256, (rows[i], pitches[i]), np.uint8) for i in range(planes)]


@pytest.mark.parametrize("element_type", ["uint8", "int8", "float16", "float32"])
@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
def test_eight_frames_of_any_size_equal_the_numpy_reference_to_the_bit(
    kernel: HostKernel, element_type: str, resize: str
) -> None:
    random = np.random.default_rng(len(element_type) + len(resize))
    for color in ("rgb", "bgr"):
        spec = ImageSpec(int(random.integers(20, 200)), int(random.integers(20, 200)), color, resize)
        lookup = lookup_table(
            element_type,
            scale=1 / 255 if element_type != "uint8" else 1.0,
            mean=(0.4, 0.5, 0.6) if element_type != "uint8" else (0, 0, 0),
            std=(0.2, 0.25, 0.3) if element_type != "uint8" else (1, 1, 1),
            int8_scale=0.02 if element_type == "int8" else None,
        )
        block, output = new_block(spec, 8, element_type, lookup)
        pictures: list[list[NDArray[np.uint8]] | None] = []
        keep = []
        for row in range(8):
            if row == 5:
                pictures.append(None)
                continue
            picture, memory = _random_picture(random, PIXEL_FORMATS[row % len(PIXEL_FORMATS)])
            keep.append(memory)
            block.describe(row, picture)
            block.point(row, [plane.ctypes.data for plane in memory])
            pictures.append(colour_planes(picture, memory))
        kernel.run(block)
        bits = output.view(f"u{block.element_bytes}")
        assert np.array_equal(bits, reference_elements(block, pictures))


def _weights(source: int, content: int, left_by: float) -> NDArray[np.float64]:
    """The definition: what part of each sample every pixel's window covers. Bilinear is a window one sample wide."""
    weights = np.zeros((content, source))
    window = max(source / content, 1.0)
    for pixel in range(content):
        start = (pixel + 0.5) * source / content - window / 2 + left_by
        for index in range(int(np.floor(start)), int(np.ceil(start + window))):
            covered = min(start + window, index + 1) - max(start, index)
            weights[pixel, min(max(index, 0), source - 1)] += max(covered, 0.0)
    return weights / window


@pytest.mark.parametrize("pixel_format", PIXEL_FORMATS)
def test_the_result_is_the_average_of_what_each_pixel_covers_in_the_standards_colours(
    kernel: HostKernel, pixel_format: str
) -> None:
    random = np.random.default_rng(11)
    for _ in range(3):
        picture, memory = _random_picture(random, pixel_format)
        spec = ImageSpec(64, 48)
        block, output = new_block(spec, 1)
        block.describe(0, picture)
        block.point(0, [plane.ctypes.data for plane in memory])
        kernel.run(block)
        matrix, base = picture.rgb_matrix()
        averages = [
            _weights(samples.shape[0], 48, 0.0) @ samples.astype(float) @ _weights(samples.shape[1], 64, p.left_by).T
            for samples, p in zip(colour_planes(picture, memory), picture.colour_planes(), strict=True)
        ]
        exact = np.einsum("cp,phw->chw", np.array(matrix), np.stack(averages) - np.array(base)[:, None, None])
        # Half a step of rounding; the rest is window edges in 1/65536 of a sample, of noise, times a gain of up to 2.
        assert np.abs(output[0] - np.clip(exact, 0, 255)).max() < 0.7


@pytest.mark.parametrize("standard", sorted(STANDARDS))
@pytest.mark.parametrize("is_full_range", [False, True])
def test_every_standard_and_range_is_within_one_step_of_the_cpu_path(
    kernel: HostKernel, standard: str, is_full_range: bool
) -> None:
    random = np.random.default_rng(5)
    for width, height, network_width, network_height in SIZES:
        frame = _noise_frame(random, width, height, "yuv420p", is_full_range)
        frame.colorspace, frame.color_range = CODES[standard], 2 if is_full_range else 1
        for resize in ("stretch", "letterbox"):
            _compare(kernel, frame, ImageSpec(network_width, network_height, resize=resize), "center")


@pytest.mark.parametrize(
    "pixel_format", ["nv12", "nv21", "yuv422p", "yuv444p", "yuvj420p", "yuyv422", "uyvy422", "rgb24", "bgr24"]
)
def test_every_pixel_format_is_within_one_step_of_the_cpu_path(kernel: HostKernel, pixel_format: str) -> None:
    random = np.random.default_rng(6)
    for width, height, network_width, network_height in ((1280, 720, 416, 416), (640, 480, 320, 192)):
        frame = _noise_frame(random, width, height, pixel_format, True)
        _compare(kernel, frame, ImageSpec(network_width, network_height, "bgr", "letterbox"), "center")


def _noise_frame(
    random: np.random.Generator, width: int, height: int, pixel_format: str, is_full_range: bool
) -> av.VideoFrame:
    """Noise that video may hold: FFmpeg's scaler wraps around for blue above 512, which no camera sends."""
    frame = av.VideoFrame(width, height, pixel_format)
    low, high = (0, 256) if pixel_format in ("rgb24", "bgr24") else (60, 200) if is_full_range else (16, 236)
    for plane in frame.planes:
        plane.update(random.integers(low, high, plane.buffer_size, np.uint8).tobytes())
    return frame


def _compare(kernel: HostKernel, frame: av.VideoFrame, spec: ImageSpec, chroma_site: str) -> float:
    """Both ways; at most one step apart. Returns the share of values that differ."""
    prepared = np.full(spec.plane_shape, spec.pad_value, np.uint8)
    geometry = ImagePreparer(spec).prepare(frame, prepared)
    block, output = new_block(spec, 1)
    picture, memory = of_frame(frame, chroma_site)
    assert block.describe(0, picture) == geometry
    block.point(0, [plane.ctypes.data for plane in memory])
    kernel.run(block)
    difference = np.abs(output[0].astype(int) - prepared)
    assert difference.max() <= 1, (frame.format.name, frame.width, frame.height, spec, int(difference.max()))
    return float((difference > 0).mean())


@pytest.mark.parametrize("codec", ["h264", "h265", "mjpeg"])
def test_decoded_video_is_within_one_step_of_the_cpu_path(kernel: HostKernel, codec: str) -> None:
    decoder = PacketDecoder(StreamInfo(codec, 320, 240))
    frames = [frame.picture for packet in encode(scenes(3), codec=codec) for frame in decoder.decode(packet)]
    assert len(frames) == 3
    for frame in frames:
        for spec in (ImageSpec(160, 96), ImageSpec(416, 416, "bgr", "letterbox")):
            assert _compare(kernel, frame, spec, "center" if codec == "mjpeg" else "left") < 0.1


def test_chroma_of_h264_read_as_centred_is_off_at_every_colour_edge(kernel: HostKernel) -> None:
    """What keeps the two tests around this one from passing by accident."""
    (packet,) = encode(scenes(1), codec="h264")
    (frame,) = PacketDecoder(StreamInfo("h264", 320, 240)).decode(packet)
    with pytest.raises(AssertionError, match="yuv420p"):
        _compare(kernel, frame.picture, ImageSpec(160, 96), "center")


@pytest.mark.real
def test_real_video_is_within_one_step_of_the_cpu_path(kernel: HostKernel, real_material: Path) -> None:
    video = sorted((real_material / "video").glob("*.mp4"))[0]
    with av.open(str(video)) as container:
        frames = [frame for frame, _ in zip(container.decode(video=0), range(3), strict=False)]
    for frame in frames:
        assert _compare(kernel, frame, ImageSpec(320, 192), "left") < 0.02
        assert _compare(kernel, frame, ImageSpec(416, 416, "bgr", "letterbox"), "left") < 0.02


def test_the_lookup_gives_what_the_cpu_gives_the_network() -> None:
    """`ImageFeed`'s own arithmetic, for every pixel value and channel."""
    images = ImagesInput(
        kind="images", name="images", shape=(1, 3, 8, 8), dtype="float32",
        scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225),
    )  # fmt: skip
    table = lookup_table("float32", images.scale, images.mean, images.std).view(np.float32)
    deviation = np.array(images.std, np.float32)
    for channel in range(3):
        gain = np.float32(images.scale) / deviation[channel]
        out = np.empty(256, np.float32)
        np.multiply(np.arange(256, dtype=np.uint8), gain, out=out)
        np.add(out, -np.float32(images.mean[channel]) / deviation[channel], out=out)
        assert np.array_equal(table[channel], out)
    halves = lookup_table("float16", images.scale, images.mean, images.std).astype(np.uint16).view(np.float16)
    assert np.array_equal(halves, table.astype(np.float16))
    assert np.array_equal(lookup_table("uint8"), np.tile(np.arange(256, dtype=np.uint32), (3, 1)))
    whole = lookup_table("int8", scale=1.0, mean=(128, 128, 128), int8_scale=1.0).astype(np.uint8).view(np.int8)
    assert whole[0].tolist() == list(range(-128, 128))


def test_a_block_says_what_does_not_fit() -> None:
    spec = ImageSpec(320, 192)
    block, _ = new_block(spec, 1)
    with pytest.raises(ValueError, match=r"row 0 has no picture format; call describe"):
        block.point(0, [0])
    with pytest.raises(ValueError, match=r"plane 1 of 64x48 nv12 has a pitch of 40 bytes; its rows have 63"):
        PictureFormat("nv12", 64, 48, (64, 40))
    with pytest.raises(ValueError, match=r"nv12 has 2 planes in memory, not 1 pitches"):
        PictureFormat("nv12", 64, 48, (64,))
    with pytest.raises(ValueError, match=r"more than 255 to 1"):
        new_block(ImageSpec(16, 16), 1)[0].describe(0, PictureFormat("nv12", 8192, 64, (8192, 8192)))
    with pytest.raises(ValueError, match=r"needs 5248 bytes"):
        ParameterBlock(np.zeros(10, np.uint8), spec, 8, "uint8", lookup_table("uint8"))
    assert ParameterBlock.size_bytes(8) == 8 * CAMERA.itemsize + LOOKUP_ENTRIES * 4 == 5248
