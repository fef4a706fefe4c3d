"""Which kind of drive a path is."""

from __future__ import annotations

from pathlib import Path

from runtime.drives.drive import Drive
from runtime.drives.folder_drive import open_folder_drive
from runtime.drives.mcap_drive import open_mcap_drive
from runtime.formats.documents import DocumentError, Problem

DRIVE_FILE = "drive.yaml"
MCAP_FILE = "drive.mcap"


def open_drive(path: Path | str) -> Drive:
    """Open a recorded drive: an `.mcap` file, a `drive.yaml`, or the folder that holds either.

    Raises:
        DocumentError: with everything that is wrong with the drive's description, tables and log.
    """
    path = Path(path)
    if path.is_dir():
        path = _file_in_folder(path)
    if path.suffix == ".mcap":
        return open_mcap_drive(path)
    return open_folder_drive(path)


def _file_in_folder(folder: Path) -> Path:
    for name in (DRIVE_FILE, MCAP_FILE):
        if (folder / name).exists():
            return folder / name
    fix = f"add a {DRIVE_FILE}, or name an .mcap file"
    raise DocumentError(
        [Problem(str(folder), 0, 0, f"holds no drive: neither {DRIVE_FILE} nor {MCAP_FILE}", None, fix)]
    )
