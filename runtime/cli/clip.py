"""`shadowrig clip`: look into sealed clips, check every promise that they make, and take them apart for other tools."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.cli import clip_lock
from runtime.cli.common import CommandError, Subcommands, add_command, add_group, write_json
from runtime.formats.printable import printable

if TYPE_CHECKING:
    from runtime.recording.pictures import Picture

#: As in `runtime.recording.export`, which would take a while to import for a parser; a test holds the two together.
EXPORT_PARTS = ("cameras", "mosaic", "sheet", "signals", "manifest")

#: Where no terminal has a width, nothing is cut: `clip inspect CLIP.mcap | grep speed` finds what is there.
UNBROKEN_COLUMNS = 100_000


def add(commands: Subcommands) -> None:
    """Register the command."""
    summary = "Verify, inspect, picture and export sealed clips."
    group = add_group(commands, "clip", summary, "shadowrig clip verify CLIP.mcap")
    verify = add_command(
        group, "verify", "Check counts, gaps, hashes, key frames, provenance, and decode every frame.",
        "shadowrig clip verify received/clips/*/*/*.mcap", run_verify,
    )  # fmt: skip
    inspect = add_command(
        group, "inspect", "Show what a clip holds and why it was kept.", "shadowrig clip inspect CLIP.mcap", run_inspect
    )
    for parser in (verify, inspect):
        parser.add_argument("clips", nargs="+", type=Path, metavar="CLIP")
        parser.add_argument("--json", default=None, metavar="FILE", help="write the facts as JSON ('-': stdout)")
    sheet = add_command(
        group, "sheet", "Draw a contact sheet: every camera around the firing, with boxes.",
        "shadowrig clip sheet CLIP.mcap --out sheet.png", run_sheet,
    )  # fmt: skip
    mosaic = add_command(
        group, "mosaic", "Draw all cameras at the firing, with boxes.",
        "shadowrig clip mosaic CLIP.mcap --out mosaic.png", run_mosaic,
    )  # fmt: skip
    for parser in (sheet, mosaic):
        parser.add_argument("clip", type=Path, metavar="CLIP")
        parser.add_argument("--out", required=True, type=Path, metavar="PNG")
    export = add_command(
        group, "export", "Write MP4s of its cameras, a mosaic with boxes, a contact sheet and its signals as CSV.",
        "shadowrig clip export CLIP.mcap --out clip_files", run_export,
    )  # fmt: skip
    export.add_argument("clip", type=Path, metavar="CLIP")
    export.add_argument("--out", required=True, type=Path, metavar="DIRECTORY")
    export.add_argument(
        "--parts", default=",".join(EXPORT_PARTS), metavar="LIST", help=f"some of {','.join(EXPORT_PARTS)} (all)"
    )
    clip_lock.add(group)


def run_verify(options: argparse.Namespace) -> int:
    """Verify; 1 when a clip breaks a promise."""
    from runtime.recording.verify import verify_clip

    with _told():
        reports = [verify_clip(_existing(path)) for path in options.clips]
    if options.json is not None:
        write_json(options.json, [report.to_json() for report in reports])
    if options.json != "-":
        for path, report in zip(options.clips, reports, strict=True):
            print(f"{path}: {f'ok: {report.decoded}' if report.ok else 'BROKEN'}")
            for line in report.lines():
                print(f"  {printable(line)}")
    return 0 if all(report.ok for report in reports) else 1


def run_inspect(options: argparse.Namespace) -> int:
    """Print a summary of each clip."""
    from rich.console import Console

    from runtime.recording.inspection import inspect_clip, print_summary

    with _told():
        summaries = [inspect_clip(_existing(path)) for path in options.clips]
    if options.json is not None:
        write_json(options.json, [summary.to_json() for summary in summaries])
    if options.json != "-":
        console = Console() if sys.stdout.isatty() else Console(width=UNBROKEN_COLUMNS)
        for summary in summaries:
            print_summary(summary, console)
    return 0


def run_sheet(options: argparse.Namespace) -> int:
    """Write the contact sheet."""
    from runtime.recording.pictures import contact_sheet

    return _draw(contact_sheet, options)


def run_mosaic(options: argparse.Namespace) -> int:
    """Write the mosaic."""
    from runtime.recording.pictures import mosaic

    return _draw(mosaic, options)


def run_export(options: argparse.Namespace) -> int:
    """Write the parts; each file on a line of its own."""
    from runtime.recording.export import export_clip

    parts = [part.strip() for part in options.parts.split(",") if part.strip()]
    unknown = sorted(set(parts) - set(EXPORT_PARTS))
    if unknown or not parts:
        raise CommandError(f"--parts {options.parts!r}: name some of {', '.join(EXPORT_PARTS)}")
    with _told(f"cannot export into {options.out}"):
        export = export_clip(_existing(options.clip), options.out, parts, _say)
    for path in export.files:
        print(path)
    for part, reason in export.left_out.items():
        print(f"{part} left out: {reason}")
    return 0


def _say(text: str) -> None:
    """What goes on, to people; the files that are there stand alone on stdout."""
    print(printable(text), file=sys.stderr, flush=True)


def _draw(draw: Callable[[Path, Path], Picture], options: argparse.Namespace) -> int:
    with _told(f"cannot draw {options.out}"):
        picture = draw(_existing(options.clip), options.out)
    print(picture.path)
    return 0


@contextmanager
def _told(what: str = "cannot read the clip") -> Iterator[None]:
    """Whatever is wrong with a clip (exit code 2), or with the disk (1), as one line."""
    from runtime.formats.mcap_files import McapFileError
    from runtime.recording.clip_file import ClipError
    from runtime.recording.manifest import ManifestError

    try:
        yield
    except (McapFileError, ManifestError, ClipError) as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(f"{what}: {error}", exit_code=1) from error


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise CommandError(f"{path} is not a file: name a sealed clip (.mcap)")
    from runtime.privacy.envelope import is_locked

    if is_locked(path):
        raise CommandError(f"{path} is locked for the fleet: open it first with 'shadowrig clip decrypt'")
    return path
