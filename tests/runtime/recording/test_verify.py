"""Each way in which a clip can be bad is named as exactly that."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from recorded_rig import CAMERAS, PERIOD_NS, SECOND_NS, SIZE, START_NS, firing, rewrite

from runtime.formats.foxglove_messages import encode_video
from runtime.formats.mcap_files import McapTopicReader, McapTopicWriter, RawMessage
from runtime.formats.topics import video_channel, video_topic
from runtime.messages import Packet
from runtime.recording import clip_file
from runtime.recording.clip_report import MAX_PROBLEMS
from runtime.recording.clip_sink import FolderClipSink
from runtime.recording.manifest import MANIFEST_ATTACHMENT, MANIFEST_METADATA, PROVENANCE_METADATA
from runtime.recording.recorder import Recorder
from runtime.recording.verify import verify_clip


def codes(path: Path) -> set[tuple[str, str | None]]:
    return {(problem.code, problem.camera) for problem in verify_clip(path).problems}


def replace_packet(
    camera: str, sequence: int, change: Callable[[Packet], Packet | None]
) -> Callable[[RawMessage], Iterator[RawMessage]]:
    def one(message: RawMessage) -> Iterator[RawMessage]:
        if message.topic != video_topic(camera) or message.sequence != sequence:
            yield message
        elif (packet := change(message.packet())) is not None:
            yield replace(message, data=encode_video(packet))

    return one


def test_a_clip_rewritten_without_change_is_good(clip: Path) -> None:
    assert verify_clip(rewrite(clip)).problems == []


def test_a_file_that_is_no_mcap(tmp_path: Path) -> None:
    path = tmp_path / "clip.mcap"
    path.write_bytes(b"GIF89a, honestly")
    assert codes(path) == {("not_mcap", None)}


def test_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "clip.mcap"
    path.touch()
    assert codes(path) == {("not_mcap", None)}


def test_a_truncated_file_says_to_which_byte_it_reads(clip: Path) -> None:
    whole = clip.read_bytes()
    clip.write_bytes(whole[: len(whole) // 4])
    report = verify_clip(clip)
    truncated = [problem for problem in report.problems if problem.code == "truncated"]
    assert len(truncated) == 1
    assert f"of {len(whole) // 4}" in truncated[0].message
    assert ("manifest", None) in codes(clip)


def test_a_flipped_bit_is_found_wherever_it_is(clip: Path) -> None:
    whole = clip.read_bytes()
    places = random.Random(7).sample(range(len(whole)), 16)
    for place in (0, 9, len(whole) - 1, *places):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << (place % 8)
        clip.write_bytes(damaged)
        assert {"damaged", "truncated", "not_mcap"} & {code for code, _ in codes(clip)}, f"bit flip at byte {place}"


def test_a_flipped_bit_in_a_payload_behind_a_good_checksum(clip: Path) -> None:
    def flip(packet: Packet) -> Packet:
        return replace(packet, data=packet.data[:-3] + bytes([packet.data[-3] ^ 1]) + packet.data[-2:])

    assert ("payload_hash", "rear") in codes(rewrite(clip, replace_packet("rear", 100, flip)))
    assert not {camera for _, camera in codes(clip.with_name("bad.mcap"))} - {"rear"}


def test_a_missing_manifest(clip: Path) -> None:
    assert codes(rewrite(clip, leave_out=frozenset({MANIFEST_ATTACHMENT}))) == {("manifest", None)}


def test_a_manifest_that_is_not_the_one_in_the_metadata(clip: Path) -> None:
    assert codes(rewrite(clip, leave_out=frozenset({MANIFEST_METADATA}))) == {("manifest", None)}


def test_a_manifest_with_a_missing_part_names_it(clip: Path) -> None:
    def remove(fields: dict[str, Any]) -> None:
        del fields["provenance"]["rules_sha256"]
        del fields["cameras"]["rear"]["sha256"]

    (problem,) = verify_clip(rewrite(clip, manifest=remove)).problems
    assert "provenance.rules_sha256" in problem.message
    assert "cameras.rear.sha256" in problem.message


def test_missing_provenance(clip: Path) -> None:
    assert codes(rewrite(clip, leave_out=frozenset({PROVENANCE_METADATA}))) == {("provenance", None)}


def test_a_lost_frame(clip: Path) -> None:
    found = codes(rewrite(clip, replace_packet("rear", 100, lambda packet: None)))
    assert {("frame_count", "rear"), ("gaps", "rear"), ("payload_hash", "rear"), ("topic_count", None)} <= found
    assert {camera for _, camera in found} <= {"rear", None}


def test_a_first_frame_that_is_no_key_frame(clip: Path) -> None:
    with McapTopicReader(clip) as reader:
        first = next(reader.packets("rear"))
    found = codes(rewrite(clip, replace_packet("rear", first.sequence, lambda packet: None)))
    assert ("key_frame_first", "rear") in found
    assert ("decode", "rear") in found


def test_a_key_frame_without_parameter_sets(clip: Path) -> None:
    def strip(packet: Packet) -> Packet:
        return replace(packet, data=packet.data[packet.data.index(b"\x00\x00\x01\x65") :])

    with McapTopicReader(clip) as reader:
        key = [packet for packet in reader.packets("rear") if packet.is_key][1]
    assert ("parameter_sets", "rear") in codes(rewrite(clip, replace_packet("rear", key.sequence, strip)))


def test_a_packet_that_is_not_annex_b(clip: Path) -> None:
    def length_prefixed(packet: Packet) -> Packet:
        unit = packet.data.lstrip(b"\x00")[1:]
        return replace(packet, data=len(unit).to_bytes(4, "big") + unit)

    assert ("annex_b", "rear") in codes(rewrite(clip, replace_packet("rear", 101, length_prefixed)))


def test_more_than_one_gop_of_pre_roll(clip: Path) -> None:
    def later(fields: dict[str, Any]) -> None:
        fields["requested_start_ns"] += SECOND_NS

    assert ("pre_roll", "rear") in codes(rewrite(clip, manifest=later))


def test_a_pre_roll_that_starts_late_without_saying_so(clip: Path) -> None:
    def earlier(fields: dict[str, Any]) -> None:
        fields["requested_start_ns"] -= SECOND_NS

    assert {("pre_roll", camera) for camera in CAMERAS} <= codes(rewrite(clip, manifest=earlier))


def test_a_camera_that_the_manifest_does_not_know(clip: Path) -> None:
    def forget(fields: dict[str, Any]) -> None:
        del fields["cameras"]["rear"]

    assert ("cameras", "rear") in codes(rewrite(clip, manifest=forget))


def test_b_frames_are_named(record_history: Callable[..., Path], tmp_path: Path) -> None:
    from fractions import Fraction

    import av
    import numpy as np

    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = 160, 96, "yuv420p"
    encoder.time_base, encoder.framerate = Fraction(1, 20), Fraction(20)
    encoder.options = {
        "preset": "fast",
        "bf": "2",
        "x264-params": "keyint=20:scenecut=0:b-adapt=0:annexb=1:repeat-headers=1",
    }
    gradient = np.tile(np.arange(160, dtype=np.uint8), (144, 1))
    encoded = []
    for index in range(200):
        frame = av.VideoFrame.from_ndarray(np.roll(gradient, index, axis=1), format="yuv420p")
        frame.pts = index
        encoded += encoder.encode(frame)
    packets = [
        Packet("rear", i, START_NS + i * PERIOD_NS, START_NS + i * PERIOD_NS, "h264", p.is_keyframe, bytes(p))
        for i, p in enumerate(encoded)
    ]
    history = record_history(firing(6.0), packets={"rear": packets})
    (clip,) = Recorder(history, FolderClipSink(tmp_path / "clips")).step(START_NS + 14 * SECOND_NS)
    assert ("b_frames", "rear") in codes(clip.path)


def test_the_report_as_json_names_code_and_camera(clip: Path) -> None:
    report = verify_clip(rewrite(clip, replace_packet("rear", 100, lambda packet: None))).to_json()
    assert report["ok"] is False
    assert ("frame_count", "rear") in [(problem["code"], problem["camera"]) for problem in report["problems"]]
    assert json.loads(json.dumps(report)) == report


def changed(clip: Path, **fields: Any) -> set[str]:
    return {code for code, _ in codes(rewrite(clip, manifest=lambda said: said.update(fields)))}


def test_a_window_that_its_firings_did_not_ask_for(short_clip: Path) -> None:
    assert "request" in changed(short_clip, requested_end_ns=START_NS + 9 * SECOND_NS)


def test_a_priority_that_is_not_the_highest_of_its_firings(short_clip: Path) -> None:
    assert changed(short_clip, priority="background") == {"priority"}


def test_no_firing_at_all(short_clip: Path) -> None:
    assert changed(short_clip, firings=[]) == {"firings"}


def test_a_pre_roll_that_is_short_by_another_length(short_clip: Path) -> None:
    assert changed(short_clip, pre_roll_short_s=0.7) == {"pre_roll"}


def test_a_short_post_roll_without_a_reason(record_history: Callable[..., Path], tmp_path: Path) -> None:
    history = record_history(firing(6.0, post_s=7.0), until_s=9.0)
    (short,) = Recorder(history, FolderClipSink(tmp_path / "clips")).step(START_NS + 9 * SECOND_NS)
    assert verify_clip(short.path).problems == []
    assert changed(short.path, ended_early=None) == {"post_roll"}


def test_wall_times_that_are_not_those_of_the_records(short_clip: Path) -> None:
    assert changed(short_clip, start_wall_ns=1) == {"time_range"}


def test_a_clip_of_a_pull_that_names_no_request(short_clip: Path) -> None:
    assert changed(short_clip, kind="pull") == {"request"}


def test_a_variant_that_it_is_not(short_clip: Path) -> None:
    assert changed(short_clip, variant="thumbnails") == {"variant"}


def test_a_reference_camera_that_is_another(short_clip: Path) -> None:
    assert {"lag"} <= changed(short_clip, reference_camera="rear")


def test_cameras_left_out_that_are_there(short_clip: Path) -> None:
    shrunk = {"start_ns": START_NS, "end_ns": START_NS + SECOND_NS, "left_out_cameras": ["rear"], "reason": "none"}
    assert "shrunk" in changed(short_clip, shrunk=shrunk)


def test_more_than_was_asked_for_is_not_what_it_was_cut_down_to(short_clip: Path) -> None:
    asked_ns = (START_NS + 5 * SECOND_NS, START_NS + 7 * SECOND_NS)
    for beyond_ns, found in ((0, set()), (1, {"shrunk"})):
        part = {"start_ns": asked_ns[0], "end_ns": asked_ns[1] + beyond_ns, "left_out_cameras": [], "reason": "full"}
        assert changed(short_clip, shrunk=part) == found


def test_a_period_that_is_not_that_of_its_frames(short_clip: Path) -> None:
    def slower(said: dict[str, Any]) -> None:
        said["cameras"]["rear"]["period_ms"] = 51.0

    assert codes(rewrite(short_clip, manifest=slower)) == {("period", "rear")}


def test_chosen_topics_that_are_not_what_it_holds(short_clip: Path) -> None:
    others = ["/comparison", "/prediction", "/tick", "/vehicle"]
    assert changed(short_clip, chosen_topics=others) == set()
    for topics in (
        {"chosen_topics": others[:-1]},
        {"chosen_topics": [*others, "/radar"]},
        {"missing_topics": ["/tick"]},
    ):
        assert changed(short_clip, **topics) == {"topics"}
    assert changed(short_clip, chosen_topics=[*others, "/radar"], missing_topics=["/radar"]) == set()


@pytest.mark.parametrize(
    "said",
    [
        {"location": "gone"},
        {"location": {"mode": "round"}},
        {"location": {"mode": "round", "decimals": 99}},
        {"blurring": 1},
        {"blurring": {"frames": {"rear": "all"}}},
        {"blurring": {"frames": {"rear": 40}}},  # none of them is encoded anew
        {"blurring": {"frames": {"roof": 40}}},
    ],
)
def test_a_protection_that_it_does_not_have(short_clip: Path, said: dict[str, Any]) -> None:
    assert changed(short_clip, privacy=said) == {"privacy"}


def test_provenance_that_contradicts_the_manifest_anywhere(short_clip: Path) -> None:
    def other(said: dict[str, Any]) -> None:
        said["provenance"]["model"]["sha256"] = "f" * 64

    assert ("provenance", None) in codes(rewrite(short_clip, manifest=other))


def test_two_frames_of_one_instant(short_clip: Path) -> None:
    def twice(message: RawMessage) -> Iterator[RawMessage]:
        yield message
        if message.topic == video_topic("rear") and message.sequence == 100:
            yield message

    assert ("frame_twice", "rear") in codes(rewrite(short_clip, twice))


def test_messages_that_no_reader_can_read(short_clip: Path) -> None:
    for topic in ("/vehicle", "/firing", "/tick", "/prediction", "/camera/front_main/annotations"):
        seen = []

        def ruin(message: RawMessage, topic: str = topic, seen: list[int] = seen) -> Iterator[RawMessage]:
            is_first = message.topic == topic and not seen
            seen.extend([1] if is_first else [])
            yield replace(message, data=b"\xff{") if is_first else message

        problems = verify_clip(rewrite(short_clip, ruin)).problems
        assert [problem.code for problem in problems] == ["message"], topic
        assert topic in problems[0].message


def test_every_code_is_in_the_table_of_the_docs() -> None:
    repository = Path(__file__).resolve().parents[3]
    table = (repository / "deploy" / "CLIPS.md").read_text().split("Its codes:")[1]
    codes_column = "".join(line.split("|")[1] for line in table.splitlines() if "|" in line)
    listed = set(re.findall(r"`([a-z_0-9]+)`", codes_column))
    modules = repository / "runtime" / "recording"
    source = "".join((modules / f"{name}.py").read_text() for name in ("verify", "clip_promises", "privacy_promises"))
    given = set(re.findall(r'(?:Problem\(|_problem\(|yield )"([a-z_]+)"', source))
    given |= set(re.findall(r'^    \("[a-z_0-9]+", "([a-z_]+)"\),$', source, re.MULTILINE))
    assert len(given) > 25
    assert given == listed


def test_a_clip_with_thousands_of_broken_promises_tells_some_and_counts_the_others(tmp_path: Path) -> None:
    """Every packet breaks two, each with its own time in the text."""
    path = tmp_path / "clip.mcap"
    channel = video_channel("front", "h264", False)
    with McapTopicWriter(path) as writer:
        for number in range(1, 3001):
            packet = Packet("front", number, number, number, "h264", True, b"no NAL unit")
            writer.write(channel, encode_video(packet), number, number, number)
    report = verify_clip(path)
    assert len(report.problems) == MAX_PROBLEMS
    assert report.problems_beyond.total() > 5000
    assert not report.ok
    told = report.lines()
    assert len(told) == MAX_PROBLEMS + 1
    assert re.fullmatch(r"and \d+ more: 29\d\d \[annex_b\], .*", told[-1])
    assert report.to_json()["problems_beyond"].keys() == {"annex_b", "decode"}


def test_a_video_of_pictures_beyond_the_limit_is_refused_before_it_is_decoded(
    clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clip_file, "MAX_PICTURE_PIXELS", SIZE[0] * SIZE[1] - 1)
    report = verify_clip(clip)
    assert set(report.frames_decoded.values()) == {0}
    assert {problem.code for problem in report.problems} == {"decode"}
