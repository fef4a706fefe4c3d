"""The few facts about a clip that travel ahead of it: for the spool, the offer to the receiver, its catalogue."""

from __future__ import annotations

from typing import Any

from runtime.recording.manifest import ClipManifest

#: Names listed; a clip of a trigger storm must still fit an offer. The manifest has them all.
MAX_LISTED = 64


def delivery_metadata(manifest: ClipManifest, size_bytes: int) -> dict[str, Any]:
    """JSON-ready; small whatever the clip holds."""
    return {
        "clip_id": manifest.clip_id,
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
        "vehicle": manifest.provenance.vehicle,
        "software_version": manifest.provenance.software_version,
        "model": manifest.provenance.model.name if manifest.provenance.model else None,
    }
