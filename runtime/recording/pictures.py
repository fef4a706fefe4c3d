"""Pictures of a clip: a contact sheet (every camera at a few instants around the firing) and a mosaic (one instant).

Both draw the boxes that the network saw, as they were recorded; a camera without a picture leaves a grey tile.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from runtime.formats.mcap_files import McapTopicReader
from runtime.messages import NANOSECONDS_PER_SECOND
from runtime.recording.clip_file import ClipError, DecodedFrame, boxes_at, frames_at, open_clip, read_manifest
from runtime.recording.drawing import (
    ACCENT,
    TEXT,
    Image,
    canvas,
    caption,
    empty_tile,
    grid,
    tile,
    tile_height_px,
    title_bar,
    write_png,
)
from runtime.recording.manifest import ClipManifest

#: Instants of a contact sheet, in seconds from the firing; those outside the clip are moved to its ends,
#: and labelled with where they are; two at one end are one.
DEFAULT_OFFSETS_S = (-4.0, -1.0, 0.0, 1.0, 3.0)
SHEET_TILE_WIDTH_PX = 288
MOSAIC_TILE_WIDTH_PX = 400
_MAX_OFFSETS = 12
#: Rules that a title names; a clip of a busy moment has dozens.
TITLE_RULES = 5


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that was written."""

    path: Path
    width: int
    height: int
    cameras: tuple[str, ...]  # rows of the sheet, tiles of the mosaic; missing cameras included
    instants_ns: tuple[int, ...]
    boxes: int  # drawn


def contact_sheet(
    clip: Path | str, output: Path | str, offsets_s: tuple[float, ...] = DEFAULT_OFFSETS_S, firing: int = 0
) -> Picture:
    """Cameras down, instants across, each labelled with its own distance from the firing.

    McapFileError, ManifestError, ClipError or OSError say what is wrong.
    """
    if not 0 < len(offsets_s) <= _MAX_OFFSETS:
        raise ValueError(f"a contact sheet takes 1 to {_MAX_OFFSETS} instants, got {len(offsets_s)}")
    with open_clip(clip) as reader:
        manifest = read_manifest(reader)
        centre_ns = _firing_time_ns(manifest, firing)
        wanted_ns = [centre_ns + round(offset * NANOSECONDS_PER_SECOND) for offset in offsets_s]
        instants_ns = list(dict.fromkeys(_inside(manifest, time_ns) for time_ns in wanted_ns))
        sheet = _Pictures(reader, manifest, instants_ns, SHEET_TILE_WIDTH_PX)
        tiles = []
        for camera in sheet.cameras:
            for instant_ns in instants_ns:
                color = ACCENT if instant_ns == _inside(manifest, centre_ns) else TEXT
                tiles.append(sheet.tile(camera, instant_ns, _column(camera, instant_ns - centre_ns), color))
        image = sheet.compose(tiles, len(instants_ns))
    return sheet.write(Path(output), image)


def mosaic(clip: Path | str, output: Path | str, offset_s: float = 0.0, columns: int = 4) -> Picture:
    """All cameras at one instant, `offset_s` from the first firing."""
    with open_clip(clip) as reader:
        manifest = read_manifest(reader)
        instant_ns = _inside(manifest, _firing_time_ns(manifest, 0) + round(offset_s * NANOSECONDS_PER_SECOND))
        pictures = _Pictures(reader, manifest, [instant_ns], MOSAIC_TILE_WIDTH_PX)
        tiles = [pictures.tile(camera, instant_ns, camera, TEXT) for camera in pictures.cameras]
        image = pictures.compose(tiles, min(columns, len(tiles)))
    return pictures.write(Path(output), image)


class _Pictures:
    """Frames of all cameras at some instants, and the picture made of them."""

    def __init__(
        self, reader: McapTopicReader, manifest: ClipManifest, instants_ns: list[int], tile_width_px: int
    ) -> None:
        self.cameras = (*manifest.cameras, *manifest.missing_cameras)
        if not self.cameras:
            raise ClipError(f"{reader.path}: the clip has no cameras, so there is nothing to draw")
        self._reader = reader
        self._manifest = manifest
        self._instants_ns = instants_ns
        self._frames = {camera: frames_at(reader, camera, instants_ns) for camera in manifest.cameras}
        self._width = tile_width_px
        self._height = tile_height_px(tile_width_px, self._aspects())
        self._boxes = 0

    def tile(self, camera: str, instant_ns: int, text: str, color: tuple[int, int, int]) -> Image:
        decoded: DecodedFrame | None = self._frames.get(camera, {}).get(instant_ns)
        if decoded is None:
            return empty_tile(self._width, self._height, f"{camera}: missing")
        boxes = boxes_at(self._reader, camera, decoded.time_ns)
        self._boxes += len(boxes)
        image = tile(decoded.rgb(), boxes, self._width, self._height, decoded.source_size[0])
        caption(image, text, color)
        return image

    def compose(self, tiles: list[Image], columns: int) -> Image:
        """The grid under a title."""
        body = grid(tiles, columns)
        manifest = self._manifest
        detail = f"{manifest.provenance.vehicle}  {manifest.duration_s:.1f} s  {len(manifest.cameras)} cameras"
        bar = title_bar(body.shape[1], clip_title(manifest), detail)
        image = canvas(body.shape[1], body.shape[0] + bar.shape[0])
        image[: bar.shape[0]] = bar
        image[bar.shape[0] :] = body
        return image

    def write(self, output: Path, image: Image) -> Picture:
        write_png(output, image)
        height, width = image.shape[:2]
        return Picture(output, width, height, self.cameras, tuple(self._instants_ns), self._boxes)

    def _aspects(self) -> Iterator[float]:
        for frames in self._frames.values():
            for decoded in frames.values():
                yield float(decoded.frame.height / decoded.frame.width)


def clip_title(manifest: ClipManifest) -> str:
    """The rules that fired, the first few of them."""
    more = len(manifest.rules) - TITLE_RULES
    rules = ", ".join(manifest.rules[:TITLE_RULES]) + (f" and {more} more" if more > 0 else "")
    return rules or manifest.clip_id


def _column(camera: str, offset_ns: int) -> str:
    tenths = round(10 * offset_ns / NANOSECONDS_PER_SECOND)  # whole, so that just before a firing is no "-0.0"
    return f"{camera}  {tenths / 10:+.1f} s"


def _firing_time_ns(manifest: ClipManifest, firing: int) -> int:
    if not 0 <= firing < len(manifest.firings):
        raise ClipError(
            f"clip {manifest.clip_id} has {len(manifest.firings)} firings, number {firing} is not one of them"
        )
    return manifest.firings[firing].time_ns


def _inside(manifest: ClipManifest, time_ns: int) -> int:
    return min(max(time_ns, manifest.start_ns), manifest.end_ns)
