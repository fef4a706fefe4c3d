"""Small files of others in the spool's folder, which the quota holds as well.

    selection.json   the recorder's copy of the runtime's budgets, `MAX_COPY_BYTES` at most: charged twice, because a
                     new one is written beside the old
    pulls/           requests for ranges and their answers, as many as `pull_files` keeps: charged with what they occupy

They are looked at when somebody is admitted, so what they may grow by until then is charged as well.
"""

from __future__ import annotations

from pathlib import Path

from runtime.formats.pull_files import PULLS_FOLDER
from runtime.formats.selection_file import SELECTION_FILE

#: Until somebody is admitted again: as many pulls as may wait, with their answers, take half of it, and a copy with
#: three thousand firings in flight more than the one before takes the other half.
SMALL_FILES_GROWTH_BYTES = 1 << 20


def small_files_bytes_soon(directory: Path) -> int:
    """What they occupy of the disk, whole blocks, or may soon."""
    pulls_bytes = sum(map(_occupied, (directory / PULLS_FOLDER).glob("*/*")))
    return 2 * _occupied(directory / SELECTION_FILE) + pulls_bytes + SMALL_FILES_GROWTH_BYTES


def _occupied(path: Path) -> int:
    try:
        return path.lstat().st_blocks * 512
    except FileNotFoundError:
        return 0  # never written, or the other process took it meanwhile
