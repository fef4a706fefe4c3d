"""A tmpfs of 3 MB of a test's own, really full when it is full, without the right to mount one for all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
_OWN_MOUNTS = ("unshare", "--user", "--map-root-user", "--mount")


def run_on_a_tmpfs_of_3_mb(directory: Path, script: str) -> list[int]:
    """The numbers that the script prints; skips where no tmpfs can be mounted.

    Its arguments are the directory, which is the tmpfs for it alone, and two folders to import from: the recording
    tests' and the repository's.
    """
    mounted = 'mount -t tmpfs -o size=3m tmpfs $0 && exec $1 -c "$2" $0 $3 $4'
    probe = subprocess.run([*_OWN_MOUNTS, "mount", "-t", "tmpfs", "tmpfs", str(directory)], check=False)
    if probe.returncode != 0:
        pytest.skip("this kernel does not let us mount a small tmpfs in a user namespace (unshare --user --mount)")
    folders = (str(TESTS / "runtime" / "recording"), str(TESTS.parent))
    shell = [*_OWN_MOUNTS, "sh", "-c", mounted, str(directory), sys.executable]
    done = subprocess.run([*shell, script, *folders], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [int(number) for number in done.stdout.split()]
