"""The written drive: readable as any recording, faults really in the video, and the same bytes for the same seed."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import av
import numpy as np
import pytest

from replay.synthetic.__main__ import main
from replay.synthetic.camera_film import read_film, shoot
from replay.synthetic.drive_writer import synthesize_drive
from replay.synthetic.recording import Recording
from replay.synthetic.rigs import CAMERAS
from replay.synthetic.script import CameraFault
from replay.synthetic.simulation import simulate
from runtime.drives import open_drive
from runtime.formats.mcap_files import McapTopicReader

SIZE = (160, 120)


@pytest.fixture(scope="module")
def drive_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthesize_drive(tmp_path_factory.mktemp("drives"), 5, 16.0, 10.0, SIZE, weather="clear")


def test_a_written_drive_opens_with_eight_cameras_signals_and_truth(drive_path):
    drive = open_drive(drive_path)
    assert set(drive.cameras) == set(CAMERAS)
    assert drive.duration_s == pytest.approx(16.0, abs=0.2)
    assert drive.truth is not None
    assert "driver_takeover" in {event.event for event in drive.truth}
    names = {sample.name for sample in drive.signal_samples()}
    assert {"vehicle.speed_mps", "vehicle.brake_pressed", "controller.enabled", "lead.present"} <= names


def test_every_packet_decodes_at_once_and_key_frames_come_every_second(drive_path):
    for camera in open_drive(drive_path).cameras.values():
        decoder = av.CodecContext.create("h264", "r")
        packets = list(camera.packets())
        assert [packet.sequence for packet in packets] == list(range(160))
        assert [packet.sequence for packet in packets if packet.is_key] == list(range(0, 160, 10))
        for packet in packets:
            assert packet.data.startswith(b"\0\0\0\1")
            (frame,) = decoder.decode(av.Packet(packet.data))
            assert (frame.width, frame.height) == SIZE


def test_true_objects_are_written_for_every_frame(drive_path):
    with McapTopicReader(drive_path) as reader:
        messages = list(reader.messages({"/truth/front_main"}))
    assert len(messages) == 160
    objects = [item for message in messages for item in json.loads(message.data)["objects"]]
    assert {"class_name", "track_id", "box_px", "visible_fraction", "state"} <= set(objects[0])
    assert len({item["track_id"] for item in objects}) > 5


def test_lane_borders_lie_on_both_sides_of_the_car(drive_path):
    with McapTopicReader(drive_path) as reader:
        lanes = [json.loads(message.data)["borders"] for message in reader.messages({"/truth/lanes"})]
        egos = [json.loads(message.data) for message in reader.messages({"/truth/ego"})]
    assert len(lanes) == len(egos) == 160
    for borders, ego in zip(lanes, egos, strict=True):
        abreast = [min(border, key=lambda point: abs(point[0]))[1] for border in borders]
        assert abreast == sorted(abreast)
        assert abreast[1] + ego["lane_offset_m"] == pytest.approx(-1.75, abs=0.1)
        assert abreast[2] + ego["lane_offset_m"] == pytest.approx(1.75, abs=0.1)


def test_an_identity_stays_with_its_object(drive_path):
    """A box of one track moves only a little from frame to frame."""
    with McapTopicReader(drive_path) as reader:
        frames = [json.loads(m.data)["objects"] for m in reader.messages({"/truth/front_main"})]
    jumps = []
    for before, after in itertools.pairwise(frames):
        here = {item["track_id"]: (item["class_name"], item["box_px"][0]) for item in before}
        for item in after:
            if item["track_id"] in here:
                class_name, left = here[item["track_id"]]
                assert class_name == item["class_name"]
                jumps.append(abs(left - item["box_px"][0]))
    assert len(jumps) > 300
    assert np.percentile(jumps, 98) < 12.0


def test_the_number_of_processes_does_not_change_a_byte(tmp_path):
    one = synthesize_drive(tmp_path / "one", 3, 2.0, 10.0, SIZE, weather="rain", processes=1)
    three = synthesize_drive(tmp_path / "three", 3, 2.0, 10.0, SIZE, weather="rain", processes=3)
    assert one.read_bytes() == three.read_bytes()


def test_a_finished_drive_is_used_again_and_other_parameters_make_another(tmp_path):
    first = synthesize_drive(tmp_path, 3, 1.0, 5.0, SIZE, weather="clear")
    made_ns = first.stat().st_mtime_ns
    assert synthesize_drive(tmp_path, 3, 1.0, 5.0, SIZE, weather="clear") == first
    assert first.stat().st_mtime_ns == made_ns
    assert synthesize_drive(tmp_path, 4, 1.0, 5.0, SIZE, weather="clear").parent != first.parent
    assert {entry.name for entry in tmp_path.iterdir()} == {path.parent.name for path in tmp_path.glob("*/drive.mcap")}


def test_progress_ends_at_the_number_of_frames(tmp_path):
    told: list[tuple[int, int]] = []
    synthesize_drive(tmp_path, 3, 1.0, 5.0, SIZE, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (40, 40)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recording, Path]:
    recording = simulate(2, 4.0, 10.0, "clear")
    recording.faults = (CameraFault("rear", "freeze", 1.3, 1.6), CameraFault("rear_left", "drop", 1.0, 2.0))
    folder = tmp_path_factory.mktemp("films")
    shoot(recording, ("rear", "rear_left", "rear_right"), SIZE, folder, lambda count: None)
    return recording, folder


def test_a_frozen_camera_repeats_one_picture_exactly_and_a_live_one_never_does(faulty):
    _, folder = faulty
    repeats = {}
    for camera in ("rear", "rear_right"):
        decoder = av.CodecContext.create("h264", "r")
        pictures = []
        for record in read_film(folder / f"{camera}.film"):
            (frame,) = decoder.decode(av.Packet(record.access_unit))
            pictures.append(frame.to_ndarray(format="gray"))
        repeats[camera] = [i for i in range(1, 40) if np.array_equal(pictures[i], pictures[i - 1])]
    assert set(repeats["rear"]) >= set(range(14, 29))
    assert all(13 <= number <= 29 for number in repeats["rear"])
    assert repeats["rear_right"] == []


def test_a_dropping_camera_delivers_nothing_and_then_goes_on_decodably(faulty):
    _, folder = faulty
    records = list(read_film(folder / "rear_left.film"))
    assert [record.number for record in records if not record.access_unit] == list(range(10, 30))
    assert all(json.loads(record.truth_json) is not None for record in records)
    decoder = av.CodecContext.create("h264", "r")
    delivered = [record for record in records if record.access_unit]
    assert all(len(decoder.decode(av.Packet(record.access_unit))) == 1 for record in delivered)


def test_the_planted_branch_hides_and_shows_its_stop_sign(tmp_path):
    recording = simulate(4, 62.0, 10.0, "clear")
    (flicker,) = [event for event in recording.events if event.event == "detection_flicker"]
    standing = [f for f in recording.frames if f.held_signals and f.ego_speed_mps < 2.0 and f.time_s > flicker.time_s]
    recording.frames = standing
    shoot(recording, ("front_main",), (320, 240), tmp_path, lambda count: None)
    fractions = []
    for record in read_film(tmp_path / "front_main.film"):
        signs = [item for item in json.loads(record.truth_json) if item["class_name"] == "stop_sign"]
        fractions.append(max((item["visible_fraction"] for item in signs), default=0.0))
    seen = [fraction > 0.5 for fraction in fractions]
    changes = sum(before != after for before, after in itertools.pairwise(seen))
    assert changes >= 4
    assert 0.15 < sum(seen) / len(seen) < 0.85


def test_all_bad_parameters_are_named_at_once(tmp_path, capsys):
    with pytest.raises(ValueError, match=r"seed.*duration.*width"):
        synthesize_drive(tmp_path, -1, 0.0, 20.0, (5, 480), weather="clear")
    assert main(["--out", str(tmp_path), "--seconds", "0"]) == 2
    assert "duration" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
