"""A clip comes from a vehicle, which may be anybody's, over a link and a disk, which may damage it.

Whatever is in it: looking at it, verifying it and exporting it end with their own errors, soon, and write nothing
outside of the folder that was asked for.
"""

from __future__ import annotations

import io
import json
import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcap.opcode import Opcode
from recorded_rig import SECOND_NS, SIZE, START_NS, Recording, encode_camera, firing, rewrite, session
from rich.console import Console

from runtime.cli import main
from runtime.formats import mcap_reader, mcap_records
from runtime.formats.foxglove_messages import encode_thumbnail, encode_video
from runtime.formats.jpeg_size import jpeg_size
from runtime.formats.mcap_files import McapFileError, McapTopicReader, McapTopicWriter, RawMessage
from runtime.formats.mcap_records import MAGIC
from runtime.messages import ClipVariant
from runtime.recording.clip_file import ClipError
from runtime.recording.clip_report import MAX_PROBLEMS
from runtime.recording.clip_sink import FolderClipSink
from runtime.recording.export import PARTS, export_clip
from runtime.recording.history_writer import HistoryWriter
from runtime.recording.inspection import inspect_clip, print_summary
from runtime.recording.manifest import MANIFEST_ATTACHMENT, MAX_CLIP_CAMERAS, ManifestError
from runtime.recording.recorder import Recorder
from runtime.recording.verify import verify_clip

Check = Callable[[dict[ClipVariant, bytes], Path, st.DataObject], None]
OWN_ERRORS = (McapFileError, ClipError, ManifestError)
CAMERAS = ("front_main", "rear")


def sealed_bytes(folder: Path, variant: ClipVariant) -> bytes:
    """Two cameras, 0.6 s: small enough to be looked at hundreds of times."""
    writer = HistoryWriter(folder / "history", 60, 256_000_000, session())
    writer.calibrate("front_main", *SIZE, (100, 0, 80, 0, 100, 48, 0, 0, 1))
    packets = {
        camera: encode_camera(camera, 60, START_NS + row * 1_000_000, seed=row) for row, camera in enumerate(CAMERAS)
    }
    event = firing(1.3, pre_s=0.3, post_s=0.3, variant=variant)
    Recording(packets, (event,), until_s=2.8).write(writer)
    writer.close()
    (sealed,) = Recorder(folder / "history", FolderClipSink(folder / "clips")).step(START_NS + 14 * SECOND_NS)
    return sealed.path.read_bytes()


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[ClipVariant, bytes]:
    return {variant: sealed_bytes(tmp_path_factory.mktemp(variant.value), variant) for variant in ClipVariant}


@pytest.fixture
def small_clip(clips: dict[ClipVariant, bytes], tmp_path: Path) -> Path:
    path = tmp_path / "clip.mcap"
    path.write_bytes(clips[ClipVariant.FULL])
    return path


@pytest.fixture
def thumbnails(clips: dict[ClipVariant, bytes], tmp_path: Path) -> Path:
    path = tmp_path / "small.mcap"
    path.write_bytes(clips[ClipVariant.THUMBNAILS])
    return path


def shown(clip: Path) -> str:
    """What `shadowrig clip inspect` prints."""
    text = io.StringIO()
    print_summary(inspect_clip(clip), Console(file=text, width=200))
    return text.getvalue()


def look_at(clip: Path, parts: tuple[str, ...] = PARTS) -> list[str]:
    """All that can be done with a clip; the errors, which must be our own."""
    errors = []
    ways: list[Callable[[], object]] = [lambda: shown(clip), lambda: verify_clip(clip).to_json()]
    ways += [lambda part=part: export_clip(clip, clip.parent / "out", [part]) for part in parts]  # type: ignore[misc]
    for way in ways:
        try:
            way()
        except OWN_ERRORS as error:
            errors.append(str(error))
    return errors


def saying(clip: Path, *place: str | int, value: Any) -> Path:
    """The clip with another value at one place of its manifest."""

    def change(said: dict[str, Any]) -> None:
        at: Any = said
        for step in place[:-1]:
            at = at[step]
        at[place[-1]] = value

    return rewrite(clip, manifest=change)


def holding(clip: Path, topic: str, change: Callable[[RawMessage], RawMessage]) -> Path:
    """The clip with every message of one topic changed."""

    def one(message: RawMessage) -> Iterator[RawMessage]:
        yield change(message) if message.topic == topic else message

    return rewrite(clip, one)


def places(value: Any, before: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every place in a manifest; of a list the first entry's."""
    if before:
        yield before
    entries = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for step, within in entries:
        yield from places(within, (*before, step))


# One thing at a time


@pytest.mark.parametrize("name", ["nobody", "front"])
def test_a_reference_camera_that_the_clip_does_not_have_is_refused_with_place_value_and_fix(
    small_clip: Path, name: str
) -> None:
    bad = saying(small_clip, "reference_camera", value=name)
    with pytest.raises(ManifestError, match=rf"reference_camera '{name}' .*\(front_main, rear\): name one of them"):
        export_clip(bad, bad.parent / "out", ["mosaic"])
    assert [problem.code for problem in verify_clip(bad).problems] == ["manifest"]


def test_a_number_that_nothing_can_count_with_is_refused_with_its_place_and_value(small_clip: Path) -> None:
    for place, value in (
        (("start_wall_ns",), 2**70),
        (("firings", 0, "pre_s"), 1e308),
        (("cameras", "rear", "bytes"), -1),
        (("provenance", "cameras", "rear", "rate_hz"), -20.0),
    ):
        with pytest.raises(ManifestError, match=".".join(map(str, place))) as refusal:
            inspect_clip(saying(small_clip, *place, value=value))
        assert repr(value) in str(refusal.value)


def test_more_cameras_than_any_rig_has_are_refused_and_their_decoders_never_opened(small_clip: Path) -> None:
    with McapTopicReader(small_clip) as reader:
        said = json.loads(reader.attachments()[MANIFEST_ATTACHMENT])["cameras"]["rear"]
    many = {f"camera_{number}": said for number in range(MAX_CLIP_CAMERAS + 1)}
    with pytest.raises(ManifestError, match="at most 64"):
        inspect_clip(saying(small_clip, "cameras", value=many))

    def multiplied(message: RawMessage) -> Iterator[RawMessage]:
        yield message
        if message.topic == "/camera/rear/video" and message.packet().is_key:
            for camera in many:
                spec = replace(message.channel, topic=f"/camera/{camera}/video", metadata={"camera": camera})
                yield replace(message, channel=spec)

    report = verify_clip(rewrite(small_clip, multiplied))
    assert len(report.frames_decoded) == MAX_CLIP_CAMERAS
    assert any(f"more than {MAX_CLIP_CAMERAS} cameras" in problem.message for problem in report.problems)


def test_names_in_a_clip_are_shown_as_text_and_steer_neither_rich_nor_the_terminal(small_clip: Path) -> None:
    text = shown(saying(small_clip, "firings", 0, "rule", value="[/red] \x1b[2J hello"))
    assert "[/red] ?[2J hello" in text
    assert "\x1b[2J" not in shown(saying(small_clip, "ended_early", value="\x1b[2J\r\n"))


def test_a_lag_without_its_largest_is_shown_as_such(small_clip: Path) -> None:
    assert "- ms" in shown(saying(small_clip, "cameras", "rear", "lag_max_ms", value=None))


def test_a_time_that_no_clock_tells_is_damage(small_clip: Path) -> None:
    late = 2**64 - 1
    bad = holding(small_clip, "/vehicle", lambda message: replace(message, time_ns=late))
    assert any(str(late) in problem.message for problem in verify_clip(bad).problems)
    assert all(str(late) in error for error in look_at(bad))


HALF_A_PAIR = [b'{"\\ud800": 1}', b'{"mode": "on \\ud800"}', b'{"mode": "\xed\xa0\x80"}']


@pytest.mark.parametrize("data", [b"[1]", b"7", b"nothing", b"\xff", b"[" * 100_000, *HALF_A_PAIR])
def test_signals_that_are_none_are_an_error_that_names_topic_and_time(small_clip: Path, data: bytes) -> None:
    bad = holding(small_clip, "/vehicle", lambda message: replace(message, data=data))
    with pytest.raises(McapFileError, match=r"/vehicle: the message at \d+ ns is no signals"):
        export_clip(bad, bad.parent / "out", ["signals"])


def test_half_a_surrogate_pair_anywhere_is_told_by_the_commands_and_leaves_no_half_table(
    small_clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = holding(small_clip, "/vehicle", lambda message: replace(message, data=HALF_A_PAIR[0]))
    assert main(["clip", "export", str(bad), "--out", str(bad.parent / "out"), "--parts", "signals"]) == 2
    assert not (bad.parent / "out" / "signals.csv").exists()
    assert main(["clip", "verify", "--json", "-", str(bad)]) == 1
    assert "surrogates not allowed" in capsys.readouterr().out
    for topic in ("/firing", "/tick", "/prediction"):
        look_at(holding(small_clip, topic, lambda message: replace(message, data=b'{"\\ud800": "\\ud800"}')), ())
    assert main(["clip", "inspect", str(saying(small_clip, "ended_early", value="\ud800"))]) == 2


def test_more_signals_than_a_table_can_hold_are_refused(small_clip: Path) -> None:
    def many(message: RawMessage) -> RawMessage:
        return replace(message, data=json.dumps({f"s{message.time_ns}_{n}": n for n in range(1000)}).encode())

    with pytest.raises(ClipError, match="more than 4096 signals"):
        export_clip(holding(small_clip, "/vehicle", many), small_clip.parent / "out", ["signals"])


def test_annotations_that_are_none_or_reach_beyond_every_picture_break_nothing(small_clip: Path) -> None:
    topic = "/camera/front_main/annotations"
    torn = holding(small_clip, topic, lambda message: replace(message, data=b"\xff\xff"))
    errors = look_at(torn, ("mosaic",))
    assert len(errors) == 1
    assert f"{topic}: the message at" in errors[0]
    for value in (float("nan"), float("inf"), 1e300):
        assert look_at(holding(small_clip, topic, lambda message, v=value: replace(message, data=box(v)))) == []  # type: ignore[misc]


def box(value: float) -> bytes:
    """Annotations of one box with a corner at `value`."""
    from foxglove_schemas_protobuf.ImageAnnotations_pb2 import ImageAnnotations
    from foxglove_schemas_protobuf.PointsAnnotation_pb2 import PointsAnnotation

    message = ImageAnnotations()
    outline = message.points.add(type=PointsAnnotation.LINE_LOOP)
    for x in (1.0, value, value, 1.0):
        outline.points.add(x=x, y=value)
    return bytes(message.SerializeToString())


def test_a_thumbnail_that_claims_a_giant_picture_is_refused_before_it_is_decoded(thumbnails: Path) -> None:
    def giant(message: RawMessage) -> RawMessage:
        jpeg = bytearray(message.packet().data)
        size = jpeg.index(b"\xff\xc0") + 5
        jpeg[size : size + 4] = (60_000).to_bytes(2, "big") * 2
        assert jpeg_size(bytes(jpeg)) == (60_000, 60_000)
        return replace(message, data=encode_thumbnail("rear", message.time_ns, bytes(jpeg)))

    bad = holding(thumbnails, "/camera/rear/thumbnail", giant)
    assert any("60000 x 60000 pixels" in problem.message for problem in verify_clip(bad).problems)
    assert all("60000 x 60000 pixels" in error for error in look_at(bad, ("mosaic", "sheet")))


@pytest.mark.parametrize("width", ["²", "9" * 5000, "-1", "0", ""])
def test_a_thumbnail_that_says_nonsense_of_its_source_is_shown_as_it_is(thumbnails: Path, width: str) -> None:
    def nonsense(message: RawMessage) -> RawMessage:
        return replace(message, channel=replace(message.channel, metadata={"camera": "rear", "source_width": width}))

    assert look_at(holding(thumbnails, "/camera/rear/thumbnail", nonsense), ("sheet",)) == []


@pytest.mark.parametrize("data", [b"", b"\x00\x00\x00\x01\x65", b"no video at all"])
def test_video_that_is_none_is_an_error_of_the_clip(small_clip: Path, data: bytes) -> None:
    def ruined(message: RawMessage) -> RawMessage:
        return replace(message, data=encode_video(replace(message.packet(), data=data)))

    errors = look_at(holding(small_clip, "/camera/rear/video", ruined), ("cameras", "mosaic", "sheet"))
    assert len(errors) >= 1
    assert all("rear" in error for error in errors)


def test_a_clip_of_a_thousand_broken_messages_lists_some_and_counts_the_rest(small_clip: Path) -> None:
    def broken(message: RawMessage) -> Iterator[RawMessage]:
        yield message
        if message.topic == "/vehicle":
            for number in range(1, 101):
                yield replace(message, data=b"{", time_ns=message.time_ns + number)

    report = verify_clip(rewrite(small_clip, broken))
    assert len(report.problems) == MAX_PROBLEMS
    assert report.problems_beyond.total() > 500
    assert report.lines()[-1].startswith(f"and {report.problems_beyond.total()} more: ")


def test_an_export_writes_no_part_through_a_link(small_clip: Path) -> None:
    treasure = small_clip.parent / "treasure"
    treasure.write_text("mine")
    out = small_clip.parent / "out"
    out.mkdir()
    for part, name in (
        ("mosaic", "mosaic.mp4"),
        ("sheet", "sheet.png"),
        ("signals", "signals.csv"),
        ("manifest", "manifest.json"),
    ):
        (out / name).symlink_to(treasure)
        with pytest.raises(ClipError, match="leads out of"):
            export_clip(small_clip, out, [part])
    assert treasure.read_text() == "mine"


def listing_twice(clip: Path, kind: Opcode) -> Path:
    """The clip with a summary that lists its records of one kind a second time."""
    whole = clip.read_bytes()
    footer = len(whole) - len(MAGIC) - 9 - 20
    (summary,) = struct.unpack_from("<Q", whole, footer + 9)
    records, at = [], summary
    while at < footer and whole[at] != Opcode.SUMMARY_OFFSET:
        end = at + 9 + int.from_bytes(whole[at + 1 : at + 9], "little")
        records.append(whole[at:end])
        at = end
    again = [record for record in records if record[0] == kind]
    assert again
    said = struct.pack("<BQQQI", Opcode.FOOTER, 20, summary, 0, 0)
    bad = clip.with_name("bad.mcap")
    bad.write_bytes(whole[:summary] + b"".join([*records, *again]) + said + MAGIC)
    return bad


@pytest.mark.parametrize("kind", [Opcode.CHUNK_INDEX, Opcode.ATTACHMENT_INDEX, Opcode.METADATA_INDEX])
def test_a_summary_that_lists_a_record_twice_is_not_believed(small_clip: Path, kind: Opcode) -> None:
    """With a million entries it would have one megabyte read a million times."""
    bad = listing_twice(small_clip, kind)
    with pytest.raises(McapFileError, match=r"it lists a record at byte \d+, inside another one"):
        inspect_clip(bad)
    assert any("it lists a record" in problem.message for problem in verify_clip(bad).problems)


@pytest.mark.parametrize("command", [["sheet"], ["mosaic"], ["export", "--parts", "manifest"]])
def test_a_place_that_cannot_be_written_is_one_line_and_exit_code_1(
    small_clip: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    in_the_way = small_clip.parent / "file"
    in_the_way.touch()
    assert main(["clip", *command, str(small_clip), "--out", str(in_the_way / "picture.png")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert str(in_the_way) in line


def test_a_clip_that_cannot_be_read_is_one_line_whatever_is_asked_of_it(
    small_clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = saying(small_clip, "reference_camera", value="nobody")
    for command in (["inspect"], ["export", "--out", str(bad.parent / "out")], ["sheet", "--out", str(bad) + ".png"]):
        assert main(["clip", *command, str(bad)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "reference_camera 'nobody' is none of the clip's cameras" in line


@pytest.mark.parametrize("is_finished", [True, False])
def test_chunks_that_unpack_to_far_more_than_the_file_are_not_all_unpacked(
    small_clip: Path, monkeypatch: pytest.MonkeyPatch, is_finished: bool
) -> None:
    """Gigabytes of zeros take a few kilobytes each."""
    monkeypatch.setattr(mcap_records, "MAX_CHUNK_BYTES", 1_200_000)
    bomb = small_clip.with_name("bomb.mcap")
    with McapTopicReader(small_clip) as reader:
        channel = next(spec for spec in reader.channels.values() if spec.topic == "/vehicle")
    with McapTopicWriter(bomb) as writer:
        for number in range(40):
            writer.write(channel, b" " * 1_000_000 + b"{}", START_NS + number, 0, number)
            writer.flush()
    if not is_finished:
        bomb.write_bytes(bomb.read_bytes()[:-20])
    size = bomb.stat().st_size
    assert size < 40_000
    with McapTopicReader(bomb) as reader:
        read = sum(len(message.data) for message in reader.messages())
        assert read <= 2 * 1_200_000 + 200 * size
        assert read < 40 * 1_000_000
        assert any("unpack to" in damage for damage in reader.damage)


def test_chunks_that_all_overlap_in_time_are_not_all_held_in_memory(
    small_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mcap_reader, "MAX_WAITING_BYTES", 50_000)
    path = small_clip.with_name("overlapping.mcap")
    with McapTopicReader(small_clip) as reader:
        channel = next(spec for spec in reader.channels.values() if spec.topic == "/vehicle")
    with McapTopicWriter(path) as writer:
        for number in range(20):
            for time_ns in (START_NS, START_NS + SECOND_NS + number):
                writer.write(channel, random.Random(time_ns).randbytes(10_000), time_ns, 0, number)
            writer.flush()
    with McapTopicReader(path) as reader:
        assert sum(1 for _ in reader.messages()) == 40
        assert reader.damage == ["more than 50000 bytes of chunks overlap in time: their order is not kept"]
    with pytest.raises(McapFileError, match="overlap in time"), McapTopicReader(path, strict=True) as reader:
        list(reader.messages())


# Anything at all

WEIRD_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([-1, 0, 2**31, 2**62, 2**63, 2**64, -(2**70)]),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["nobody", "rear", "../x", "[/x]", "\x1b[2J", "x" * 10_000]),
    st.sampled_from([[], {}, [[]]]),
)


def check_manifest(clips: dict[ClipVariant, bytes], folder: Path, data: st.DataObject) -> None:
    clip = folder / "in" / "clip.mcap"
    clip.parent.mkdir(exist_ok=True)
    clip.write_bytes(clips[data.draw(st.sampled_from(ClipVariant))])
    with McapTopicReader(clip) as reader:
        said = json.loads(reader.attachments()[MANIFEST_ATTACHMENT])
    place = data.draw(st.sampled_from(list(places(said))))
    look_at(saying(clip, *place, value=data.draw(WEIRD_VALUES)))
    assert {path.name for path in folder.iterdir()} == {"in"}
    assert {path.name for path in clip.parent.iterdir()} <= {"clip.mcap", "bad.mcap", "out"}


def check_bytes(clips: dict[ClipVariant, bytes], folder: Path, data: st.DataObject) -> None:
    clip = folder / "in" / "clip.mcap"
    clip.parent.mkdir(exist_ok=True)
    clip.write_bytes(damaged(clips[data.draw(st.sampled_from(ClipVariant))], data))
    look_at(clip)
    assert {path.name for path in folder.iterdir()} == {"in"}
    assert {path.name for path in clip.parent.iterdir()} <= {"clip.mcap", "bad.mcap", "out"}


def damaged(whole: bytes, data: st.DataObject) -> bytes:
    """Bits flipped, bytes overwritten, torn off or repeated; half of it where the summary and the manifest are."""
    changed = bytearray(whole)
    kind = data.draw(st.sampled_from(["flip", "overwrite", "cut", "remove", "repeat"]))
    from_end = data.draw(st.booleans())
    place = data.draw(st.integers(0, len(whole) - 1 if not from_end else 6000))
    place = len(whole) - 1 - place if from_end else place
    if kind == "flip":
        changed[place] ^= 1 << data.draw(st.integers(0, 7))
    elif kind == "overwrite":
        piece = data.draw(st.binary(min_size=1, max_size=12) | st.sampled_from([b"\xff" * 8, bytes(8)]))
        changed[place : place + len(piece)] = piece
    elif kind == "cut":
        del changed[place:]
    elif kind == "remove":
        del changed[place : place + data.draw(st.integers(1, 64))]
    else:
        changed[place:place] = changed[place : place + data.draw(st.integers(1, 512))]
    return bytes(changed)


def check_messages(clips: dict[ClipVariant, bytes], folder: Path, data: st.DataObject) -> None:
    """Behind good checksums: the payloads and times of some messages are anything."""
    clip = folder / "in" / "clip.mcap"
    clip.parent.mkdir(exist_ok=True)
    clip.write_bytes(clips[data.draw(st.sampled_from(ClipVariant))])
    with McapTopicReader(clip) as reader:
        topic = data.draw(st.sampled_from(reader.topics))
    at, piece = data.draw(st.integers(0, 300)), data.draw(st.binary(max_size=40))
    moved_ns = data.draw(st.sampled_from([0, 0, 0, 1, -START_NS, SECOND_NS, 10**17]))

    def change(message: RawMessage) -> RawMessage:
        at_most = min(at, len(message.data))
        changed = message.data[:at_most] + piece + message.data[at_most + len(piece) :]
        return replace(message, data=changed, time_ns=max(0, message.time_ns + moved_ns))

    look_at(holding(clip, topic, change))
    assert {path.name for path in folder.iterdir()} == {"in"}


CHECKS = (check_manifest, check_bytes, check_messages)


def many_times(check: Check, rounds: int, clips: dict[ClipVariant, bytes], folders: pytest.TempPathFactory) -> None:
    @settings(max_examples=rounds, deadline=None, derandomize=rounds < 50, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def once(data: st.DataObject) -> None:
        check(clips, folders.mktemp("hostile"), data)

    once()


@pytest.mark.parametrize("check", CHECKS)
def test_nothing_in_a_clip_gets_anything_but_our_own_errors(
    clips: dict[ClipVariant, bytes], tmp_path_factory: pytest.TempPathFactory, check: Check
) -> None:
    many_times(check, 10, clips, tmp_path_factory)


@pytest.mark.sweep
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("check", CHECKS)
def test_nothing_in_very_many_clips_gets_anything_but_our_own_errors(
    clips: dict[ClipVariant, bytes],
    tmp_path_factory: pytest.TempPathFactory,
    check: Check,
    sweep_size: Callable[[int], int],
) -> None:
    many_times(check, sweep_size(200), clips, tmp_path_factory)
