"""What runs on a LazyFS disk: `python lazyfs_process.py steps ROLE`, or a role of `uplink_process.py` as it is.

`steps` runs the steps of `power_cut_process.py`, `spool` or `receiver`, in each folder that is named on stdin. Each
note of what was begun, synced or done is a line on stdout, and the next step waits for a line on stdin, so that whoever
cuts the power knows where. A line {"exit": code} ends a folder: its run is a process of its own, forked, because
starting Python for each of hundreds of cuts takes longer than all that they try.

Both believe that the disk has room: LazyFS has no statfs.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import power_cut_process
import uplink_process
from lazyfs_disk import unlimited_disk_usage


def note(phase: str, step: str, **facts: Any) -> None:
    """Say it, and wait to be told to go on."""
    print(json.dumps({"phase": phase, "step": step, **facts}), flush=True)
    if not sys.stdin.readline():
        raise SystemExit("nobody is there to go on for")


def run_steps(role: str) -> None:
    """One process per folder that is named on stdin."""
    power_cut_process.mark = note
    steps = {"spool": power_cut_process.SpoolSteps, "receiver": power_cut_process.ReceiverSteps}[role]
    while folder := sys.stdin.readline().strip():
        child = os.fork()
        if child == 0:
            steps(Path(folder)).run()
            return
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(json.dumps({"exit": code}), flush=True)


def main(role: str, argument: str) -> None:
    shutil.disk_usage = unlimited_disk_usage  # type: ignore[assignment]
    if "WITHOUT_SYNCS" in os.environ:  # a test's test: whoever syncs nothing must be found out
        os.fsync = os.fdatasync = lambda _: None
    if role == "steps":
        run_steps(argument)
        return
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    roles = {"seal": uplink_process.seal, "upload": uplink_process.upload, "receive": uplink_process.receive}
    roles[role](ended, json.loads(argument))


if __name__ == "__main__":
    main(*sys.argv[1:])
