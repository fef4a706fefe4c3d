"""Holds a clip to every promise of its manifest.

The clip is read once from start to end; what it holds is gathered anew and compared with what it says. Each broken
promise becomes one `Problem` with a code that programs can act on, the camera it is about, and both values. Nothing is
taken on trust: every frame is decoded, every payload hashed, every chunk's checksum compared.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import av

from runtime.formats.mcap_files import McapFileError, McapTopicReader, RawMessage
from runtime.formats.topics import CALIBRATION_SCHEMA, THUMBNAIL_SCHEMA, VIDEO_SCHEMA, camera_of
from runtime.messages import Packet
from runtime.recording.camera_tally import CameraTally
from runtime.recording.clip_file import (
    ClipError,
    decode_packet,
    decode_rest,
    new_decoder,
    read_jpeg,
    read_manifest,
    source_size,
)
from runtime.recording.clip_promises import (
    broken_calibrations,
    broken_edges,
    broken_request,
    broken_thumbnail,
    broken_topics,
    broken_variant,
    broken_window,
    lacking_parameter_sets,
    shows_nothing_at_start,
    unreadable,
)
from runtime.recording.clip_report import ClipReport, Problem
from runtime.recording.manifest import (
    MANIFEST_METADATA,
    MAX_CLIP_CAMERAS,
    PROVENANCE_METADATA,
    CameraManifest,
    ClipManifest,
    ManifestError,
    flat_provenance,
    parse_manifest,
)
from runtime.recording.privacy_promises import LocationPromise, broken_privacy, location_promised

_FIELDS_TO_COMPARE = (
    ("frames", "frame_count"),
    ("bytes", "byte_count"),
    ("first_ns", "first_time"),
    ("last_ns", "last_time"),
    ("sha256", "payload_hash"),
    ("codec", "codec"),
    ("transcoded", "transcoded_flag"),
    ("period_ms", "period"),
    ("gap_count", "gaps"),
    ("gaps", "gaps"),
    ("lag_median_ms", "lag"),
    ("lag_max_ms", "lag"),
    ("starts_late_s", "pre_roll"),
    ("ends_early_s", "post_roll"),
)


def verify_clip(path: Path | str) -> ClipReport:
    """Check the whole clip; whatever is wrong is in the report, only an unreadable path raises (OSError)."""
    report = ClipReport(Path(path))
    try:
        reader = McapTopicReader(path)
    except McapFileError as error:
        report.add(Problem("not_mcap", str(error)))
        return report
    with reader:
        if not reader.is_finished:
            report.add(Problem("truncated", "; ".join(reader.damage)))
        try:
            _Verification(reader, report).run()
        except McapFileError as error:
            report.add(Problem("damaged", str(error)))
    return report


class _Camera:
    """What one camera of the clip turned out to hold."""

    def __init__(self, rate_hz: float) -> None:
        self.tally = CameraTally(rate_hz)
        self.key_times_ns: list[int] = []
        self.decoder: av.VideoCodecContext | None = None
        self.decoded = 0
        self.sizes: set[tuple[int, int]] = set()


class _Verification:
    def __init__(self, reader: McapTopicReader, report: ClipReport) -> None:
        self._reader = reader
        self._report = report
        self._cameras: dict[str, _Camera] = {}
        self._counts: Counter[str] = Counter()
        self._calibrations_ns: dict[str, list[int]] = {}
        self._edges_ns: list[int] = []
        self._edges_wall_ns: list[int] = []
        self._location: LocationPromise | None = None

    def run(self) -> None:
        manifest = self._manifest()
        self._report.manifest = manifest
        if manifest is not None:
            self._location = location_promised(manifest.privacy)
        self._read_messages(manifest)
        self._finish_decoding()
        if self._reader.is_finished:
            self._reader.check_data_section()
        for damage in self._reader.damage:
            if self._reader.is_finished:
                self._problem("damaged", damage)
        if manifest is not None:
            self._compare(manifest)

    def _problem(self, code: str, message: str, camera: str | None = None) -> None:
        self._report.add(Problem(code, message, camera))

    # Reading

    def _manifest(self) -> ClipManifest | None:
        try:
            manifest = read_manifest(self._reader)
            metadata = self._reader.metadata()
        except (ManifestError, McapFileError) as error:
            self._problem("manifest", str(error))
            return None
        self._check_metadata(manifest, metadata)
        return manifest

    def _check_metadata(self, manifest: ClipManifest, metadata: dict[str, dict[str, str]]) -> None:
        try:
            same = parse_manifest(metadata.get(MANIFEST_METADATA, {}).get("json", "")) == manifest
        except ManifestError:
            same = False
        if not same:
            self._problem("manifest", f"metadata record {MANIFEST_METADATA} does not say what the attachment says")
        provenance = metadata.get(PROVENANCE_METADATA, {})
        for key, value in flat_provenance(manifest.provenance).items():
            if provenance.get(key) != value:
                self._problem("provenance", f"metadata record {PROVENANCE_METADATA} lacks {key} or contradicts it")

    def _read_messages(self, manifest: ClipManifest | None) -> None:
        rates_hz = {name: said.rate_hz for name, said in manifest.provenance.cameras.items()} if manifest else {}
        for message in self._reader.messages():
            self._counts[message.topic] += 1
            self._edges_ns = [self._edges_ns[0] if self._edges_ns else message.time_ns, message.time_ns]
            self._edges_wall_ns = [self._edges_wall_ns[0] if self._edges_wall_ns else message.wall_ns, message.wall_ns]
            if message.channel.schema_name == VIDEO_SCHEMA:
                packet = message.packet()
                if (camera := self._camera(packet.camera, rates_hz.get(packet.camera, 0.0))) is not None:
                    self._check_packet(camera, packet)
            elif message.channel.schema_name == THUMBNAIL_SCHEMA:
                packet = message.packet()
                if (camera := self._camera(packet.camera, 0.0)) is not None:
                    self._check_thumbnail(camera, packet, message)
            else:
                self._check_message(message)

    def _camera(self, name: str, rate_hz: float) -> _Camera | None:
        """None for one camera too many: each has a decoder."""
        if name not in self._cameras and len(self._cameras) >= MAX_CLIP_CAMERAS:
            self._problem("cameras", f"it holds more than {MAX_CLIP_CAMERAS} cameras: the others are not looked at")
            return None
        return self._cameras.setdefault(name, _Camera(rate_hz))

    def _check_message(self, message: RawMessage) -> None:
        """Whatever a player or a reader of ours will want of it must be there."""
        if message.channel.schema_name == CALIBRATION_SCHEMA:
            camera = camera_of(message.topic) or message.topic
            self._calibrations_ns.setdefault(camera, []).append(message.time_ns)
        wrong = unreadable(message)
        if wrong is not None:
            self._problem("message", f"{message.topic}: the message at {message.time_ns} ns cannot be read: {wrong}")
        if self._location is not None and (told := self._location.broken_by(message)) is not None:
            self._problem("privacy", f"{message.topic}: the message at {message.time_ns} ns tells a place: {told}")

    def _check_thumbnail(self, camera: _Camera, packet: Packet, message: RawMessage) -> None:
        self._check_order(camera, packet)
        camera.tally.add(packet)
        camera.key_times_ns.append(packet.time_ns)
        try:
            height, width = read_jpeg(packet).shape[:2]
        except ClipError as error:
            self._problem("decode", str(error), packet.camera)
            return
        camera.decoded += 1
        camera.sizes.add((width, height))
        source_width, source_height = source_size(message.channel, (0, 0))
        if source_width < width or source_height < height:
            self._problem("thumbnail", "its channel does not say how large the picture was", packet.camera)
        manifest = self._report.manifest
        if manifest is not None and manifest.thumbnails is not None:
            for wrong in broken_thumbnail(manifest.thumbnails, width, source_width, camera.tally.times_ns):
                self._problem("thumbnail", f"the one at {packet.time_ns} ns {wrong}", packet.camera)

    def _check_order(self, camera: _Camera, packet: Packet) -> None:
        if camera.tally.times_ns and packet.time_ns == camera.tally.times_ns[-1]:
            self._problem("frame_twice", f"two frames have the capture time {packet.time_ns} ns", packet.camera)

    def _check_packet(self, camera: _Camera, packet: Packet) -> None:
        first = not camera.tally.times_ns
        self._check_order(camera, packet)
        camera.tally.add(packet)
        if packet.is_key:
            camera.key_times_ns.append(packet.time_ns)
            if lacking := lacking_parameter_sets(packet):
                message = f"the key frame at {packet.time_ns} ns comes without {', '.join(lacking)}"
                self._problem("parameter_sets", message, packet.camera)
        elif first:
            self._problem("key_frame_first", "the first frame is not a key frame", packet.camera)
        if not packet.data.startswith((b"\x00\x00\x01", b"\x00\x00\x00\x01")):
            self._problem("annex_b", f"the packet at {packet.time_ns} ns is not in Annex B format", packet.camera)
        self._decode(camera, packet)

    def _decode(self, camera: _Camera, packet: Packet) -> None:
        try:
            if camera.decoder is None:
                camera.decoder = new_decoder(packet.codec)
            frames = decode_packet(camera.decoder, packet)
        except ClipError as error:
            self._problem("decode", str(error), packet.camera)
            return
        for decoded in frames:
            camera.decoded += 1
            camera.sizes.add((decoded.frame.width, decoded.frame.height))
            if decoded.frame.pict_type == av.video.frame.PictureType.B:
                self._problem("b_frames", f"the frame at {decoded.time_ns} ns is a B-frame", packet.camera)
            if decoded.frame.is_corrupt:
                self._problem("decode", f"the frame at {decoded.time_ns} ns decodes with errors", packet.camera)

    def _finish_decoding(self) -> None:
        for name, camera in self._cameras.items():
            if camera.decoder is not None:
                camera.decoded += self._left_in(camera.decoder, name)
            self._report.frames_decoded[name] = camera.decoded
            if camera.decoded != len(camera.tally.times_ns):
                message = f"{camera.decoded} of {len(camera.tally.times_ns)} frames could be decoded"
                self._problem("decode", message, name)
            if len(camera.sizes) > 1:
                self._problem("frame_size", f"frames of several sizes: {sorted(camera.sizes)}", name)

    def _left_in(self, decoder: av.VideoCodecContext, name: str) -> int:
        try:
            return len(decode_rest(decoder))
        except ClipError as error:
            self._problem("decode", str(error), name)
            return 0

    # Comparing

    def _compare(self, manifest: ClipManifest) -> None:
        self._compare_cameras(manifest)
        for code, message in (
            *broken_edges(manifest, self._edges_ns, self._edges_wall_ns),
            *broken_window(manifest), *broken_request(manifest), *broken_variant(manifest, self._counts),
            *broken_topics(manifest, self._counts), *broken_calibrations(manifest, self._calibrations_ns),
            *broken_privacy(manifest),
        ):  # fmt: skip
            self._problem(code, message)

    def _compare_cameras(self, manifest: ClipManifest) -> None:
        for name in sorted(set(manifest.cameras) ^ set(self._cameras)):
            where = "the manifest" if name in manifest.cameras else "the clip"
            self._problem("cameras", f"only {where} has this camera", name)
        for name in sorted(set(manifest.missing_cameras) & set(self._cameras)):
            self._problem("cameras", "listed as missing, but the clip has it", name)
        reference = self._cameras.get(manifest.reference_camera or "")
        times_ns = reference.tally.times_ns if reference else []
        window_ns = manifest.window_ns
        for name, said in manifest.cameras.items():
            if name in self._cameras:
                self._compare_camera(name, said, self._cameras[name].tally.manifest(times_ns, window_ns))
                self._check_window(name, said, manifest)

    def _compare_camera(self, name: str, said: CameraManifest, found: CameraManifest) -> None:
        for attribute, code in _FIELDS_TO_COMPARE:
            claimed, actual = getattr(said, attribute), getattr(found, attribute)
            if claimed != actual:
                self._problem(code, f"manifest says {attribute} {claimed}, the clip holds {actual}", name)

    def _check_window(self, name: str, said: CameraManifest, manifest: ClipManifest) -> None:
        if (wrong := shows_nothing_at_start(name, self._cameras[name].tally.times_ns, manifest)) is not None:
            self._problem("pre_roll", wrong, name)
        early = [time_ns for time_ns in self._cameras[name].key_times_ns if time_ns <= manifest.window_ns[0]]
        if len(early) > 1:
            message = f"{len(early)} key frames lie at or before the requested start: more than one GOP early"
            self._problem("pre_roll", message, name)
        if not early and manifest.pre_roll_short_s == 0.0 and said.starts_late_s == 0.0:
            self._problem("pre_roll", "it starts after the requested start, and the manifest does not say so", name)
