"""Cuts one clip out of history, or out of a longer clip, into an MCAP file.

Every chosen camera starts with its last key frame at or before the requested start, so the first displayed frame is
never more than one GOP early; its annotations start there too, and so does everything else at the earliest of these
instants. Seconds may go while they are read: a camera whose first key frame is gone by then starts with its next one,
as one does whose first pictures a treatment could not make safe; what came before the first picture that is left, and
before the window, then stays out with them.
Packets are copied as they lie in history; only a clip of thumbnails holds pictures made anew. Data reaches
the disk every few megabytes, and every two seconds where it comes slowly, so that sealing does not have to wait for a
whole clip of dirty pages and a power cut costs little of an unsealed one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import IO, Any, cast

from runtime.formats.mcap_files import McapTopicWriter, RawMessage
from runtime.formats.topics import THUMBNAIL_SCHEMA, VIDEO_SCHEMA
from runtime.messages import NANOSECONDS_PER_SECOND, ClipVariant
from runtime.recording.camera_tally import CameraTally
from runtime.recording.clip_plan import ClipPlan
from runtime.recording.clip_promises import SHORT_POST_ROLL_NS
from runtime.recording.clip_selection import select
from runtime.recording.clip_sink import ClipOutput
from runtime.recording.manifest import (
    MANIFEST_ATTACHMENT,
    MANIFEST_METADATA,
    PROVENANCE_METADATA,
    CameraManifest,
    ClipManifest,
    FiringManifest,
    ShrinkageManifest,
    ThumbnailsManifest,
    flat_provenance,
)
from runtime.recording.provenance import Provenance
from runtime.recording.record_source import RecordSource
from runtime.recording.sealing_policy import ClipWindow, Treatment, Untreated
from runtime.recording.thumbnails import Thumbnailer, ThumbnailSettings

#: What a camera's part of the manifest counts.
PICTURE_SCHEMAS = frozenset({VIDEO_SCHEMA, THUMBNAIL_SCHEMA})


class EmptyClipError(ValueError):
    """History holds nothing of the requested window."""


class ClipCut:
    """One cut: made, run once, thrown away."""

    def __init__(
        self,
        source: RecordSource,
        plan: ClipPlan,
        provenance: Provenance,
        ended_early: str | None,
        rules_in_force: Sequence[str] = (),
        thumbnails: ThumbnailSettings | None = None,
        not_before_ns: int = 0,
    ) -> None:
        """`provenance` is that of the first firing; `rules_in_force` the rules' fingerprint at each of them.

        `not_before_ns`: what was captured earlier stays out.
        """
        self._source = source
        self._plan = plan
        self._provenance = provenance
        self._ended_early = ended_early
        self._rules_in_force = rules_in_force or [provenance.rules_sha256] * len(plan.firings)
        self._settings = thumbnails or ThumbnailSettings()
        self._selection = select(source, plan, provenance.cameras, self._settings, not_before_ns)
        first_ns, end_ns = self._selection.first_ns, plan.window_ns[1]
        self._window = ClipWindow(source.first_time_ns(first_ns, end_ns), source.last_time_ns(first_ns, end_ns))
        self._tallies: dict[str, CameraTally] = {}
        self._counts: Counter[str] = Counter()
        self._thumbnailer = Thumbnailer(self._settings)
        self._edges: list[RawMessage] = []  # first and last record

    @property
    def cameras(self) -> tuple[str, ...]:
        """Wanted cameras that have frames, in the order of the rig."""
        return tuple(camera for camera in self._selection.cameras if camera in self._selection.starts_ns)

    @property
    def window(self) -> ClipWindow:
        """From the first key frame, or record, to the last record that the source had of the plan when this was made.

        What comes later stays out, even where the plan reaches further: nobody judged it.
        """
        return self._window

    def write(
        self, output: ClipOutput, treatment: Treatment | None = None, known_by: Mapping[str, Any] | None = None
    ) -> ClipManifest:
        """Write the clip. EmptyClipError when there is nothing to write, OSError from the disk.

        `known_by` goes where even a locked file shows it. Raises SealingRefusedError when `treatment` finds on the way
        that there may be no clip.
        """
        treatment = treatment or Untreated()
        stream = treatment.wrap(cast(IO[bytes], output), known_by or {})  # they write, tell and flush, nothing else
        writer = McapTopicWriter(cast(IO[bytes], stream))
        finished = self._finished(treatment.transform(self._chosen(), self._selection.is_beside))
        for message in self._calibrated(_from_first_picture(finished, self._plan.window_ns[0])):
            self._copy(writer, message)
            if output.sync_is_due:
                writer.flush()  # the chunk in progress is with us still
                stream.flush()
                output.sync()
        manifest = self._manifest(treatment)
        _write_manifest(writer, manifest)
        writer.finish()
        stream.finish()
        return manifest

    def _chosen(self) -> Iterator[RawMessage]:
        messages = self._source.messages(self._selection.first_ns, self._window.end_ns)
        chosen = self._selection
        held = (message for message in messages if chosen.is_beside(message) or chosen.holds(message))
        return _from_key_frames(held, chosen.starts_ns)

    def _finished(self, messages: Iterator[RawMessage]) -> Iterator[RawMessage]:
        """Thumbnails in place of packets where those are wanted: made of what the treatment left of the pictures."""
        for message in messages:
            if self._selection.is_thumbnail(message):
                yield from self._thumbnailer.feed(message.packet())
            else:
                yield message

    def _calibrated(self, messages: Iterator[RawMessage]) -> Iterator[RawMessage]:
        """Calibrations go in front, at the instant of the first record: they hold for all of the clip.

        So they say nothing of how far it reaches, and there is no clip of nothing else.
        """
        first = next(messages, None)
        if first is None:
            return
        for calibration in self._selection.calibrations:
            yield replace(calibration, time_ns=first.time_ns, wall_ns=first.wall_ns)
        yield first
        yield from messages

    def _copy(self, writer: McapTopicWriter, message: RawMessage) -> None:
        writer.write(message.channel, message.data, message.time_ns, message.wall_ns, message.sequence)
        self._counts[message.topic] += 1
        self._edges = [self._edges[0] if self._edges else message, message]
        if message.channel.schema_name in PICTURE_SCHEMAS:
            packet = message.packet()
            if packet.camera not in self._tallies:
                self._tallies[packet.camera] = CameraTally(self._rate_hz(packet.camera))
            self._tallies[packet.camera].add(packet)

    def _rate_hz(self, camera: str) -> float:
        """What the rig declares; of thumbnails the median tells the distance."""
        declared = self._provenance.cameras.get(camera)
        return 0.0 if declared is None or self._plan.variant is ClipVariant.THUMBNAILS else declared.rate_hz

    def _manifest(self, treatment: Treatment) -> ClipManifest:
        if not self._edges:
            raise EmptyClipError(f"clip {self._plan.clip_id}: nothing is held of its window")
        first, last = self._edges
        plan, cameras = self._plan, self._camera_manifests()
        return ClipManifest(
            clip_id=plan.clip_id,
            kind=plan.kind,  # type: ignore[arg-type]  # one of three constants
            pull_id=plan.pull_id,
            variant=plan.variant,
            requested_start_ns=plan.start_ns,
            requested_end_ns=plan.end_ns,
            start_ns=first.time_ns,
            end_ns=last.time_ns,
            start_wall_ns=first.wall_ns,
            end_wall_ns=last.wall_ns,
            priority=plan.priority,
            firings=_firing_manifests(plan, self._rules_in_force, treatment),
            reference_camera=next(iter(cameras), None),
            cameras=cameras,
            missing_cameras=[camera for camera in self._selection.cameras if camera not in cameras],
            chosen_topics=list(plan.topics),
            missing_topics=[topic for topic in plan.topics if topic not in self._counts],
            shrunk=self._shrunk(),
            thumbnails=self._thumbnails(),
            topics=dict(sorted(self._counts.items())),
            pre_roll_short_s=max(0, first.time_ns - plan.window_ns[0]) / NANOSECONDS_PER_SECOND,
            ended_early=self._ended_early or _why_short(last.time_ns, plan.window_ns[1]),
            provenance=self._provenance,
            privacy={**self._treated_before(), **treatment.facts()},
        )

    def _treated_before(self) -> dict[str, Any]:
        """What was done to a sealed clip holds for all that is cut out of it; what was lifted there is asked anew."""
        sealed = self._source.sealed_before
        return {} if sealed is None else {what: said for what, said in sealed.privacy.items() if what != "raw"}

    def _shrunk(self) -> ShrinkageManifest | None:
        plan, shrunk = self._plan, self._plan.shrunk
        if shrunk is None:
            return None
        asked = plan.cameras or tuple(self._provenance.cameras)
        left_out = [camera for camera in asked if camera not in shrunk.cameras]
        return ShrinkageManifest(
            start_ns=shrunk.start_ns, end_ns=shrunk.end_ns, left_out_cameras=left_out, reason=shrunk.reason
        )

    def _thumbnails(self) -> ThumbnailsManifest | None:
        if self._plan.variant is not ClipVariant.THUMBNAILS:
            return None
        settings = self._settings
        return ThumbnailsManifest(
            interval_s=settings.interval_s, width_px=settings.width_px, failed=self._thumbnailer.failed
        )

    def _camera_manifests(self) -> dict[str, CameraManifest]:
        """In the order of the rig; the first one present is the reference for lags."""
        present = [camera for camera in self._selection.cameras if camera in self._tallies]
        reference_times_ns = self._tallies[present[0]].times_ns if present else []
        window_ns = self._plan.window_ns
        return {camera: self._tallies[camera].manifest(reference_times_ns, window_ns) for camera in present}


def _from_key_frames(messages: Iterable[RawMessage], starts_ns: Mapping[str, int]) -> Iterator[RawMessage]:
    """Without packets whose key frame is gone: its second was dropped after `starts_ns` were chosen."""
    shown: set[str] = set()
    for message in messages:
        if message.channel.schema_name == VIDEO_SCHEMA and message.topic not in shown:
            packet = message.packet()
            if not packet.is_key and packet.time_ns != starts_ns.get(packet.camera):
                continue
            shown.add(message.topic)
        yield message


def _from_first_picture(messages: Iterable[RawMessage], window_start_ns: int) -> Iterator[RawMessage]:
    """Without what comes before the first picture and before the window; records of one instant stay together."""
    has_begun = False
    for time_ns, instant in groupby(messages, key=lambda message: message.time_ns):
        if has_begun:
            yield from instant
            continue
        records = list(instant)
        if time_ns >= window_start_ns or any(one.channel.schema_name in PICTURE_SCHEMAS for one in records):
            has_begun = True
            yield from records


def _why_short(last_ns: int, end_ns: int) -> str | None:
    """What a manifest says of a hole at the clip's end where nobody knows a reason."""
    short_ns = end_ns - last_ns
    if short_ns <= SHORT_POST_ROLL_NS:
        return None
    return f"nothing of it was recorded in its last {short_ns / NANOSECONDS_PER_SECOND:.1f} s"


def _firing_manifests(plan: ClipPlan, rules_in_force: Sequence[str], treatment: Treatment) -> list[FiringManifest]:
    shown = [(waiting.session, treatment.firing(waiting.firing)) for waiting in plan.firings]
    return [
        FiringManifest(
            rule=firing.rule,
            rule_version=firing.rule_version,
            sequence=firing.sequence,
            session=session,
            time_ns=firing.time_ns,
            wall_ns=firing.wall_ns,
            operands=dict(firing.operands),
            priority=firing.priority,
            sample_probability=firing.sample_probability,
            pre_s=firing.capture.pre_s,
            post_s=firing.capture.post_s,
            rules_sha256=rules_sha256,
            score=firing.score,
            campaign=firing.campaign,
            tally=dict(firing.tally),
        )
        for (session, firing), rules_sha256 in zip(shown, rules_in_force, strict=True)
    ]


def _write_manifest(writer: McapTopicWriter, manifest: ClipManifest) -> None:
    text = manifest.model_dump_json(indent=1)
    writer.flush()  # the manifest comes after all that it vouches for: a file cut short has none
    writer.metadata(PROVENANCE_METADATA, flat_provenance(manifest.provenance))
    writer.metadata(MANIFEST_METADATA, {"json": text})
    writer.attachment(MANIFEST_ATTACHMENT, "application/json", text.encode(), manifest.end_wall_ns)
