from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from small_networks import residual_network, write_bundle

from calibration.int8.feeds import build_feeds
from calibration.int8.sampling import SamplingError, from_arrays, sample_hash, sample_sources
from runtime.inference.bundle import load_bundle
from runtime.inference.manifest import Manifest


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return load_bundle(write_bundle(tmp_path / "bundle", residual_network())).manifest


def write_video(path: Path, frames: int = 40) -> None:
    """H.264 in which picture i is grey of value 5 i."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=20, options={"bf": "0", "g": "10", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(frames):
            image = np.full((48, 64, 3), index * 5, np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)


def write_images(folder: Path, count: int) -> list[Path]:
    folder.mkdir()
    paths = []
    for index in range(count):
        paths.append(folder / f"{index}.png")
        with av.open(str(paths[-1]), "w", format="image2") as container:
            stream = container.add_stream("png", rate=1)
            stream.width, stream.height, stream.pix_fmt = 40, 30, "rgb24"
            frame = av.VideoFrame.from_ndarray(np.full((30, 40, 3), 20 * index, np.uint8), "rgb24")
            for packet in (*stream.encode(frame), *stream.encode(None)):
                container.mux(packet)
    return paths


def write_drive(folder: Path) -> Path:
    folder.mkdir()
    write_video(folder / "front.mp4")
    (folder / "drive.yaml").write_text("name: grey\ncameras:\n  front: {video: [front.mp4]}\n")
    return folder


def test_a_drive_is_sampled_over_its_whole_length(tmp_path: Path, manifest: Manifest) -> None:
    samples = sample_sources(manifest, [write_drive(tmp_path / "drive")], [], 4, seed=0)
    greys = [float(sample.images[0].mean()) for sample in samples]
    assert greys == sorted(greys)
    assert [int(grey // 50) for grey in greys] == [0, 1, 2, 3]  # one from each quarter of 0..195
    assert all(sample.present.tolist() == [True, False] for sample in samples)


def test_the_same_seed_gives_the_same_samples_and_another_does_not(tmp_path: Path, manifest: Manifest) -> None:
    drive = write_drive(tmp_path / "drive")
    hashes = []
    for seed in (3, 3, 4):
        samples = sample_sources(manifest, [drive], [], 4, seed=seed)
        hashes.append(sample_hash(build_feeds(manifest, samples, Path("not read"))))
    assert hashes[0] == hashes[1] != hashes[2]


def test_rows_without_a_camera_hold_the_pad_value(tmp_path: Path, manifest: Manifest) -> None:
    (sample,) = sample_sources(manifest, [write_drive(tmp_path / "drive")], [], 1, seed=0)
    assert (sample.images[1] == 114).all()


def test_images_fill_the_rows_of_a_batch(tmp_path: Path, manifest: Manifest) -> None:
    samples = sample_sources(manifest, [], write_images(tmp_path / "images", 3), 8, seed=1)
    assert [sample.present.tolist() for sample in samples] == [[True, True], [True, False]]
    greys = sorted(int(image.mean()) for sample in samples for image in sample.images[sample.present])
    assert greys == [0, 20, 40]


def test_every_bad_source_is_named_at_once(tmp_path: Path, manifest: Manifest) -> None:
    (tmp_path / "no.png").write_text("not a picture")
    with pytest.raises(SamplingError) as caught:
        sample_sources(manifest, [tmp_path / "nowhere"], [tmp_path / "no.png"], 2, seed=0)
    assert "nowhere" in str(caught.value)
    assert "no.png" in str(caught.value)


def test_a_network_of_batch_one_is_fed_camera_by_camera(tmp_path: Path) -> None:
    bundle = load_bundle(write_bundle(tmp_path / "bundle", residual_network(batch=1), batch=1))
    sample = from_arrays(np.zeros((3, 3, 32, 32), np.uint8), {}, "test")
    sample.present[1] = False
    assert [feed["images"].shape for feed in build_feeds(bundle.manifest, [sample], bundle.file("fp32"))] == [
        (1, 3, 32, 32)
    ] * 2


def test_a_camera_without_a_picture_that_can_be_decoded_is_named_and_not_left_out(
    tmp_path: Path, manifest: Manifest
) -> None:
    drive = write_drive(tmp_path / "drive")
    video = bytearray((drive / "front.mp4").read_bytes())
    media = video.index(b"mdat") + 4
    length = int.from_bytes(video[media - 8 : media - 4], "big") - 8
    video[media : media + length] = bytes(length)
    (drive / "rear.mp4").write_bytes(video)
    (drive / "drive.yaml").write_text(
        "name: grey\ncameras:\n  front: {video: [front.mp4]}\n  rear: {video: [rear.mp4]}\n"
    )
    with pytest.raises(SamplingError, match=r"no picture of rear can be decoded"):
        sample_sources(manifest, [drive], [], 2, seed=0)
