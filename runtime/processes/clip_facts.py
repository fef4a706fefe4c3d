"""What a sealed file says of itself: for a spool that has lost what its ledger said of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runtime.formats.mcap_files import McapFileError, McapTopicReader
from runtime.privacy.envelope import EnvelopeError, is_locked, read_header
from runtime.recording.delivery_metadata import delivery_metadata
from runtime.recording.manifest import MANIFEST_METADATA, ManifestError, parse_manifest
from runtime.spool.half_copies import PARTIAL_METADATA


def facts_of_clip(path: Path, vehicle: str | None = None) -> Mapping[str, Any] | None:
    """What was to travel ahead of the clip; None for one that does not say.

    A clip has a manifest. One that was rescued half says what it was known by. A locked one says little at its head, as
    of the moment when it was begun, and not who drove: `vehicle` is whose spool it lies in.
    """
    try:
        if is_locked(path):
            return _facts_at_the_head(path, vehicle)
        with McapTopicReader(path) as reader:
            found = reader.metadata()
        if PARTIAL_METADATA in found:
            said: dict[str, Any] = json.loads(found[PARTIAL_METADATA].get("facts", "{}"))
            return said or None
        manifest = parse_manifest(found.get(MANIFEST_METADATA, {}).get("json", ""))
    except (EnvelopeError, McapFileError, ManifestError, ValueError):
        return None
    return delivery_metadata(manifest, path.stat().st_size)


def _facts_at_the_head(path: Path, vehicle: str | None) -> Mapping[str, Any] | None:
    with path.open("rb") as stream:
        said = read_header(stream).facts
    return {**said, **({"vehicle": vehicle} if vehicle else {}), "bytes": path.stat().st_size} if said else None
