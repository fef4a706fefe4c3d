"""A clip as files for tools that know no MCAP.

    <out>/cameras/<camera>.mp4     its packets, copied (a clip of thumbnails: <camera>-<ms>.jpg)
    <out>/mosaic.mp4               all cameras side by side with boxes, at capture times
    <out>/sheet.png                every camera at a few instants around the firing
    <out>/signals.csv              every signal sample
    <out>/manifest.json            what the clip promises

`verify_clip` is not called: look at a clip whose promises are broken, too. Existing files of these names are replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from runtime.formats.mcap_files import McapTopicReader
from runtime.formats.printable import counted
from runtime.messages import ClipVariant
from runtime.recording.camera_videos import file_inside, write_camera_video, write_thumbnails
from runtime.recording.clip_file import open_clip, read_manifest
from runtime.recording.manifest import MANIFEST_ATTACHMENT, ClipManifest
from runtime.recording.mosaic_video import write_mosaic_video
from runtime.recording.pictures import contact_sheet
from runtime.recording.signal_table import write_signal_table

PARTS = ("cameras", "mosaic", "sheet", "signals", "manifest")


@dataclass(slots=True)
class Export:
    """What was written, and what there was nothing to write of."""

    directory: Path
    files: list[Path] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)  # part -> why


def export_clip(
    clip: Path | str, directory: Path | str, parts: Collection[str] = PARTS, tell: Callable[[str], None] | None = None
) -> Export:
    """Write the parts of a clip; `tell` hears of each before it is begun: a mosaic takes longer than the clip lasts.

    McapFileError, ManifestError, ClipError or OSError say what is wrong.

    A clip without cameras has signals and a manifest; the parts that need pictures are left out, and said so.
    """
    unknown = sorted(set(parts) - set(PARTS))
    if unknown:
        raise ValueError(f"no part of an export is called {', '.join(unknown)}: use {', '.join(PARTS)}")
    export = Export(Path(directory))
    export.directory.mkdir(parents=True, exist_ok=True)
    with open_clip(clip) as reader:
        manifest = read_manifest(reader)
        for part in PARTS:
            if part in parts:
                if tell is not None and manifest.cameras:
                    tell(f"writing {part}: {manifest.duration_s:.1f} s, {counted(len(manifest.cameras), 'camera')}")
                _write(part, export, reader, manifest)
    return export


def _write(part: str, export: Export, reader: McapTopicReader, manifest: ClipManifest) -> None:
    if part in ("cameras", "mosaic", "sheet") and not manifest.cameras:
        export.left_out[part] = "the clip has no cameras"
    elif part == "cameras":
        export.files += _cameras(file_inside(export.directory, "cameras"), reader, manifest)
    elif part == "mosaic":
        path = file_inside(export.directory, "mosaic.mp4")
        write_mosaic_video(reader, manifest, path)
        export.files.append(path)
    elif part == "sheet":
        export.files.append(contact_sheet(reader.path, file_inside(export.directory, "sheet.png")).path)
    elif part == "signals":
        path = file_inside(export.directory, "signals.csv")
        write_signal_table(reader, manifest.start_ns, path)
        export.files.append(path)
    else:
        path = file_inside(export.directory, "manifest.json")
        path.write_bytes(reader.attachments()[MANIFEST_ATTACHMENT])
        export.files.append(path)


def _cameras(folder: Path, reader: McapTopicReader, manifest: ClipManifest) -> list[Path]:
    folder.mkdir(exist_ok=True)
    start_ns = min(camera.first_ns for camera in manifest.cameras.values())
    written: list[Path] = []
    for camera in manifest.cameras:
        if manifest.variant is ClipVariant.THUMBNAILS:
            written += write_thumbnails(reader, camera, start_ns, folder)
        else:
            written.append(file_inside(folder, f"{camera}.mp4"))
            write_camera_video(reader, camera, start_ns, written[-1])
    return written
