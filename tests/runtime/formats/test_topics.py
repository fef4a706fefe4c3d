from __future__ import annotations

import json

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool

from runtime.formats import foxglove_messages, json_messages, topics
from runtime.messages import CaptureWindow, Detections, Firing, Packet, Prediction, Priority, SignalSample, Track


def track(**changes: object) -> Track:
    fields: dict[str, object] = {
        "track_id": 3,
        "camera": "front",
        "class_name": "pedestrian",
        "score": 0.87,
        "box_px": (10.0, 20.0, 30.0, 60.0),
        "first_seen_ns": 0,
        "last_seen_ns": 1,
        "visible": True,
    }
    return Track(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "channel",
    [
        topics.video_channel("front", "h264", False),
        topics.annotations_channel("front"),
        topics.calibration_channel("front"),
        topics.log_channel(),
    ],
)
def test_a_protobuf_channel_carries_every_definition_that_its_message_needs(channel: topics.ChannelSpec) -> None:
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(channel.schema_data).file:
        pool.Add(file)  # raises when a file comes before one that it imports
    assert pool.FindMessageTypeByName(channel.schema_name).full_name == channel.schema_name
    assert channel.schema_name.startswith("foxglove.")


@pytest.mark.parametrize(
    "topic", [topics.PREDICTION, topics.COMPARISON, topics.FIRING, topics.TICK, topics.TRUTH_EVENTS]
)
def test_our_own_channels_carry_a_json_schema_of_an_object(topic: str) -> None:
    schema = json.loads(topics.own_channel(topic).schema_data)
    assert schema["type"] == "object"
    assert schema["properties"]


def test_the_camera_of_a_topic_is_found_and_only_there() -> None:
    assert topics.camera_of(topics.video_topic("front_main")) == "front_main"
    assert topics.camera_of("/vehicle") is None
    assert topics.camera_of("/camera/") is None


@pytest.mark.parametrize("namespace", ["camera", "truth", "tick", "", "a/b"])
def test_a_signal_cannot_take_a_topic_of_ours(namespace: str) -> None:
    with pytest.raises(ValueError, match="namespace"):
        topics.signals_channel(namespace)


def test_a_video_message_comes_back_with_its_key_flag_read_from_the_bitstream() -> None:
    key = b"\x00\x00\x00\x01\x67\x42\x00\x00\x00\x01\x68\xce\x00\x00\x01\x65\x88"
    for data, is_key in ((key, True), (b"\x00\x00\x00\x01\x41\x9a", False)):
        packet = Packet("front", 5, 1_500_000_007, 99, "h264", is_key, data, transcoded=True)
        encoded = foxglove_messages.encode_video(packet)
        assert foxglove_messages.decode_video(encoded, "front", 1_500_000_007, 99, 5, True) == packet


def test_boxes_come_back_where_they_were_drawn_and_hidden_tracks_are_not_drawn() -> None:
    tracks = [track(), track(track_id=4, visible=False), track(track_id=5, state="red", distance_m=12.4)]
    boxes = foxglove_messages.decode_annotations(foxglove_messages.encode_annotations(tracks, 77))
    assert [box.box_px for box in boxes] == [(10.0, 20.0, 30.0, 60.0)] * 2
    assert [box.label for box in boxes] == ["pedestrian 3 0.87", "pedestrian 5 red 0.87 12 m"]
    assert boxes[0].color == pytest.approx(foxglove_messages.class_color("pedestrian"))


def test_a_calibration_holds_k_and_the_projection_that_follows_from_it() -> None:
    k = (700.0, 0.0, 640.0, 0.0, 710.0, 480.0, 0.0, 0.0, 1.0)
    data = foxglove_messages.encode_calibration("front", 1280, 960, k, (0.1, -0.2, 0.0, 0.0, 0.05))
    message = foxglove_messages.decode_calibration(data)
    assert (message.width, message.height, tuple(message.K)) == (1280, 960, k)
    assert tuple(message.P) == (700.0, 0.0, 640.0, 0.0, 0.0, 710.0, 480.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    with pytest.raises(ValueError, match="9 values"):
        foxglove_messages.encode_calibration("front", 1280, 960, k[:8])


def test_unknown_and_not_finite_signals_are_null_and_yield_no_sample() -> None:
    data = json_messages.encode_signals({"speed_mps": float("nan"), "gear": "drive", "standstill": False, "x": None})
    assert json.loads(data) == {"speed_mps": None, "gear": "drive", "standstill": False, "x": None}
    assert json_messages.decode_signals(data, "vehicle", 7) == [
        SignalSample("vehicle.gear", 7, "drive"),
        SignalSample("vehicle.standstill", 7, False),
    ]


def test_a_firing_comes_back_as_it_was() -> None:
    firing = Firing(
        rule="driver_takeover",
        rule_version="abc",
        sequence=4,
        time_ns=12,
        wall_ns=34,
        operands={"cause": "brake", "lead.distance_m": None, "vehicle.speed_mps": 13.5, "on": True},
        priority=Priority.SAFETY,
        capture=CaptureWindow(8.0, 4.0, ("front",), ("/vehicle",)),
        sample_probability=0.25,
        score=1.5,
        campaign="night@2",
        tally={"kept": 3, "cooldown": 12},
    )
    assert json_messages.decode_firing(json_messages.encode_firing(firing)) == firing


def test_a_firing_of_an_earlier_version_has_no_score_campaign_and_tally() -> None:
    firing = Firing("rain", "abc", 4, 12, 34, {}, Priority.LOW, CaptureWindow())
    fields = json_messages.firing_to_dict(firing)
    for name in ("score", "campaign", "tally"):
        del fields[name]
    assert json_messages.firing_from_dict(fields) == firing


def test_a_prediction_names_cameras_and_classes_and_leaves_large_heads_out() -> None:
    detections = Detections(
        camera=np.array([1], np.int32),
        class_id=np.array([0], np.int32),
        score=np.array([0.75], np.float32),
        box_px=np.array([[1.04, 2, 3, 4]], np.float32),
        state=["green"],
    )
    embedding = np.arange(16, dtype=np.float32).reshape(8, 2)
    prediction = Prediction(
        time_ns=5,
        detections=detections,
        class_names=("traffic_light",),
        lead_distance_m=float("inf"),
        heads={"embedding": embedding, "lanes": np.zeros((8, 48, 80), np.float32)},
    )
    fields = json.loads(json_messages.encode_prediction(prediction, ("front", "rear")))
    assert fields["detections"] == [
        {
            "camera": "rear",
            "class_name": "traffic_light",
            "score": 0.75,
            "box_px": [1.0, 2.0, 3.0, 4.0],
            "state": "green",
        }
    ]
    assert fields["lead_distance_m"] is None
    assert set(fields["heads"]) == {"embedding"}
    assert np.array_equal(json_messages.tensor_from_json(fields["heads"]["embedding"]), embedding)
