"""The table of faults is complete and true: each fault has a row, each row names a test that exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROW = re.compile(r"^\| (?P<fault>[^|]+?) \| `(?P<file>[^:`]+)::(?P<test>[^`]+)` \|$", re.MULTILINE)
ROWS = [match.groupdict() for match in ROW.finditer((HERE / "README.md").read_text())]
#: Faults that clips were promised to survive; a row may say more, such as where.
PROMISED = """
    link black-holed mid-chunk, reset every 10 s, 50 % loss and 50 ms, ACK lost, DONE lost, duplicate chunks,
    reordered chunks, bit flip, truncated chunk, oversize frame, oversize object,
    endless multipart from an enrolled key, stranger under nine ZAP set-ups, authenticator death, revoked key live,
    forged vehicle field, wrong server key, 1,000 half-open connections, replayed session, version mismatch,
    receiver killed at every step, vehicle killed at every step, power cut, fsync EIO, vehicle disk full, receiver full,
    quota storm, evict during upload, ledger corrupt, ledger deleted, trigger storm 1,000 a minute,
    event during event, recorder down while rules fire, runtime kill -9, clock jump of a day, exclusion zone, GPS lost
"""


def promised() -> list[str]:
    """The list above; a comma between digits is part of a number."""
    return [" ".join(fault.split()) for fault in re.split(r",(?!\d)", PROMISED)]


@pytest.mark.parametrize("fault", promised())
def test_every_promised_fault_has_a_row(fault: str) -> None:
    assert any(row["fault"].startswith(fault) for row in ROWS), f"no row of README.md begins with {fault!r}"


@pytest.mark.parametrize("row", [pytest.param(row, id=row["fault"]) for row in ROWS])
def test_every_row_names_a_test_that_exists(row: dict[str, str]) -> None:
    path = HERE / row["file"]
    assert path.exists(), f"{row['file']} does not exist"
    assert re.search(rf"^def {re.escape(row['test'])}\(", path.read_text(), re.MULTILINE), (
        f"{row['test']} does not exist"
    )
