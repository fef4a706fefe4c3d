"""Sound of a recording never enters a clip, and a clip names neither the machine nor its people."""

from __future__ import annotations

import getpass
import socket
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from runtime.capture.container_sources import ContainerSource
from runtime.capture.sources import CaptureReadError
from runtime.clock import SystemClock
from runtime.drives.video_files import VideoFile
from runtime.formats.mcap_files import McapTopicReader, RawMessage
from runtime.formats.topics import ChannelSpec
from runtime.messages import Packet
from runtime.privacy.policy import PrivacyPolicy, PrivacyRules
from runtime.recording.clip_plan import ClipPlan
from runtime.recording.firing_files import WaitingFiring
from runtime.recording.provenance import Provenance
from runtime.recording.sealing_policy import ClipWindow, SealingRefusal
from tests.runtime.privacy.private_history import everything_in, north_of, seal, write_history
from tests.runtime.recording.recorded_rig import START_NS, encode_camera, firing

#: A tone that no video holds: sixteen equal samples in a row.
TONE = (np.arange(4800) // 16 * 7919 % 30000).astype(np.int16)


@pytest.fixture
def with_sound(tmp_path: Path) -> Path:
    """A recording of two seconds with a camera and a microphone."""
    path = tmp_path / "dashcam.mkv"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("pcm_s16le", rate=48_000, layout="mono")
        video = container.add_stream("libx264", rate=20, options={"preset": "ultrafast", "tune": "zerolatency"})
        video.width, video.height, video.pix_fmt, video.gop_size = 160, 96, "yuv420p", 10
        for index in range(40):
            picture = av.VideoFrame.from_ndarray(np.full((144, 160), 40 + index * 4, np.uint8), format="yuv420p")
            picture.pts, picture.time_base = index, Fraction(1, 20)
            container.mux(video.encode(picture))
            samples = av.AudioFrame.from_ndarray(TONE[:2400].reshape(1, -1), format="s16", layout="mono")
            samples.sample_rate, samples.pts, samples.time_base = 48_000, index * 2400, Fraction(1, 48_000)
            container.mux(sound.encode(samples))
        container.mux(video.encode(None))
        container.mux(sound.encode(None))
    assert TONE[160:320].tobytes() in path.read_bytes()
    return path


def test_the_sound_of_a_recorded_drive_never_enters_a_clip(tmp_path: Path, with_sound: Path) -> None:
    raw = list(VideoFile(with_sound).packets())
    assert len(raw) == 40
    packets = [
        Packet("front_main", i, START_NS + p.time_ns, START_NS + p.time_ns, "h264", p.is_key, p.data)
        for i, p in enumerate(raw)
    ]
    history = write_history(
        tmp_path / "history", north_of(0), [firing(1.0, pre_s=0.9, post_s=0.8)], {"front_main": packets}, 2.0
    )
    _, (clip,) = seal(history, tmp_path / "clips", PrivacyRules())
    with McapTopicReader(clip.path, strict=True) as reader:
        video = b"".join(p.data for p in reader.packets("front_main"))
        schemas = {spec.schema_name for spec in reader.channels.values()}
    assert not [schema for schema in schemas if "audio" in schema.lower()]
    assert TONE[160:320].tobytes() not in everything_in(clip.path) + video


def test_a_live_source_with_sound_gives_pictures_only(with_sound: Path) -> None:
    source = ContainerSource("front", str(with_sound), SystemClock(), format_name=None, options={})
    source.open()
    packets: list[Packet] = []

    def read_all() -> None:
        while True:
            packet = source.read(0.5)
            packets.extend([] if packet is None else [packet])

    with pytest.raises(CaptureReadError, match="ended"):
        read_all()
    source.close()
    assert packets
    assert all(packet.codec == "h264" and TONE[160:320].tobytes() not in packet.data for packet in packets)


def test_a_message_of_sound_is_dropped_whatever_is_configured() -> None:
    spec = ChannelSpec("/cabin/microphone", "foxglove.RawAudio", "protobuf", b"", "protobuf")
    sound = RawMessage(spec, START_NS, START_NS, 0, b"hello")
    waiting = WaitingFiring(Path("f.json"), "first", firing(1.0))
    plan = ClipPlan(waiting.start_ns, waiting.end_ns, (waiting,))
    treatment = PrivacyPolicy(PrivacyRules()).admit(plan, ClipWindow(0, 1), None)  # type: ignore[arg-type]
    assert not isinstance(treatment, SealingRefusal)
    assert list(treatment.transform([sound], lambda message: False)) == []
    assert treatment.facts() == {"dropped": {"foxglove.RawAudio": 1}}


def test_a_clip_names_the_pseudonym_and_neither_machine_nor_user_nor_paths(tmp_path: Path) -> None:
    history = write_history(
        tmp_path / "history", north_of(0), [firing(6.0)], {"front_main": encode_camera("front_main", 280)}
    )
    _, (clip,) = seal(history, tmp_path / "clips", PrivacyRules())
    said = everything_in(clip.path) + repr(dict(clip.metadata)).encode()
    assert b"vehicle-7f3a" in said
    for word in (socket.gethostname(), f"/{getpass.getuser()}/", str(tmp_path), str(Path.home())):
        if len(word) > 3:
            assert word.encode() not in said, word


def test_provenance_has_no_room_for_anything_that_names_a_person_or_vehicle() -> None:
    assert set(Provenance.model_fields) == {
        "software_version",
        "vehicle",
        "config_sha256",
        "rules_sha256",
        "model",
        "second_model",
        "engine",
        "calibration_sha256",
        "cameras",
    }
