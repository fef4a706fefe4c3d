"""Recorder and uploader are different users in the car: the spool that they share by their group works for both."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

RECORDER, UPLOADER, SHARED_GROUP = 64101, 64102, 64100

#: Imports as root (an interpreter may lie where others cannot read), then becomes the unit's user for good.
BECOME = """
import os, sqlite3, sys
from pathlib import Path
from runtime.messages import Priority
from runtime.spool import Spool
user, group, directory = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
os.setgroups([]); os.setgid(group); os.setuid(user); os.umask(0o007)
"""
SEAL = """
with Spool.open(directory, 100_000_000) as spool:
    draft = spool.begin(1_000_000, Priority.NORMAL)
    draft.path.write_bytes(b"clip of " + str(user).encode())
    print(spool.seal(draft, {}).n)
"""
DELIVER = """
with Spool.open(directory, 100_000_000) as spool:
    for clip in spool.pending():
        clip.path.read_bytes()
        spool.mark_delivered(clip.n)
    print(spool.counts().delivered)
"""


def as_user(user: int, script: str, directory: Path) -> str:
    command = [sys.executable, "-c", BECOME + script, str(user), str(SHARED_GROUP), str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users can enter; pytest's own temporary folders are closed to them."""
    with tempfile.TemporaryDirectory(prefix="shadowrig-users-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


@pytest.mark.skipif(os.getuid() != 0, reason="becoming other users needs root")
@pytest.mark.parametrize("first", [RECORDER, UPLOADER], ids=["recorder_first", "uploader_first"])
def test_what_one_user_seals_the_other_delivers_whoever_starts_first(open_folder, first):
    spool = open_folder / "spool"
    spool.mkdir()
    os.chown(spool, RECORDER, SHARED_GROUP)
    spool.chmod(0o2770)
    as_user(first, DELIVER, spool)
    assert as_user(RECORDER, SEAL, spool) == "1"
    assert as_user(UPLOADER, DELIVER, spool) == "1"
    assert as_user(RECORDER, SEAL, spool) == "2"
