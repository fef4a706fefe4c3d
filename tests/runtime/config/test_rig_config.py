"""The daemon's configuration: every mistake at once, nothing that is not meant."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runtime.config import bundles as bundles_module
from runtime.config import load_config
from runtime.config.rig_config import RigConfig, TickConfig
from runtime.formats.documents import DocumentError

CAMERA = 'cameras:\n  front: {source: {kind: rtsp, address: "rtsp://127.0.0.1:8554/front"}}\n'
MINIMAL = "vehicle: {id: car_7}\n" + CAMERA


def load(tmp_path: Path, text: str) -> RigConfig:
    path = tmp_path / "rig.yaml"
    path.write_text(text)
    return load_config(path)


def messages(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(DocumentError) as caught:
        load(tmp_path, text)
    return [str(problem).removeprefix(f"{tmp_path / 'rig.yaml'}:") for problem in caught.value.problems]


def test_two_lines_are_a_configuration(tmp_path):
    config = load(tmp_path, MINIMAL)
    assert config.tick.rate_hz == 20
    assert config.tick.phase_ms == "auto"
    assert config.rules.files == ("library",)
    assert config.history.max_bytes == 512_000_000
    assert config.model is None


def test_sizes_durations_and_paths_relative_to_the_file_are_understood(tmp_path):
    (tmp_path / "rules").mkdir()
    text = MINIMAL + "history: {seconds: 2min, max_bytes: 64MiB, directory: hot}\nrules: {files: [library, rules]}\n"
    config = load(tmp_path, text)
    assert config.history.seconds == 120
    assert config.history.max_bytes == 64 * 2**20
    assert config.history.directory == tmp_path / "hot"
    assert config.rules.files == ("library", tmp_path / "rules")


def test_all_mistakes_of_a_file_are_told_at_once_with_their_lines(tmp_path):
    found = messages(
        tmp_path,
        "vehicle: {id: my car}\n"
        "drive: nowhere\n"
        "cameras:\n"
        '  front: {source: {kind: rtsp, address: "http://x"}, rate_hz: -3}\n'
        "  Rear: {source: {kind: v4l2, device: /dev/video0}}\n"
        "  left: {source: {kind: v4l2, device: /dev/video0}}\n"
        "  right: {source: {kind: usb}}\n"
        "signals:\n"
        "  timeouts_s: {speed: 1}\n"
        '  sources: [{kind: zeromq, address: "tcp://127.0.0.1:99999"}]\n'
        "tick: {reference_camera: frnt, phase_ms: sometimes}\n"
        "history: {max_bytes: 500Megabyte}\n"
        'uplink: {server: "tcp://*:1"}\n'
        "recoder: {}\n",
    )
    lines = [int(message.split(":")[0]) for message in found]
    assert sorted(set(lines)) == [1, 2, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14]
    text = "\n".join(found)
    for expected in (
        "'id' is not a vehicle id",
        "nowhere cannot be used",
        "not an RTSP address",
        "'rate_hz' must be greater than 0",
        "'Rear' cannot name a camera",
        "camera 'left' has the same source as 'Rear'",
        "unknown kind 'usb'",
        "'speed' cannot name a signal",
        "port 99999 is not between",
        "did you mean 'front'?",
        "write a number, or write auto",
        "'Megabyte' is not a unit",
        "'*' cannot be connected to",
        "did you mean 'recorder'?",
    ):
        assert expected in text


@pytest.mark.parametrize(
    ("text", "line", "expected"),
    [
        ("vehicle: {id: a}\n", 1, "nothing to watch"),
        (MINIMAL + "rules: {files: []}\n", 4, "at least 1"),
        (MINIMAL + "rules: {files: [gone]}\n", 4, "gone cannot be used"),
        (MINIMAL + "tick: {rate_hz: 0}\n", 4, "greater than 0"),
        (MINIMAL + "tick: {rate_hz: .nan}\n", 4, "finite"),
        (MINIMAL + "recorder: {max_clip_s: 90}\n", 4, "history of 60 s"),
        (MINIMAL + "recorder: {max_clip_s: 56}\n", 4, "it takes 5 s more"),
        (MINIMAL + "history: {seconds: 9}\n", 4, "greater than or equal to 10"),
        (MINIMAL + "uplink: {retry_min_s: 2min}\n", 4, "longer than the longest"),
        (MINIMAL + "model: {bundle: no_such_network}\n", 4, "no bundled model is called 'no_such_network'"),
        (MINIMAL + "model: {bundle: ./rules}\n", 4, "cannot be used"),
        (MINIMAL + "realtime: {tick_priority: 100}\n", 4, "less than or equal to 99"),
        ("vehicle: {id: ../etc}\n" + CAMERA, 1, "is not a vehicle id"),
    ],
)
def test_a_contradiction_or_wrong_value_is_told_at_its_line(tmp_path, text, line, expected):
    (message,) = messages(tmp_path, text)
    assert message.startswith(f"{line}:")
    assert expected in message


def test_more_cameras_than_a_batch_are_refused(tmp_path):
    cameras = "".join(f"  c{i}: {{source: {{kind: v4l2, device: /dev/video{i}}}}}\n" for i in range(17))
    (message,) = messages(tmp_path, "vehicle: {id: a}\ncameras:\n" + cameras)
    assert "17 cameras are more than the 16" in message


def test_a_camera_that_the_drive_has_too_is_refused_and_others_are_welcome(tmp_path):
    drive = tmp_path / "drive"
    drive.mkdir()
    (drive / "drive.yaml").write_text("name: x\ncameras: {front: {video: [a.ts]}, rear: {video: [b.ts]}}\n")
    (message,) = messages(tmp_path, "drive: drive\n" + MINIMAL)
    assert "camera 'front' is also a camera of the drive" in message
    text = "vehicle: {id: a}\ndrive: drive\ntick: {reference_camera: rear}\n"
    assert load(tmp_path, text).drive == tmp_path / "drive"


def test_signals_may_not_be_forged_repeated_or_taken_from_a_missing_dbc(tmp_path):
    (tmp_path / "car.dbc").write_text("")
    source = (
        "    - kind: can\n      interface: socketcan\n      channel: {channel}\n      dbc: {dbc}\n"
        "      signals: {{{name}: {{message: A, signal: B}}}}\n"
    )
    head = "vehicle: {id: a}\nsignals:\n  sources:\n"
    good = source.format(channel="can0", dbc="car.dbc", name="vehicle.speed_mps")
    assert load(tmp_path, head + good).signals.sources[0].kind == "can"
    (twice,) = messages(tmp_path, head + good + good.replace("can0", "can1"))
    assert "comes from source 1 already" in twice
    (forged,) = messages(tmp_path, head + source.format(channel="can0", dbc="car.dbc", name="health.cameras_missing"))
    assert "computed here" in forged
    (missing,) = messages(tmp_path, head + source.format(channel="can0", dbc="cra.dbc", name="vehicle.speed_mps"))
    assert "did you mean 'car.dbc'?" in missing


def test_a_bundle_is_found_by_name_or_folder(tmp_path, monkeypatch):
    bundled = tmp_path / "models"
    (bundled / "net").mkdir(parents=True)
    (bundled / "net" / "model.yaml").write_text("name: net\n")
    monkeypatch.setattr(bundles_module, "BUNDLED_MODELS", bundled)
    assert load(tmp_path, MINIMAL + "model: {bundle: net}\n").model.bundle == bundled / "net"
    assert load(tmp_path, MINIMAL + "model: {bundle: ./models/net}\n").model.bundle == bundled / "net"
    (misspelt,) = messages(tmp_path, MINIMAL + "model: {bundle: nett}\n")
    assert "did you mean 'net'?" in misspelt


def test_clips_never_outgrow_a_history_that_was_made_short(tmp_path):
    config = load(tmp_path, MINIMAL + "history: {seconds: 20}\n")
    assert config.max_clip_s == 15


def test_the_fingerprint_follows_the_meaning_and_not_the_spelling(tmp_path):
    one = load(tmp_path, MINIMAL + "history: {seconds: 60}\n")
    same = load(tmp_path, "# another comment\n" + MINIMAL + "history: {seconds: 1min}\n")
    other = load(tmp_path, MINIMAL + "history: {seconds: 61}\n")
    assert one.fingerprint() == same.fingerprint()
    assert one.fingerprint() != other.fingerprint()


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_a_file_that_only_another_process_may_read_is_left_to_it(tmp_path):
    closed = tmp_path / "keys"
    closed.mkdir()
    closed.chmod(0)
    text = (
        MINIMAL + 'uplink: {server: "tcp://127.0.0.1:5588", server_public_key: keys/receiver.public, keys: keys/mine}\n'
    )
    try:
        assert load(tmp_path, text).uplink.server_public_key == closed / "receiver.public"
    finally:
        closed.chmod(0o700)


@pytest.mark.parametrize("text", ["", "[]", "text", "cameras: []\nvehicle: 5\n", "signals: {sources: {}}\ntick: []\n"])
def test_files_of_the_wrong_shape_are_problems_and_never_crash(tmp_path, text):
    assert messages(tmp_path, text)


def test_signals_of_ones_own_are_declared_with_their_kind(tmp_path):
    text = MINIMAL + "signals:\n  declared: {trailer.is_attached: boolean, trailer.mass_kg: number}\n"
    assert load(tmp_path, text).signals.declared == {"trailer.is_attached": "boolean", "trailer.mass_kg": "number"}


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("vehicle.speed_mps: text", "is a canonical signal: a number"),
        ("heads.rain: number", "computed here"),
        ("embedding.snow: number", "computed here"),
        ("tick.period_ms: number", "another topic"),
        ("trailer: number", "cannot name a signal"),
        ("trailer.mass_kg: float", "number"),
    ],
)
def test_declarations_that_cannot_be_are_located(tmp_path, entry, words):
    (found,) = messages(tmp_path, MINIMAL + "signals:\n  declared:\n    trailer.length_m: number\n    " + entry + "\n")
    assert found.startswith("7:")
    assert words in found


def test_the_reference_is_the_camera_that_is_named_else_the_first() -> None:
    assert TickConfig(reference_camera="rear").reference_of(["front", "rear"]) == "rear"
    assert TickConfig().reference_of(["front", "rear"]) == "front"
    assert TickConfig().reference_of([]) is None
    assert TickConfig(rate_hz=36).period_ns == 27_777_778
