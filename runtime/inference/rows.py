"""Which row of the batch each camera of the rig takes.

A bundle may name its cameras, because a head that fuses them knows their order. Cameras of the rig with such a name
take that row; the others fill the free rows in order. Rows that are left over hold padding. Where the network has an
images input for each camera, its inputs are the rows, in the order of `model.yaml`. A network that runs once per camera
has as many rows as the rig has cameras.
"""

from __future__ import annotations

from collections.abc import Sequence

from runtime.inference.heads.decoder import BatchLayout, BundleFitError
from runtime.inference.manifest import Manifest


def layout_for(manifest: Manifest, cameras: Sequence[str]) -> BatchLayout:
    """The layout of this network on a rig with these cameras.

    Raises:
        BundleFitError: no cameras, one named twice, or more cameras than the network has rows.
    """
    if not cameras or len(set(cameras)) != len(cameras):
        raise BundleFitError(f"network {manifest.name!r} needs cameras with distinct names, got {list(cameras)}")
    _, _, height, width = manifest.images.shape
    if manifest.is_per_camera:
        return BatchLayout(len(cameras), height, width, {name: row for row, name in enumerate(cameras)}, True)
    rows = manifest.rows
    if len(cameras) > rows:
        message = f"the rig has {len(cameras)} cameras, network {manifest.name!r} takes {rows}"
        more = "with more images inputs" if manifest.has_separate_images else "with a larger batch"
        raise BundleFitError(f"{message} (fix: leave cameras out, or export {more})")
    return BatchLayout(rows, height, width, _assign(manifest.row_cameras, cameras, rows))


def _assign(named: Sequence[str | None], cameras: Sequence[str], rows: int) -> dict[str, int]:
    by_name = {camera: named.index(camera) for camera in cameras if camera in named}
    taken = set(by_name.values())
    free = iter(row for row in range(rows) if row not in taken)
    return {camera: by_name[camera] if camera in by_name else next(free) for camera in cameras}
