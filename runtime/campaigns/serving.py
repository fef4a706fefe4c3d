"""The receiver's end: hands out files of a repository, read-only, and keeps what vehicles report.

Only `metadata/` and `targets/` below the served folder are handed out, and only regular files that lie there once
every link is followed. Nothing here is trusted by vehicles: they check signatures. Reports are one file for each
vehicle, replaced by the next: `<reports>/<vehicle>.json`, `{"received_wall_ns", "vehicle", "report"}`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from runtime.campaigns.paths import file_below
from runtime.campaigns.shelf import read_bounded
from runtime.formats.durable_files import make_directory_durably, write_durably

SERVED = ("metadata/", "targets/")
MAX_REPORTS = 100_000
MAX_REPORT_BYTES = 128 * 1024


class CampaignFiles:
    """A `CampaignDesk` of the uplink."""

    def __init__(self, repository: Path, reports: Path) -> None:
        self._repository = repository
        self._reports = reports

    def part(self, path: str, offset: int, length: int) -> tuple[int, bytes] | None:
        """The file's length and a part of it; None when there is no such file. OSError when it cannot be read."""
        if not path.startswith(SERVED):
            return None
        found = file_below(self._repository, path)
        if found is None or not found.is_relative_to((self._repository / path.split("/")[0]).resolve()):
            return None
        try:
            with found.open("rb") as stream:
                size_bytes = stream.seek(0, 2)
                stream.seek(min(offset, size_bytes))
                return size_bytes, stream.read(length)
        except FileNotFoundError:
            return None

    def record(self, vehicle: str, report: bytes, wall_ns: int) -> None:
        """Keep a vehicle's report, which is a JSON object. The name is that of an enrolled key."""
        make_directory_durably(self._reports, mode=0o750)
        document = {"received_wall_ns": wall_ns, "vehicle": vehicle, "report": json.loads(report)}
        write_durably(self._reports / f"{vehicle}.json", json.dumps(document).encode())


def read_reports(reports: Path) -> list[dict[str, Any]]:
    """What vehicles reported last, by name. A file that cannot be read is said to be so, not left out."""
    found = []
    for path in sorted(reports.glob("*.json"))[:MAX_REPORTS]:
        try:
            document = json.loads(read_bounded(path, MAX_REPORT_BYTES) or b"")
            found.append({"vehicle": path.stem, **document} if isinstance(document, dict) else {"vehicle": path.stem})
        except (OSError, ValueError, RecursionError) as error:
            found.append({"vehicle": path.stem, "problem": f"its report cannot be read: {error}"})
    return found
