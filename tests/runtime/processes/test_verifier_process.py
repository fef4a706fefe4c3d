"""Clips are looked at in a process that can be lost: bounded in memory and time, gone when idle, and never trusted."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from runtime.formats import topics
from runtime.formats.foxglove_messages import encode_thumbnail
from runtime.formats.mcap_files import McapTopicWriter
from runtime.processes import verifier_link
from runtime.processes.verifier_child import MAX_ANSWER_BYTES, answer
from runtime.processes.verifier_link import VerifierBounds, VerifierLink
from runtime.uplink.verification import VerifierDiedError, VerifierStoppedError, VerifierTooSlowError

GOES_ON = threading.Event()
MEBIBYTE = 1 << 20


@pytest.fixture
def link() -> Iterator[Callable[..., VerifierLink]]:
    """Makes links that are closed at the end."""
    made: list[VerifierLink] = []

    def make(**bounds: float) -> VerifierLink:
        made.append(VerifierLink(VerifierBounds(**bounds)))
        return made[-1]

    yield make
    for each in made:
        each.close()


def clip_of_thumbnails(path: Path, width: int, height: int, count: int) -> Path:
    """A file as a vehicle can make one: a few hundred kilobytes of pictures that are as large as they say."""
    ok, jpeg = cv2.imencode(".jpg", np.zeros((height, width), np.uint8))
    assert ok
    channel = topics.thumbnail_channel("front", width, height)
    with McapTopicWriter(path) as writer:
        for number in range(count):
            writer.write(channel, encode_thumbnail("front", number + 1, jpeg.tobytes()), number + 1, number + 1, number)
    return path


@pytest.fixture(scope="module")
def slow_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six seconds of decoding."""
    return clip_of_thumbnails(tmp_path_factory.mktemp("slow") / "slow.mcap", 6000, 6000, 16)


def fields_of(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()


def until_gone(pid: int) -> None:
    deadline_s = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and fields_of(pid, "stat").rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline_s, f"process {pid} is still there"
        time.sleep(0.02)


def test_one_process_looks_at_clip_after_clip_and_leaves_when_idle(link, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of the bucket")
    garbage = tmp_path / "garbage.mcap"
    garbage.write_bytes(b"GIF89a, honestly")
    verifier = link(idle_s=0.0)
    assert verifier.pid is None, "nothing is started before there is something to look at"
    (problem,) = verifier.problems_of(garbage, GOES_ON)
    assert problem.startswith("[not_mcap] the clip: not an MCAP file"), "a descriptor's number says nothing to anybody"
    first = verifier.pid
    too_large = clip_of_thumbnails(tmp_path / "large.mcap", 8193, 8192, 1)
    told = "\n".join(verifier.problems_of(too_large, GOES_ON))
    assert "8193 x 8192 pixels, at most 67108864 are decoded" in told
    assert verifier.pid == first
    assert "of the bucket" not in fields_of(first, "environ")
    assert int(fields_of(first, "stat").rpartition(")")[2].split()[16]) == min(19, os.nice(0) + 10)
    limits = {line[:25].strip(): line[25:].split() for line in fields_of(first, "limits").splitlines()}
    assert int(limits["Max address space"][0]) < 3 << 30
    assert 0 < int(limits["Max cpu time"][0]) < 300
    os.kill(first, signal.SIGKILL)
    until_gone(first)
    assert verifier.problems_of(garbage, GOES_ON) == [problem], "it died of no clip, and another one was started"
    second = verifier.pid
    verifier.rest()
    assert verifier.pid is None
    until_gone(second)


@pytest.mark.parametrize(
    ("bounds", "cause"),
    [({"processor_s": 0.5}, "more than 0.5 s of processor time"), ({"wall_s": 0.3}, "more than 0.3 s")],
    ids=["processor", "wall"],
)
def test_a_clip_that_takes_too_long_ends_the_process_and_the_next_clip_gets_a_new_one(
    link, tmp_path, slow_clip, bounds, cause
) -> None:
    verifier = link(**bounds, processor_s_per_mebibyte=0.0, wall_s_per_mebibyte=0.0)
    with pytest.raises(VerifierTooSlowError, match=cause):
        verifier.problems_of(slow_clip, GOES_ON)
    assert verifier.pid is None


def test_a_long_clip_gets_the_time_that_its_size_takes(link, tmp_path) -> None:
    """Eight cameras of 1080p for ten minutes are 366 s of decoding; even a quiet scene of them has 200 MB."""
    bounds = VerifierBounds()
    assert (bounds.processor_s_for(0), bounds.wall_s_for(0)) == (240.0, 480.0)
    assert bounds.processor_s_for(200 * MEBIBYTE) > 366
    assert bounds.wall_s_for(200 * MEBIBYTE) > 2 * 366
    assert (bounds.processor_s_for(1 << 40), bounds.wall_s_for(1 << 40)) == (1800.0, 3600.0), "and no more"
    long = clip_of_thumbnails(tmp_path / "long.mcap", 6000, 6000, 4)  # more than a second of decoding
    per_mebibyte_s = 120.0 * MEBIBYTE / long.stat().st_size
    allowing = link(
        processor_s=0.5, wall_s=0.3, processor_s_per_mebibyte=per_mebibyte_s, wall_s_per_mebibyte=per_mebibyte_s
    )
    assert allowing.problems_of(long, GOES_ON), "looked at to its end, and told what it lacks"


def test_a_process_that_is_killed_meanwhile_died_of_the_clip(link, slow_clip) -> None:
    verifier = link()
    done = threading.Event()

    def kill_soon() -> None:
        while verifier.pid is None:
            assert not done.wait(0.01)
        done.wait(1.5)
        os.kill(verifier.pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_soon)
    killer.start()
    with pytest.raises(VerifierDiedError, match="ended by SIGKILL") as died:
        verifier.problems_of(slow_clip, GOES_ON)
    assert not isinstance(died.value, VerifierTooSlowError)
    done.set()
    killer.join()


def test_a_clip_that_takes_too_much_memory_does_not_get_it(link, tmp_path) -> None:
    large = clip_of_thumbnails(tmp_path / "large.mcap", 6000, 6000, 1)
    (problem,) = link(memory_bytes=64 * MEBIBYTE).problems_of(large, GOES_ON)
    assert "Insufficient memory" in problem


def test_a_receiver_told_to_stop_does_not_wait_for_a_clip(link, slow_clip) -> None:
    stop = threading.Event()
    verifier = link()
    told = threading.Timer(1.0, stop.set)
    told.start()
    with pytest.raises(VerifierStoppedError):
        verifier.problems_of(slow_clip, stop)
    assert verifier.pid is None
    told.join()


def test_the_process_leaves_with_the_receiver_however_that_goes(tmp_path) -> None:
    (tmp_path / "empty.mcap").touch()
    program = (
        "import sys, threading, time\n"
        "from pathlib import Path\n"
        "from runtime.processes.receiver_process import VerifierLink\n"
        "link = VerifierLink()\n"
        "link.problems_of(Path(sys.argv[1]), threading.Event())\n"
        "print(link.pid, flush=True)\n"
        "print({'av', 'cv2'} & set(sys.modules), flush=True)\n"
        "time.sleep(60)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "empty.mcap")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as receiver:
        assert receiver.stdout is not None
        pid = int(receiver.stdout.readline())
        assert receiver.stdout.readline().strip() == "set()", "the receiver itself loads no decoder"
        receiver.kill()
    until_gone(pid)


def test_a_verifier_that_cannot_start_is_no_fault_of_the_clip(link, tmp_path, monkeypatch) -> None:
    (tmp_path / "empty.mcap").touch()
    monkeypatch.setattr(verifier_link, "VERIFIER", "runtime.processes.no_such_module")
    with pytest.raises(OSError, match="does not start: ended with code 1"):
        link().problems_of(tmp_path / "empty.mcap", GOES_ON)


@pytest.mark.parametrize("said", [b"{}", b"[1]", b"[" * 5000, b"\xff", b"[" + b'"x",' * 20_000 + b'"x"]'])
def test_what_no_verifier_says_counts_as_its_death(link, tmp_path, monkeypatch, said) -> None:
    """A hole in a decoder makes the process the vehicle's."""
    (tmp_path / "empty.mcap").touch()
    verifier = link()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    monkeypatch.setattr(verifier, "_link", ours)
    with theirs:
        theirs.send(said)
        with pytest.raises(VerifierDiedError, match="it was ended"):
            verifier.problems_of(tmp_path / "empty.mcap", GOES_ON)


def test_any_number_of_problems_fits_into_an_answer() -> None:
    told = answer(["\u2620" * 10_000] * 10_000)
    assert len(told) <= MAX_ANSWER_BYTES
    assert b"more" in told
