from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage
from numpy.typing import NDArray

from runtime.formats.mcap_files import McapTopicReader, RawMessage
from runtime.formats.topics import ChannelSpec
from runtime.inference.model_import import import_model
from runtime.messages import ClipVariant, Packet
from runtime.privacy.blurring import Blurring, BlurSettings, DetectorError
from runtime.privacy.detector import Detector
from runtime.privacy.pixels import CELLS, ClipEncoder, blur_regions, grown
from runtime.privacy.policy import BlurPlan, PrivacyRules
from runtime.privacy.treatment import ClipTreatment
from runtime.recording.clip_file import decode, read_jpeg, read_manifest
from runtime.recording.clip_plan import ClipPlan
from runtime.recording.clip_sink import FolderClipSink
from runtime.recording.layout import HistoryLayout
from runtime.recording.recorder import RETRY_NS, Recorder
from runtime.recording.sealing_policy import (
    ClipWindow,
    SealingPolicy,
    SealingRefusal,
    SealingRefusedError,
    SignalHistory,
    Treatment,
)
from runtime.recording.verify import verify_clip
from tests.runtime.inference.tiny_networks import fixed_network
from tests.runtime.privacy.private_history import (
    END_NS,
    north_of,
    recorder_with,
    seal,
    video_messages,
    write_history,
)
from tests.runtime.recording.recorded_rig import PERIOD_NS, SIZE, START_NS, encode_camera, firing, rewrite

#: Where the tiny detector always sees a face, in pixels of 160 x 96.
FACE = (40, 24, 88, 72)
Picture = NDArray[np.uint8]


class Scripted:
    """A detector that looks at no picture: boxes by time."""

    def __init__(self, script: Callable[[int], list[tuple[float, float, float, float]]]) -> None:
        self._script = script

    def boxes_px(self, picture: av.VideoFrame, time_ns: int) -> NDArray[np.float32]:
        return np.array(self._script(round((time_ns - START_NS) / PERIOD_NS)), np.float32).reshape(-1, 4)


def encode_noise(camera: str, count: int, start_ns: int = START_NS, size: tuple[int, int] = SIZE) -> list[Packet]:
    """Pictures full of detail that stays in place: whatever was smoothed stands out."""
    detail = np.random.default_rng(7).integers(0, 2, (size[1] // 2, size[0] // 2), np.uint8) * 180 + 30
    luma = detail.repeat(2, 0).repeat(2, 1)
    planes = np.concatenate([luma.reshape(-1), np.full(size[0] * size[1] // 2, 128, np.uint8)])
    encoder, packets = ClipEncoder(*size), []
    for index in range(count):
        data = encoder.encode(planes.reshape(size[1] * 3 // 2, size[0]), index % 10 == 0)
        time_ns = start_ns + index * PERIOD_NS
        packets.append(Packet(camera, index, time_ns, time_ns, "h264", index % 10 == 0, data))
    return packets


def luma_of(packets: list[Packet]) -> list[Picture]:
    return [decoded.frame.to_ndarray()[: decoded.frame.height].copy() for decoded in decode(iter(packets))]


def detail(picture: Picture, box: tuple[int, int, int, int], inset: int = 4) -> float:
    """How much neighbours differ within a box, away from its edges."""
    left, top, right, bottom = box
    region = picture[top + inset : bottom - inset, left + inset : right - inset].astype(float)
    return float(np.abs(np.diff(region, axis=1)).mean())


def blurred(packets: list[Packet], blurring: Blurring) -> list[Packet]:
    return [message.packet() for message in blurring.transform(video_messages(packets))]


# Regions and frames


def test_a_region_keeps_a_few_means_and_nothing_around_it_changes() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (96 * 3 // 2, 160), np.uint8)
    before = pixels.copy()
    blur_regions(pixels, 160, 96, [(40, 24, 88, 72)])
    inside = pixels[:96][24:72, 40:88]
    assert len(np.unique(inside)) <= CELLS * CELLS
    assert abs(float(inside.mean()) - float(before[:96][24:72, 40:88].mean())) < 2
    outside = np.ones((96, 160), bool)
    outside[24:72, 40:88] = False
    assert (pixels[:96][outside] == before[:96][outside]).all()
    colours = pixels.reshape(-1)[160 * 96 :].reshape(2, 48, 80)
    assert all(len(np.unique(plane[12:36, 20:44])) <= CELLS * CELLS for plane in colours)


@pytest.mark.parametrize("box", [(-50.0, -50.0, 10.0, 10.0), (150.5, 90.5, 400.0, 400.0), (10.2, 10.7, 11.1, 11.2)])
def test_a_box_at_the_edge_or_of_a_pixel_is_blurred_within_the_picture(box: tuple[float, ...]) -> None:
    left, top, right, bottom = grown(box, 0.2, 160, 96)  # type: ignore[arg-type]
    assert 0 <= left < right <= 160
    assert 0 <= top < bottom <= 96
    assert left <= max(box[0], 0)
    assert right >= min(box[2], 160)
    assert not (left | top | right | bottom) & 1


def test_a_region_is_blurred_in_every_frame_and_the_rest_keeps_its_detail() -> None:
    packets = encode_noise("front_main", 40)
    shown = blurred(packets, Blurring(Scripted(lambda index: [FACE]), BlurSettings(0.0, 0.0)))
    assert [packet.time_ns for packet in shown] == [packet.time_ns for packet in packets]
    assert [packet.is_key for packet in shown] == [packet.is_key for packet in packets]
    assert all(packet.transcoded and packet.codec == "h264" for packet in shown)
    for picture in luma_of(shown):
        assert detail(picture, FACE) < 5
        assert detail(picture, (100, 4, 156, 92)) > 35


def test_a_face_that_the_detector_misses_for_some_frames_stays_blurred() -> None:
    packets = encode_noise("front_main", 60)
    seen = {20, 25, 33}  # of 60 frames
    detector = Scripted(lambda index: [FACE] if index in seen else [])
    shown = luma_of(blurred(packets, Blurring(detector, BlurSettings(hold_s=0.25, grow=0.0))))
    details = [detail(picture, FACE) for picture in shown]
    assert all(value < 5 for value in details[15:39])  # five frames before the first, five after the last
    assert all(value > 35 for value in [*details[:14], *details[40:]])


def test_a_frame_that_cannot_be_decoded_does_not_enter_the_clip() -> None:
    packets = encode_noise("front_main", 30)
    packets[12] = replace(packets[12], data=b"\x00\x00\x00\x01\x41" + b"\xff" * 20)
    blurring = Blurring(Scripted(lambda index: [FACE]), BlurSettings(0.0, 0.0))
    shown = blurred(packets, blurring)
    assert len(shown) + blurring.dropped["front_main"] == 30
    assert all(detail(picture, FACE) < 5 for picture in luma_of(shown))


def test_a_frame_that_no_detector_has_looked_at_does_not_enter_the_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Should the two passes ever differ: what only the second can decode was never looked at."""
    import runtime.privacy.blurring as module

    packets, first_decoder, decode_packet = encode_noise("front_main", 20), [], module.decode_packet

    def decode_but_once(decoder: av.VideoCodecContext, packet: Packet) -> object:
        first_decoder.append(decoder)
        frames = decode_packet(decoder, packet)
        is_blind = decoder is first_decoder[0] and packet.time_ns == packets[7].time_ns
        return [] if is_blind else frames

    monkeypatch.setattr(module, "decode_packet", decode_but_once)
    blurring = Blurring(Scripted(lambda index: [FACE]), BlurSettings())
    shown = blurred(packets, blurring)
    assert [packet.time_ns for packet in shown] == [p.time_ns for p in packets if p is not packets[7]]
    assert blurring.dropped == {"front_main": 1}


def test_a_detector_that_fails_ends_the_clip() -> None:
    def fail(index: int) -> list[tuple[float, float, float, float]]:
        raise DetectorError("out of memory")

    with pytest.raises(SealingRefusedError, match="detector: out of memory"):
        blurred(encode_noise("front_main", 5), Blurring(Scripted(fail), BlurSettings()))


def test_cameras_that_are_not_chosen_pass_as_they_are() -> None:
    packets = encode_noise("rear", 10)
    blurring = Blurring(Scripted(lambda index: [FACE]), BlurSettings(cameras=("front_main",)))
    assert blurred(packets, blurring) == packets


def test_the_order_of_all_messages_stays_while_pictures_wait() -> None:
    from runtime.formats.json_messages import encode_signals
    from runtime.formats.topics import signals_channel

    video = video_messages(encode_noise("front_main", 30))
    words = [
        RawMessage(signals_channel("vehicle"), m.time_ns + 1, m.wall_ns, 0, encode_signals({"speed_mps": 1.0}))
        for m in video
    ]
    mixed = [message for pair in zip(video, words, strict=True) for message in pair]
    shown = list(Blurring(Scripted(lambda index: []), BlurSettings()).transform(mixed))
    assert [message.time_ns for message in shown] == [message.time_ns for message in mixed]
    assert shown[1::2] == words


def image_message(data: bytes, kind: str = "jpeg", schema: str = "foxglove.CompressedImage") -> RawMessage:
    channel = ChannelSpec("/camera/front_main/thumbnail", schema, "protobuf", b"", "protobuf")
    image = CompressedImage(frame_id="front_main", data=data, format=kind)
    return RawMessage(channel, START_NS, START_NS, 0, image.SerializeToString())


def test_a_still_is_blurred_and_a_picture_of_another_kind_dropped() -> None:
    (picture,) = luma_of(encode_noise("front_main", 1))
    _, jpeg = cv2.imencode(".jpg", picture)
    blurring = Blurring(Scripted(lambda index: [FACE]), BlurSettings(0.0, 0.0))
    raw = image_message(b"raw", schema="foxglove.RawImage")
    (shown,) = blurring.transform([image_message(jpeg.tobytes()), image_message(b"x", "webp"), raw])
    pixels = np.frombuffer(CompressedImage.FromString(shown.data).data, np.uint8)
    grey = np.asarray(cv2.imdecode(pixels, cv2.IMREAD_GRAYSCALE), np.uint8)
    assert detail(grey, FACE) < 5
    assert detail(grey, (100, 4, 156, 92)) > 35
    assert blurring.dropped == {"foxglove.CompressedImage": 1, "foxglove.RawImage": 1}


# With a bundle, through the recorder


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """A bundle whose network sees one face at one place in every picture."""
    side, cells = 32, 21
    out = np.zeros((1, cells, 85), np.float32)
    scale = side / SIZE[0]  # letterboxed into the top left
    x0, y0, x1, y1 = (value * scale for value in FACE)
    # Cell (0, 0) of stride 8: centre = offset * 8, side = exp(size) * 8.
    out[0, 0, :5] = ((x0 + x1) / 16, (y0 + y1) / 16, np.log((x1 - x0) / 8), np.log((y1 - y0) / 8), 1.0)
    out[0, 0, 5] = 0.9
    (tmp_path / "faces.onnx").write_bytes(fixed_network({"out": out}, [1, 3, side, side]).SerializeToString())
    return import_model(tmp_path / "faces.onnx", "yolox", tmp_path / "faces", "faces")


def test_a_sealed_clip_is_blurred_in_every_frame_of_every_camera_and_verifies(tmp_path: Path, faces: Path) -> None:
    packets = {name: encode_noise(name, 280) for name in ("front_main", "rear")}
    history = write_history(tmp_path / "history", north_of(0), [firing(6.0)], packets)
    rules = PrivacyRules(blur=BlurPlan(faces, ("person",), 0.2, settings=BlurSettings(0.2, 0.0)))
    _, (clip,) = seal(history, tmp_path / "clips", rules)
    assert verify_clip(clip.path).problems == []
    with McapTopicReader(clip.path, strict=True) as reader:
        manifest = read_manifest(reader)
        for camera in packets:
            pictures = luma_of(list(reader.packets(camera)))
            assert len(pictures) == manifest.cameras[camera].frames == manifest.privacy["blurring"]["frames"][camera]
            assert len(pictures) >= 100
            assert all(detail(picture, FACE, 6) < 8 for picture in pictures)
            assert all(detail(picture, (100, 4, 156, 92)) > 35 for picture in pictures)
    assert manifest.cameras["rear"].transcoded
    assert manifest.privacy["blurring"]["detector"] == "faces"
    assert manifest.privacy["blurring"]["classes"] == ["person"]
    one_less = rewrite(clip.path, manifest=lambda said: said["privacy"]["blurring"]["frames"].update(rear=99))
    assert [problem.code for problem in verify_clip(one_less).problems] == ["privacy"]


class BlursEvery(SealingPolicy):
    """Blurs what a scripted detector says; the rest of the way is the recorder's own."""

    def __init__(self, detector: Scripted) -> None:
        self._detector = detector

    def admit(self, plan: ClipPlan, window: ClipWindow, history: SignalHistory) -> Treatment | SealingRefusal:
        return ClipTreatment(os.urandom, blurring=Blurring(self._detector, BlurSettings(0.2, 0.0)))


@pytest.mark.parametrize("cameras", [("front_main",), ("front_main", "rear")])
def test_what_came_with_first_frames_that_could_not_be_made_safe_stays_out_with_them(
    tmp_path: Path, cameras: tuple[str, ...]
) -> None:
    """The key frame at 3 s cannot be decoded; the window begins at 3.2 s, the other camera at 3.15 s."""
    shifts_ns = {"front_main": 0, "rear": 3 * PERIOD_NS}
    packets = {name: encode_noise(name, 100, START_NS + shifts_ns[name]) for name in cameras}
    packets["front_main"][60] = replace(packets["front_main"][60], data=b"\x00\x00\x00\x01\x65" + b"\xff" * 20)
    fired = [firing(4.2, pre_s=1.0, post_s=0.3)]
    history = write_history(tmp_path / "history", north_of(0), fired, packets, until_s=5.0, fix_period_s=0.01)
    policy = BlursEvery(Scripted(lambda index: []))
    (clip,) = Recorder(history, FolderClipSink(tmp_path / "clips"), policy=policy).step(END_NS)
    assert verify_clip(clip.path).problems == []
    with McapTopicReader(clip.path, strict=True) as reader:
        manifest = read_manifest(reader)
    assert manifest.start_ns == START_NS + (3_150_000_000 if "rear" in cameras else 3_200_000_000)
    assert manifest.cameras["front_main"].first_ns == START_NS + 3_500_000_000
    assert manifest.privacy["dropped"]["front_main"] == 10


def test_a_thumbnail_is_blurred_where_the_frames_around_it_show_a_face(tmp_path: Path) -> None:
    packets = encode_noise("front_main", 280)
    is_key = {index for index, packet in enumerate(packets) if packet.is_key}
    history = write_history(
        tmp_path / "history", north_of(0), [firing(6.0, variant=ClipVariant.THUMBNAILS)], {"front_main": packets}
    )
    policy = BlursEvery(Scripted(lambda index: [] if index in is_key else [FACE]))  # it misses every key frame
    (clip,) = Recorder(history, FolderClipSink(tmp_path / "clips"), policy=policy).step(END_NS)
    assert verify_clip(clip.path).problems == []
    with McapTopicReader(clip.path, strict=True) as reader:
        manifest, thumbnails = read_manifest(reader), list(reader.thumbnails("front_main"))
        assert {packet.time_ns for packet in thumbnails} <= {packets[index].time_ns for index in is_key}
        assert not list(reader.packets("front_main"))
    assert len(thumbnails) >= 5
    assert manifest.privacy["blurring"]["frames"] == {"front_main": len(thumbnails)}
    assert manifest.thumbnails is not None
    assert manifest.thumbnails.failed == 0
    for packet in thumbnails:
        picture = cv2.cvtColor(read_jpeg(packet), cv2.COLOR_RGB2GRAY)
        assert detail(picture, FACE, 6) < 12
        assert detail(picture, (100, 4, 156, 92)) > 30


def test_a_missing_detector_means_no_clip_and_never_an_unblurred_one(tmp_path: Path, faces: Path) -> None:
    history = write_history(tmp_path / "history", north_of(0), [firing(6.0)])
    recorder = recorder_with(history, tmp_path / "clips", PrivacyRules(blur=BlurPlan(faces)))
    network = faces / "model.fp32.onnx" if (faces / "model.fp32.onnx").exists() else next(faces.glob("*.onnx"))
    whole = network.read_bytes()
    for broken in (whole[:-10], None):
        network.unlink()
        if broken is not None:
            network.write_bytes(broken)
        assert recorder.step(END_NS) == []
        assert "detector:" in recorder.status.last_error
        assert list((tmp_path / "clips").iterdir()) == []
        assert len(HistoryLayout(history).list_firings()) == 1
        recorder._retry_at_ns.clear()
        network.touch()
    network.write_bytes(whole)
    assert len(recorder.step(END_NS + RETRY_NS)) == 1


def test_a_class_that_the_network_does_not_know_is_refused_with_the_nearest(faces: Path) -> None:
    with pytest.raises(DetectorError, match="did you mean 'person'"):
        Detector(faces, ("persn",), 0.2, 1)


# A real network on real pictures. No face network is at hand: YOLOX-nano's cars and persons stand for faces and plates.


@pytest.mark.real
def test_real_cars_are_unreadable_in_every_frame(tmp_path: Path, real_material: Path) -> None:
    bundle = import_model(real_material / "models" / "yolox_nano.onnx", "yolox", tmp_path / "yolox")
    packets = _highway(real_material / "video" / "highway_day_1280x720.mp4")
    history = write_history(
        tmp_path / "history", north_of(0), [firing(0.9, pre_s=0.9, post_s=0.8)], {"front_main": packets}, 1.9
    )
    classes, settings = ("car", "truck", "bus", "person"), BlurSettings(hold_s=0.2, grow=0.1)
    _, (clip,) = seal(history, tmp_path / "clips", PrivacyRules(blur=BlurPlan(bundle, classes, 0.3, 2, settings)))
    assert verify_clip(clip.path).problems == []
    detector = Detector(bundle, classes, 0.3, 2)
    source = {packet.time_ns: packet for packet in packets}
    with McapTopicReader(clip.path, strict=True) as reader:
        shown = list(reader.packets("front_main"))
    assert len(shown) >= 30
    originals = {decoded.time_ns: decoded.frame for decoded in decode(iter(packets))}
    sharp, left_over = [], []
    for decoded in decode(iter(shown)):
        assert decoded.time_ns in source
        before, after = originals[decoded.time_ns].to_ndarray()[:720], decoded.frame.to_ndarray()[:720]
        for box in detector.boxes_px(originals[decoded.time_ns], decoded.time_ns).astype(int).tolist():
            sharp.append(typical_step(before, box))
            left_over.append(typical_step(after, box))
    assert len(sharp) > 50
    assert np.median(sharp) > 1.5
    assert max(left_over) <= 1.0  # within the cells there is nothing left; only their edges are steps


def typical_step(picture: Picture, box: list[int]) -> float:
    """The median step between neighbours: of a picture full of detail it is not small, of flat cells it is."""
    left, top, right, bottom = box
    return float(np.median(np.abs(np.diff(picture[top:bottom, left:right].astype(float), axis=1))))


def _highway(path: Path) -> list[Packet]:
    """The video as a camera would give it: 20 Hz, key frames every ten."""
    with av.open(str(path)) as container:
        frames = [frame.reformat(format="yuv420p").to_ndarray() for frame in container.decode(video=0)]
    encoder, packets = ClipEncoder(1280, 720), []
    for index, planes in enumerate(frames):
        time_ns = START_NS + index * PERIOD_NS
        data = encoder.encode(planes, index % 10 == 0)
        packets.append(Packet("front_main", index, time_ns, time_ns, "h264", index % 10 == 0, data))
    return packets


def test_plain_packets_of_the_rig_blur_too() -> None:
    packets = encode_camera("front_main", 25)
    shown = blurred(packets, Blurring(Scripted(lambda index: [FACE]), BlurSettings()))
    assert len(luma_of(shown)) == 25
