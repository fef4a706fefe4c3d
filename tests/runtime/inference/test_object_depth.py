"""Distance and speed that the network itself tells of objects, from tensors to tracks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from runtime.formats.documents import DocumentError
from runtime.formats.json_messages import encode_prediction
from runtime.inference.bundle import load_bundle
from runtime.inference.heads.depth import DepthMap
from runtime.inference.heads.specification import DepthHead
from runtime.inference.model_import import import_model
from runtime.inference.network import Network
from runtime.inference.tracking import Tracker
from runtime.messages import NANOSECONDS_PER_SECOND, Track
from tests.runtime.inference.tiny_networks import fixed_network, frameset_of, noise, write_bundle

SIDE = 32
SHAPE = [2, 3, SIDE, SIDE]
OUTPUTS = {"heatmap": "heatmap", "box": "box"}
WHOLE = np.array([[0.0, 0.0, SIDE, SIDE]], np.float32)
ROW = np.zeros(1, np.int32)


def _map(values: np.ndarray, **settings: object) -> DepthMap:
    fields = {"name": "depth", "decoder": "depth", "outputs": {"depth": "depth"}, **settings}
    head = DepthHead.model_validate(fields)
    return DepthMap(values, head, np.array([values.shape[3] / SIDE, values.shape[2] / SIDE], np.float32))


def _plane(value: float) -> np.ndarray:
    return np.full((1, 1, 16, 16), value, np.float32)


def test_an_object_is_as_far_as_the_lower_centre_of_its_box() -> None:
    depth = _plane(80.0)  # background around it
    depth[0, 0, 7:15, 4:12] = 12.0  # the body
    depth[0, 0, 15, :] = 3.0  # the road before it
    np.testing.assert_allclose(_map(depth).of_boxes(ROW, WHOLE), [12.0])


def test_a_few_wild_values_do_not_move_it() -> None:
    depth = _plane(20.0)
    depth[0, 0, 8:10, :] = np.nan
    depth[0, 0, 10, :] = 1e30
    np.testing.assert_allclose(_map(depth).of_boxes(ROW, WHOLE), [20.0])


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, -5.0, 300.0])
def test_what_is_no_distance_is_unknown(value: float) -> None:
    assert np.isnan(_map(_plane(value), max_m=250.0).of_boxes(ROW, WHOLE)).all()


def test_an_inverse_depth_becomes_metres_with_its_scale() -> None:
    np.testing.assert_allclose(_map(_plane(0.5), quantity="inverse_metres", scale=20.0).of_boxes(ROW, WHOLE), [40.0])
    assert np.isnan(_map(_plane(0.0), quantity="inverse_metres").of_boxes(ROW, WHOLE)).all()


def test_boxes_at_the_border_or_not_finite_do_not_break_the_lookup() -> None:
    boxes = np.array([[-50, -50, 10, 10], [20, 20, 90, 90], [np.nan, 0, np.inf, 4], [5, 5, 5, 5]], np.float32)
    measured = _map(_plane(7.0)).of_boxes(np.zeros(4, np.int32), boxes)
    np.testing.assert_allclose(measured[[0, 1, 3]], 7.0)
    assert _map(_plane(7.0)).of_boxes(np.zeros(0, np.int32), np.zeros((0, 4), np.float32)).shape == (0,)


def _tensors() -> dict[str, np.ndarray]:
    """One object a camera, in cells of 8 pixels; in camera 1 it is farther off and has no speed."""
    planes = {name: np.zeros((2, count, 4, 4), np.float32) for name, count in (("heatmap", 1), ("box", 4))}
    planes["heatmap"][:, 0, 1, 1] = 0.9
    planes["box"][:] = 2.0
    planes["depth"] = np.stack([_plane(10.0)[0], _plane(30.0)[0]])
    planes["speed"] = np.stack([np.full((1, 4, 4), 5.0), np.full((1, 4, 4), np.nan)]).astype(np.float32)
    planes["distance"] = np.stack([np.full((1, 4, 4), np.nan), np.full((1, 4, 4), 31.5)]).astype(np.float32)
    return planes


def _bundle(directory: Path, outputs: dict[str, str], with_depth: bool, **changed: np.ndarray) -> Path:
    heads: list[dict[str, object]] = [
        {"name": "detections", "decoder": "hydra_detections", "outputs": outputs, "classes": ["car"]}
    ]
    if with_depth:
        heads.append({"name": "depth", "decoder": "depth", "outputs": {"depth": "depth"}})
    manifest = {
        "name": "depth_net",
        "version": "1",
        "licence": "Apache-2.0",
        "source": "made by a test",
        "inputs": [{"name": "images", "kind": "images", "shape": SHAPE, "dtype": "uint8"}],
        "heads": heads,
    }
    network = fixed_network({**_tensors(), **changed}, SHAPE, "uint8")
    return write_bundle(directory, manifest, {"fp32": network})


def _tracks(network: Network, ticks: int = 3) -> tuple[list[Track], Tracker]:
    tracker = Tracker(network.cameras)
    tracks: list[Track] = []
    for tick in range(1, ticks + 1):
        frameset = frameset_of(noise(2, 0, SIDE, SIDE), time_ns=tick * NANOSECONDS_PER_SECOND // 20)
        prediction = network.predict(frameset, None, None)
        tracks = tracker.update(prediction, frameset.present, frameset.time_ns)
    return tracks, tracker


def test_tracks_carry_what_the_network_says_of_their_object(tmp_path: Path) -> None:
    bundle = _bundle(tmp_path / "b", {**OUTPUTS, "speed": "speed"}, with_depth=True)
    first, second = _tracks(Network.open(bundle, ["camera_0", "camera_1"]))[0]
    assert (first.predicted_distance_m, first.predicted_speed_mps) == (10.0, 5.0)
    assert (second.predicted_distance_m, second.predicted_speed_mps) == (30.0, None)


def test_a_distance_of_the_detection_head_itself_goes_before_the_depth_map(tmp_path: Path) -> None:
    bundle = _bundle(tmp_path / "b", {**OUTPUTS, "distance": "distance"}, with_depth=True)
    first, second = _tracks(Network.open(bundle, ["camera_0", "camera_1"]))[0]
    assert (first.predicted_distance_m, second.predicted_distance_m) == (10.0, 31.5)


def test_without_such_heads_nothing_is_known(tmp_path: Path) -> None:
    tracks, _ = _tracks(Network.open(_bundle(tmp_path / "b", OUTPUTS, with_depth=False), ["camera_0", "camera_1"]))
    assert [(track.predicted_distance_m, track.predicted_speed_mps) for track in tracks] == [(None, None)] * 2


def test_an_object_that_is_no_longer_seen_loses_its_predicted_distance(tmp_path: Path) -> None:
    network = Network.open(_bundle(tmp_path / "b", OUTPUTS, with_depth=True), ["camera_0", "camera_1"])
    tracks, tracker = _tracks(network)
    unseen = tracker.update(None, [True, True], tracks[0].last_seen_ns + NANOSECONDS_PER_SECOND)
    assert [track.predicted_distance_m for track in unseen] == [None, None]


def test_recordings_hold_what_the_network_says_of_each_object(tmp_path: Path) -> None:
    bundle = _bundle(tmp_path / "b", {**OUTPUTS, "speed": "speed"}, with_depth=True)
    network = Network.open(bundle, ["camera_0", "camera_1"])
    prediction = network.predict(frameset_of(noise(2, 0, SIDE, SIDE)), None, None)
    fields = json.loads(encode_prediction(prediction, network.cameras))
    assert [entry["distance_m"] for entry in fields["detections"]] == [10.0, 30.0]
    assert [entry["speed_mps"] for entry in fields["detections"]] == [5.0, None]
    assert fields["camera_rows"] == {"camera_0": 0, "camera_1": 1}


def test_tensors_of_another_shape_are_refused_with_their_place(tmp_path: Path) -> None:
    two_planes = np.zeros((2, 2, 16, 16), np.float32)
    bundle = _bundle(tmp_path / "b", {**OUTPUTS, "speed": "speed"}, True, depth=two_planes, speed=two_planes)
    with pytest.raises(DocumentError) as caught:
        load_bundle(bundle)
    told = str(caught.value)
    assert "'depth': tensor has shape [2, 2, 16, 16], this decoder needs [2, 1, ?, ?]" in told
    assert "'detections': tensor has shape [2, 2, 16, 16], this decoder needs [2, 1, 4, 4]" in told


def test_a_depth_network_can_be_imported(tmp_path: Path) -> None:
    source = tmp_path / "midas.onnx"
    source.write_bytes(
        fixed_network({"depth": np.full((1, 1, 8, 8), 9.0, np.float32)}, [1, 3, SIDE, SIDE]).SerializeToString()
    )
    head = load_bundle(import_model(source, "depth", tmp_path / "midas")).manifest.heads[0]
    assert isinstance(head, DepthHead)
    assert (head.quantity, head.outputs.depth) == ("metres", "depth")
