from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from runtime.formats.image_spec import Geometry, ImageSpec
from runtime.inference.backend import BackendError
from runtime.inference.heads.decoder import BundleFitError
from runtime.inference.network import Network
from tests.runtime.inference.tiny_networks import (
    FixedSignals,
    fixed_network,
    frameset_of,
    mean_manifest,
    mean_network,
    noise,
    write_bundle,
)

WIDTH = HEIGHT = 32  # stride 8: 16 cells; stride 16: 4; stride 32: 1


def _cameras(count: int) -> list[str]:
    return [f"camera_{index}" for index in range(count)]


def _detector(directory: Path, *, batch: int = 1, **manifest: object) -> Path:
    """Sees a box of 16x8 around (12, 12) and one of 16x16 around (28, 28), in every image."""
    out = np.zeros((batch, 21, 7), np.float32)
    out[:, 5] = (0.5, 0.5, np.log(2.0), 0.0, 0.9, 1.0, 0.0)
    out[:, 15] = (0.5, 0.5, np.log(2.0), np.log(2.0), 0.8, 0.0, 1.0)
    shape = [batch, 3, HEIGHT, WIDTH]
    head = {"name": "detections", "decoder": "yolox", "outputs": {"predictions": "out"}, "classes": ["car", "person"]}
    document = {
        **mean_manifest(batch, "float32"),
        "inputs": [{"name": "images", "kind": "images", "shape": shape, "dtype": "float32", "resize": "letterbox"}],
        "heads": [head],
        **manifest,
    }
    return write_bundle(directory, document, {"fp32": fixed_network({"out": out}, shape)})


def _images(count: int) -> np.ndarray:
    return noise(count, height=HEIGHT, width=WIDTH)


def test_boxes_come_back_in_source_pixels_and_inside_the_image(tmp_path: Path) -> None:
    network = Network.open(_detector(tmp_path / "b"), _cameras(2))
    wide = ImageSpec(WIDTH, HEIGHT, resize="letterbox").geometry(320, 160)  # 10 source pixels per pixel, 16 rows used
    tall = ImageSpec(WIDTH, HEIGHT, resize="stretch").geometry(64, 96)
    detections = network.predict(frameset_of(_images(2)), [wide, tall], None).detections
    by_camera = {int(camera): [] for camera in (0, 1)}
    for camera, box in zip(detections.camera, detections.box_px, strict=True):
        by_camera[int(camera)].append(np.round(box).tolist())
    assert by_camera[0] == [[40, 80, 200, 160]]  # the other box lay in the padding
    assert by_camera[1] == [[8, 24, 40, 48], [40, 60, 64, 96]]  # clipped at the right and lower edge


def test_without_geometries_boxes_are_in_pixels_of_the_prepared_image(tmp_path: Path) -> None:
    network = Network.open(_detector(tmp_path / "b"), _cameras(1))
    boxes = network.predict(frameset_of(_images(1)), None, None).detections.box_px
    np.testing.assert_allclose(boxes, [[4, 8, 20, 16], [20, 20, 32, 32]], atol=1e-4)


def test_a_camera_without_geometry_or_frame_has_no_detections(tmp_path: Path) -> None:
    network = Network.open(_detector(tmp_path / "b"), _cameras(3))
    geometry = ImageSpec(WIDTH, HEIGHT).geometry(WIDTH, HEIGHT)
    geometries: list[Geometry | None] = [geometry, None, geometry]
    detections = network.predict(frameset_of(_images(3), [True, True, False]), geometries, None).detections
    assert set(detections.camera.tolist()) == {0}
    # The next tick has them all again.
    detections = network.predict(frameset_of(_images(3)), [geometry] * 3, None).detections
    assert set(detections.camera.tolist()) == {0, 1, 2}


def test_a_wrong_number_of_geometries_is_refused(tmp_path: Path) -> None:
    network = Network.open(_detector(tmp_path / "b"), _cameras(2))
    with pytest.raises(ValueError, match="1 geometries for 2 cameras"):
        network.predict(frameset_of(_images(2)), [None], None)


def test_classes_of_several_detection_heads_are_joined(tmp_path: Path) -> None:
    head = {"decoder": "yolox", "outputs": {"predictions": "out"}}
    heads = [{**head, "name": "a", "classes": ["car", "person"]}, {**head, "name": "b", "classes": ["sign", "light"]}]
    network = Network.open(_detector(tmp_path / "b", heads=heads), _cameras(1))
    prediction = network.predict(frameset_of(_images(1)), None, None)
    assert prediction.class_names == ("car", "person", "sign", "light")
    assert sorted(prediction.detections.class_id.tolist()) == [0, 1, 2, 3]


def test_control_signals_and_raw_heads_reach_the_prediction(tmp_path: Path) -> None:
    network = Network.open(write_bundle(tmp_path / "b", mean_manifest(2), {"fp32": mean_network(2)}), _cameras(2))
    images = noise(2)
    prediction = network.predict(frameset_of(images, time_ns=77), None, FixedSignals(vehicle__speed_mps=0.75))
    means = images.mean(axis=(2, 3))
    assert prediction.time_ns == 77
    assert prediction.control is not None
    assert prediction.control.accel_mps2 == pytest.approx(means.mean(axis=0)[0], rel=1e-5)
    assert prediction.lead_distance_m == pytest.approx(means.mean(axis=0)[2], rel=1e-5)  # speed 0.75 as probability
    np.testing.assert_allclose(prediction.heads["colour"], means, rtol=1e-5)
    assert prediction.infer_ns > 0


def test_cameras_take_the_rows_of_their_names_and_others_fill_up(tmp_path: Path) -> None:
    manifest = {**mean_manifest(4), "cameras": ["camera_2", "front", "camera_0", "rear"]}
    network = Network.open(write_bundle(tmp_path / "b", manifest, {"fp32": mean_network(4)}), _cameras(3))
    assert network.rows == (2, 1, 0)  # camera_1 has no row of its own
    images = noise(3)
    colour = network.predict(frameset_of(images), None, None).heads["colour"]
    np.testing.assert_allclose(colour[list(network.rows)], images.mean(axis=(2, 3)), rtol=1e-5)
    np.testing.assert_allclose(colour[3], [114.0] * 3)  # the free row is padding


def test_more_cameras_than_rows_are_refused_with_a_fix(tmp_path: Path) -> None:
    directory = write_bundle(tmp_path / "b", mean_manifest(2), {"fp32": mean_network(2)})
    with pytest.raises(BundleFitError, match=r"3 cameras.*takes 2.*fix"):
        Network.open(directory, _cameras(3))
    with pytest.raises(BundleFitError, match="distinct"):
        Network.open(directory, ["front", "front"])


def test_precision_chooses_the_file_and_a_missing_one_is_told(tmp_path: Path) -> None:
    network = mean_network(2)
    both = write_bundle(tmp_path / "both", mean_manifest(2), {"fp32": network, "cpu_int8": network})
    assert Network.open(both, _cameras(2)).description.precision == "int8"
    assert Network.open(both, _cameras(2), precision="fp32").description.precision == "fp32"
    single = write_bundle(tmp_path / "single", mean_manifest(2), {"fp32": network})
    assert Network.open(single, _cameras(2)).description.precision == "fp32"
    with pytest.raises(BundleFitError, match=r"no cpu_int8 file.*calibrate"):
        Network.open(single, _cameras(2), precision="int8")
    with pytest.raises(BundleFitError, match="unknown precision 'int4'"):
        Network.open(single, _cameras(2), precision="int4")
    with pytest.raises(BundleFitError, match="unknown backend"):
        Network.open(single, _cameras(2), backend="cuda")


def test_a_head_that_reads_a_camera_the_rig_lacks_is_told(tmp_path: Path) -> None:
    manifest = mean_manifest(1)
    manifest["heads"][0]["camera"] = "front"  # type: ignore[index]
    directory = write_bundle(tmp_path / "b", manifest, {"fp32": mean_network(1)})
    with pytest.raises(BundleFitError, match="reads camera 'front'"):
        Network.open(directory, _cameras(2))


def test_a_graph_that_cannot_run_is_a_backend_error_naming_the_file(tmp_path: Path) -> None:
    broken = mean_network(2)
    broken.graph.node[1].op_type = "NoSuchOperator"
    directory = write_bundle(tmp_path / "b", mean_manifest(2), {"fp32": broken})
    with pytest.raises(BackendError, match=r"fp32\.onnx.*NoSuchOperator"):
        Network.open(directory, _cameras(2))


def test_open_sizes_in_the_graph_are_settled_before_the_first_tick(tmp_path: Path) -> None:
    network = mean_network(2)
    for value in (*network.graph.input[:1], *network.graph.output):
        value.type.tensor_type.shape.dim[0].ClearField("dim_value")
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    directory = write_bundle(tmp_path / "b", mean_manifest(2), {"fp32": network})
    images = noise(2)
    colour = Network.open(directory, _cameras(2)).predict(frameset_of(images), None, None).heads["colour"]
    np.testing.assert_allclose(colour, images.mean(axis=(2, 3)), rtol=1e-5)
