"""Feeds of every kind of network: each camera's own input, matrices of the rig, states after a lead-in, every light."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import av
import numpy as np
import onnxruntime
import pytest

from calibration.int8.agreement import cosine
from calibration.int8.command import Settings, calibrate_int8
from calibration.int8.feeds import build_feeds
from calibration.int8.light import choose_by_light
from calibration.int8.sampling import LEAD_IN_INSTANTS, SamplingError, from_arrays, sample_hash, sample_sources
from runtime.inference.bundle import ModelBundle, load_bundle
from runtime.inference.network import Network
from runtime.rig import save_rig
from tests.runtime.inference.input_networks import (
    LEAK,
    calibrated_manifest,
    calibrated_network,
    conv_gru_manifest,
    conv_gru_network,
    leaky_manifest,
    leaky_network,
    plain_loop,
    rig_of,
    separate_manifest,
    separate_network,
)
from tests.runtime.inference.tiny_networks import SIDE, frameset_of, noise, write_bundle

RATE_HZ, FRAMES = 20, 60


def _drive(folder: Path, grey_of: Callable[[int], int], cameras: Sequence[str] = ("camera_0", "camera_1")) -> Path:
    """H.264 of plain pictures, the same for every camera but for two shades of grey between them."""
    folder.mkdir()
    for number, camera in enumerate(cameras):
        with av.open(str(folder / f"{camera}.mp4"), "w") as container:
            options = {"bf": "0", "g": "10", "preset": "ultrafast"}
            stream = container.add_stream("libx264", rate=RATE_HZ, options=options)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for index in range(FRAMES):
                image = np.full((48, 64, 3), grey_of(index) + 2 * number, np.uint8)
                for packet in stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")):
                    container.mux(packet)
            for packet in stream.encode(None):
                container.mux(packet)
    lines = "".join(f"  {camera}: {{video: [{camera}.mp4]}}\n" for camera in cameras)
    (folder / "drive.yaml").write_text(f"name: grey\ncameras:\n{lines}")
    return folder


def _bundle(folder: Path, manifest: dict, network: object) -> ModelBundle:
    return load_bundle(write_bundle(folder / "bundle", manifest, {"fp32": network}))


def test_separate_inputs_get_each_its_row(tmp_path: Path) -> None:
    images = {"dtype": "float32", "scale": 0.5, "mean": [1.0, 2.0, 3.0], "std": [1.0, 2.0, 4.0]}
    bundle = _bundle(tmp_path, separate_manifest(3, **images), separate_network(3, "float32"))
    sample = from_arrays(noise(3), {"vehicle.speed_mps": 7.0}, "noise")
    (feed,) = build_feeds(bundle.manifest, [sample], bundle.file("fp32"))
    assert sorted(feed) == ["image_0", "image_1", "image_2", "speed_mps"]
    expected = (sample.images[1] * 0.5 - np.reshape([1, 2, 3], (3, 1, 1))) / np.reshape([1, 2, 4], (3, 1, 1))
    np.testing.assert_allclose(feed["image_1"][0], expected, rtol=1e-6)
    assert feed["speed_mps"].tolist() == [[7.0]]
    onnxruntime.InferenceSession(str(bundle.file("fp32"))).run(None, dict(feed))  # complete


def test_a_drive_is_sampled_with_the_matrices_of_its_rig(tmp_path: Path) -> None:
    drive = _drive(tmp_path / "drive", lambda index: 100)
    for batch in (2, 1):
        bundle = _bundle(tmp_path / str(batch), calibrated_manifest(batch), calibrated_network(batch))
        (drive / "rig.yaml").unlink(missing_ok=True)
        with pytest.raises(SamplingError, match="there is no rig file"):
            sample_sources(bundle.manifest, [drive], [], 1, seed=0)
        rig = rig_of(("camera_0", "camera_1"), 64, 48)
        save_rig(rig, drive / "rig.yaml")
        feeds = build_feeds(
            bundle.manifest, sample_sources(bundle.manifest, [drive], [], 1, seed=0), bundle.file("fp32")
        )
        assert len(feeds) == 2 // batch
        focal = [matrix[0, 0] for feed in feeds for matrix in np.reshape(feed["intrinsics"], (-1, 3, 3))]
        np.testing.assert_allclose(focal, [camera.fx * SIDE / 64 for camera in rig.cameras], rtol=1e-6)
    with pytest.raises(SamplingError, match="no matrices"):
        build_feeds(bundle.manifest, [from_arrays(noise(1), {}, "bare")], bundle.file("fp32"))


@pytest.mark.parametrize("batch", [2, 1], ids=["batch", "single"])
def test_a_state_is_what_the_network_remembers_of_the_instants_before(tmp_path: Path, batch: int) -> None:
    bundle = _bundle(tmp_path, leaky_manifest(batch, initial=10.0), leaky_network(batch))
    drive = _drive(tmp_path / "drive", lambda index: 20 + 3 * index)
    samples = sample_sources(bundle.manifest, [drive], [], 3, seed=1)
    feeds = build_feeds(bundle.manifest, samples, bundle.file("fp32"))
    late = samples[-1]
    assert len(late.lead_in) == LEAD_IN_INSTANTS
    greys = [float(instant.images[0].mean()) for instant in late.lead_in]
    steps = np.diff([*greys, float(late.images[0].mean())])
    np.testing.assert_allclose(steps, 3.0, atol=1.5)  # one picture after another
    for row in range(2):
        own = feeds[-1]["seen"][row] if batch == 2 else feeds[-2 + row]["seen"][0]
        images = [instant.images[row : row + 1] for instant in late.lead_in]
        expected = np.full(3, 10.0)
        for image in images:
            expected = LEAK * expected + (1 - LEAK) * image.mean(axis=(0, 2, 3))
        np.testing.assert_allclose(own, expected, rtol=1e-5)


def test_states_follow_the_network_itself(tmp_path: Path) -> None:
    bundle = _bundle(tmp_path, leaky_manifest(2), leaky_network(2))
    (sample,) = sample_sources(bundle.manifest, [_drive(tmp_path / "d", lambda index: 4 * index)], [], 1, seed=2)
    (feed,) = build_feeds(bundle.manifest, [sample], bundle.file("fp32"))
    loop = plain_loop(
        bundle.file("fp32"),
        [{"images": instant.images} for instant in sample.lead_in],
        {"seen": "seen_next"},
        {"seen": np.zeros((2, 3), np.float32)},
    )
    np.testing.assert_array_equal(feed["seen"], loop[-1]["seen_next"])


def test_the_hash_knows_everything_that_enters(tmp_path: Path) -> None:
    drive = _drive(tmp_path / "drive", lambda index: 4 * index)
    bundle = _bundle(tmp_path, leaky_manifest(2), leaky_network(2))
    other = _bundle(tmp_path / "other", leaky_manifest(2, initial=1.0), leaky_network(2))

    def digest(of: ModelBundle, seed: int) -> str:
        samples = sample_sources(of.manifest, [drive], [], 2, seed=seed)
        return sample_hash(build_feeds(of.manifest, samples, of.file("fp32")))

    assert digest(bundle, 5) == digest(bundle, 5)
    assert digest(bundle, 5) != digest(bundle, 6)
    assert digest(bundle, 5) != digest(other, 5)


def test_dark_and_bright_are_both_sampled(tmp_path: Path) -> None:
    bundle = _bundle(tmp_path, leaky_manifest(1), leaky_network(1))
    # Half a second in a tunnel at first, twilight, half a second against the sun in the second third, twilight.
    drive = _drive(tmp_path / "drive", lambda index: [5, 120, 120, 240, 120, 120][index // 10], ("camera_0",))
    extremes = 0
    for seed in range(6):
        samples = sample_sources(bundle.manifest, [drive], [], 3, seed=seed)
        greys = [float(sample.images[0].mean()) for sample in samples]
        extremes += (min(greys) < 30) + (max(greys) > 200)
    assert extremes >= 10  # of 12; moments drawn blindly meet half of them


def test_light_decides_within_spans_only() -> None:
    lumas = [np.array([100.0, 10.0]), np.array([105.0, 90.0]), np.array([200.0, 104.0]), np.array([np.nan, 150.0])]
    assert choose_by_light(lumas) == [1, 0, 0, 1]  # 10, 105, 200, 150
    assert choose_by_light([np.full(2, np.nan), np.full(2, np.nan)]) == [0, 0]
    assert choose_by_light([np.array([7.0, 7.0]), np.array([7.0, 7.0])]) == [0, 0]


def test_images_beyond_need_are_chosen_by_light_and_bad_ones_told(tmp_path: Path) -> None:
    bundle = _bundle(tmp_path, leaky_manifest(1), leaky_network(1))
    paths = []
    for index, grey in enumerate([120, 121, 122, 123, 124, 125, 126, 5]):
        paths.append(tmp_path / f"{index}.png")
        with av.open(str(paths[-1]), "w", format="image2") as container:
            stream = container.add_stream("png", rate=1)
            stream.width, stream.height, stream.pix_fmt = 40, 30, "rgb24"
            frame = av.VideoFrame.from_ndarray(np.full((30, 40, 3), grey, np.uint8), "rgb24")
            for packet in (*stream.encode(frame), *stream.encode(None)):
                container.mux(packet)
    for seed in range(4):
        samples = sample_sources(bundle.manifest, [], paths, 2, seed=seed)
        assert 5 in [int(sample.images.mean()) for sample in samples]
        assert len(samples[0].lead_in) == LEAD_IN_INSTANTS
    paths[3].write_text("not a picture")
    with pytest.raises(SamplingError, match=r"3\.png"):
        sample_sources(bundle.manifest, [], paths, 2, seed=0)


def test_a_recurrent_network_goes_through_the_command_and_remembers_in_int8(tmp_path: Path) -> None:
    directory = _bundle(tmp_path, conv_gru_manifest(1), conv_gru_network(1)).directory
    drive = _drive(tmp_path / "drive", lambda index: 4 * index, ("camera_0",))
    report = calibrate_int8(directory, drives=[drive], settings=Settings(samples=16, list_anyway=True))
    assert report.trade[report.chosen].layers_int8 >= 1
    networks = [Network.open(directory, ["camera_0"], precision=precision) for precision in ("fp32", "int8")]
    for tick in range(20):
        frameset = frameset_of(np.full((1, 3, SIDE, SIDE), 10 * tick, np.uint8), time_ns=tick * 50_000_000)
        fp32, int8 = (network.predict(frameset, None, None).heads["mean_hidden"] for network in networks)
    assert cosine(fp32, int8) > 0.99
