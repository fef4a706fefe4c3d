"""What a sealed file says of itself: for a spool that has lost what its ledger said of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runtime.formats.mcap_files import McapFileError, McapTopicReader
from runtime.recording.delivery_metadata import delivery_metadata
from runtime.recording.manifest import MANIFEST_METADATA, ManifestError, parse_manifest


def facts_of_clip(path: Path) -> Mapping[str, Any] | None:
    """What was to travel ahead of the clip; None for one that is locked, or that has no manifest we know."""
    try:
        with McapTopicReader(path) as reader:
            manifest = parse_manifest(reader.metadata().get(MANIFEST_METADATA, {}).get("json", ""))
    except (McapFileError, ManifestError):
        return None
    return delivery_metadata(manifest, path.stat().st_size)
