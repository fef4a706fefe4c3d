"""The few facts about a clip that travel ahead of it: for the spool, the offer to the receiver, its catalogue."""

from __future__ import annotations

from typing import Any

from runtime.recording.manifest import ClipManifest

#: Names listed; a clip of a trigger storm must still fit an offer. The manifest has them all.
MAX_LISTED = 64
#: Stands beside them only where a clip was cut to chosen topics: it is no whole record of its window.
TOPICS_KEY = "chosen_topics"


def delivery_metadata(manifest: ClipManifest, size_bytes: int) -> dict[str, Any]:
    """JSON-ready; small whatever the clip holds."""
    return {
        "clip_id": manifest.clip_id,
        "kind": manifest.kind,
        "variant": manifest.variant.value,
        "pull_id": manifest.pull_id,
        "rules": manifest.rules[:MAX_LISTED],
        "firing_count": len(manifest.firings),
        "firing_times_ns": [firing.time_ns for firing in manifest.firings[:MAX_LISTED]],
        "campaigns": sorted({firing.campaign for firing in manifest.firings if firing.campaign})[:MAX_LISTED],
        "priority": manifest.priority.value,
        "start_ns": manifest.start_ns,
        "end_ns": manifest.end_ns,
        "start_wall_ns": manifest.start_wall_ns,
        "end_wall_ns": manifest.end_wall_ns,
        "cameras": list(manifest.cameras)[:MAX_LISTED],
        "missing_cameras": manifest.missing_cameras[:MAX_LISTED],
        "bytes": size_bytes,
        "ended_early": manifest.ended_early,
        "shrunk": manifest.shrunk.reason if manifest.shrunk else None,
        "session": manifest.firings[0].session if manifest.firings else None,
        "vehicle": manifest.provenance.vehicle,
        "software_version": manifest.provenance.software_version,
        "model": manifest.provenance.model.name if manifest.provenance.model else None,
    }
