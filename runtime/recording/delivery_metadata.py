"""The few facts about a clip that travel ahead of it: for the spool, the offer to the receiver, its catalogue.

Most are known before its first byte is written (`known_beforehand`): a clip that is cut short is delivered with those.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from runtime.formats.offer_limits import MAX_LISTED
from runtime.recording.clip_plan import ClipPlan
from runtime.recording.manifest import ClipManifest
from runtime.recording.provenance import Provenance
from runtime.recording.sealing_policy import ClipWindow

#: Stands beside them only where a clip was cut to chosen topics: it is no whole record of its window.
TOPICS_KEY = "chosen_topics"


class _Fired(NamedTuple):
    time_ns: int
    campaign: str
    session: str


def delivery_metadata(manifest: ClipManifest, size_bytes: int) -> dict[str, Any]:
    """JSON-ready; small whatever the clip holds."""
    fired = [_Fired(firing.time_ns, firing.campaign, firing.session) for firing in manifest.firings]
    return {
        **_identity(manifest, manifest.chosen_topics, fired, manifest.provenance),
        "start_ns": manifest.start_ns,
        "end_ns": manifest.end_ns,
        "start_wall_ns": manifest.start_wall_ns,
        "end_wall_ns": manifest.end_wall_ns,
        "cameras": list(manifest.cameras)[:MAX_LISTED],
        "missing_cameras": manifest.missing_cameras[:MAX_LISTED],
        "bytes": size_bytes,
        "ended_early": manifest.ended_early,
    }


def known_beforehand(
    plan: ClipPlan, window: ClipWindow, cameras: Sequence[str], provenance: Provenance
) -> dict[str, Any]:
    """The same of a clip that is about to be cut: its window as it should become, on both clocks."""
    fired = [_Fired(one.firing.time_ns, one.firing.campaign, one.session) for one in plan.firings]
    wall_offset_ns = plan.firings[0].firing.wall_ns - plan.firings[0].firing.time_ns
    return {
        **_identity(plan, plan.topics, fired, provenance),
        "start_ns": window.start_ns,
        "end_ns": window.end_ns,
        "start_wall_ns": window.start_ns + wall_offset_ns,
        "end_wall_ns": window.end_ns + wall_offset_ns,
        "cameras": list(cameras)[:MAX_LISTED],
    }


def _identity(
    clip: ClipPlan | ClipManifest, chosen_topics: Sequence[str], fired: Sequence[_Fired], provenance: Provenance
) -> dict[str, Any]:
    return {
        **({TOPICS_KEY: list(chosen_topics)[:MAX_LISTED]} if chosen_topics else {}),
        "clip_id": clip.clip_id,
        "kind": clip.kind,
        "variant": clip.variant.value,
        "pull_id": clip.pull_id,
        "rules": list(clip.rules)[:MAX_LISTED],
        "firing_count": len(fired),
        "firing_times_ns": [one.time_ns for one in fired[:MAX_LISTED]],
        "campaigns": sorted({one.campaign for one in fired if one.campaign})[:MAX_LISTED],
        "priority": clip.priority.value,
        "shrunk": clip.shrunk.reason if clip.shrunk else None,
        "session": fired[0].session if fired else None,
        "vehicle": provenance.vehicle,
        "software_version": provenance.software_version,
        "model": provenance.model.name if provenance.model else None,
    }
