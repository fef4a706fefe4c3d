"""Cuts one clip out of history into an MCAP file.

Every chosen camera starts with its last key frame at or before the requested start, so the first displayed frame is
never more than one GOP early; its annotations start there too, and so does everything else at the earliest of these
instants. Packets are copied as they lie in history. Data reaches the disk every `SYNC_BYTES`, so that sealing does not
have to wait for a whole clip of dirty pages and a power cut costs little of an unsealed one.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, cast

from runtime.formats import topics
from runtime.formats.mcap_files import McapTopicWriter, RawMessage
from runtime.formats.topics import CALIBRATION_SCHEMA, VIDEO_SCHEMA
from runtime.messages import NANOSECONDS_PER_SECOND
from runtime.recording.camera_tally import CameraTally
from runtime.recording.clip_plan import ClipPlan
from runtime.recording.history_reader import HistoryReader
from runtime.recording.manifest import (
    MANIFEST_ATTACHMENT,
    MANIFEST_METADATA,
    PROVENANCE_METADATA,
    CameraManifest,
    ClipManifest,
    FiringManifest,
)
from runtime.recording.provenance import Provenance
from runtime.recording.sealing_policy import ClipWindow, Treatment, Untreated

SYNC_BYTES = 8 * 1024 * 1024


class EmptyClipError(ValueError):
    """History holds nothing of the requested window."""


class ClipCut:
    """One cut: made, run once, thrown away."""

    def __init__(
        self,
        reader: HistoryReader,
        plan: ClipPlan,
        provenance: Provenance,
        ended_early: str | None,
        rules_in_force: Sequence[str] = (),
    ) -> None:
        """`provenance` is that of the first firing; `rules_in_force` the rules' fingerprint at each of them."""
        self._reader = reader
        self._plan = plan
        self._provenance = provenance
        self._ended_early = ended_early
        self._rules_in_force = rules_in_force or [provenance.rules_sha256] * len(plan.firings)
        seen = reader.cameras(plan.start_ns, plan.end_ns)
        known = tuple(dict.fromkeys((*provenance.cameras, *seen)))
        self._wanted = plan.cameras or known
        self._starts_ns = reader.key_frame_starts(self._wanted, plan.start_ns, plan.end_ns)
        self._first_ns = min([plan.start_ns, *self._starts_ns.values()])
        self._tallies: dict[str, CameraTally] = {}
        self._counts: Counter[str] = Counter()
        self._calibrated: set[str] = set()
        self._edges: list[RawMessage] = []  # first and last record

    @property
    def window(self) -> ClipWindow:
        """From the first key frame, or record, to the last record that history has of the plan."""
        first_ns, end_ns = self._first_ns, self._plan.end_ns
        return ClipWindow(self._reader.first_time_ns(first_ns, end_ns), self._reader.last_time_ns(first_ns, end_ns))

    def write(self, path: Path, treatment: Treatment | None = None) -> ClipManifest:
        """Write the clip to `path`. EmptyClipError when there is nothing to write, OSError from the disk.

        Raises SealingRefusedError when `treatment` finds on the way that there may be no clip.
        """
        treatment = treatment or Untreated()
        with path.open("wb") as stream:
            output = treatment.wrap(stream)
            writer = McapTopicWriter(cast(IO[bytes], output))  # it writes, tells and flushes, nothing else
            synced_bytes = 0
            for message in treatment.transform(self._chosen()):
                self._copy(writer, message)
                if stream.tell() - synced_bytes > SYNC_BYTES:
                    synced_bytes = _sync(stream)
            manifest = self._manifest(treatment)
            _write_manifest(writer, manifest)
            writer.finish()
            output.finish()
        return manifest

    def _chosen(self) -> Iterator[RawMessage]:
        for message in self._reader.messages(self._first_ns, self._plan.end_ns):
            if self._belongs(message):
                if message.channel.schema_name == CALIBRATION_SCHEMA:
                    self._calibrated.add(topics.camera_of(message.topic) or "")
                yield message

    def _belongs(self, message: RawMessage) -> bool:
        camera = topics.camera_of(message.topic)
        if camera is None:
            chosen = not self._plan.topics or message.topic in self._plan.topics
            return chosen or message.topic == topics.FIRING
        if camera not in self._wanted:
            return False
        if message.channel.schema_name == CALIBRATION_SCHEMA:
            return camera not in self._calibrated  # history repeats it every second
        return camera in self._starts_ns and message.time_ns >= self._starts_ns[camera]

    def _copy(self, writer: McapTopicWriter, message: RawMessage) -> None:
        writer.write(message.channel, message.data, message.time_ns, message.wall_ns, message.sequence)
        self._counts[message.topic] += 1
        self._edges = [self._edges[0] if self._edges else message, message]
        if message.channel.schema_name == VIDEO_SCHEMA:
            packet = message.packet()
            if packet.camera not in self._tallies:
                declared = self._provenance.cameras.get(packet.camera)
                self._tallies[packet.camera] = CameraTally(declared.rate_hz if declared else 0.0)
            self._tallies[packet.camera].add(packet)

    def _manifest(self, treatment: Treatment) -> ClipManifest:
        if not self._edges:
            raise EmptyClipError(f"clip {self._plan.clip_id}: history holds nothing of its window")
        first, last = self._edges
        cameras = self._camera_manifests()
        return ClipManifest(
            clip_id=self._plan.clip_id,
            requested_start_ns=self._plan.start_ns,
            requested_end_ns=self._plan.end_ns,
            start_ns=first.time_ns,
            end_ns=last.time_ns,
            start_wall_ns=first.wall_ns,
            end_wall_ns=last.wall_ns,
            priority=self._plan.priority,
            firings=_firing_manifests(self._plan, self._rules_in_force, treatment),
            reference_camera=next(iter(cameras), None),
            cameras=cameras,
            missing_cameras=[camera for camera in self._wanted if camera not in cameras],
            topics=dict(sorted(self._counts.items())),
            pre_roll_short_s=max(0, first.time_ns - self._plan.start_ns) / NANOSECONDS_PER_SECOND,
            ended_early=self._ended_early,
            provenance=self._provenance,
            privacy=dict(treatment.facts()),
        )

    def _camera_manifests(self) -> dict[str, CameraManifest]:
        """In the order of the rig; the first one present is the reference for lags."""
        present = [camera for camera in self._wanted if camera in self._tallies]
        reference_times_ns = self._tallies[present[0]].times_ns if present else []
        window_ns = (self._plan.start_ns, self._plan.end_ns)
        return {camera: self._tallies[camera].manifest(reference_times_ns, window_ns) for camera in present}


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
    flat = manifest.provenance.model_dump(exclude={"cameras", "model", "second_model"})
    models = {"model": manifest.provenance.model, "second_model": manifest.provenance.second_model}
    for name, model in models.items():
        flat |= {f"{name}_{key}": value for key, value in (model.model_dump() if model else {}).items()}
    writer.flush()  # the manifest comes after all that it vouches for: a file cut short has none
    writer.metadata(PROVENANCE_METADATA, {key: str(value) for key, value in flat.items() if value is not None})
    writer.metadata(MANIFEST_METADATA, {"json": text})
    writer.attachment(MANIFEST_ATTACHMENT, "application/json", text.encode(), manifest.end_wall_ns)


def _sync(stream: IO[bytes]) -> int:
    stream.flush()
    os.fdatasync(stream.fileno())
    return stream.tell()
