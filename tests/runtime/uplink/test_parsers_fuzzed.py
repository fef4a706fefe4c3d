"""Parsers of foreign bytes, under random and coverage-guided input: their own error, or a value that round-trips."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import msgpack
import pytest
from fuzz_parsers import TARGETS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.formats.pull_files import PullAnswer, PullRequest
from runtime.uplink.wire import (
    Ack,
    CampaignPart,
    CampaignQuestion,
    Chunk,
    Hello,
    Nack,
    Offer,
    Pull,
    PullResult,
    State,
    TombstoneNotice,
    Welcome,
    encode,
)

REPOSITORY = Path(__file__).resolve().parents[3]
DIGEST = bytes(range(32))
MESSAGES = [
    Hello(2, "software"),
    Welcome(2, 1 << 20, 1 << 18, 1 << 32),
    Offer(1, DIGEST, 1000, "safety"),
    State(1, DIGEST, "partial", ((0, 10), (20, 30))),
    Chunk(1, DIGEST, 0, DIGEST),
    Ack(1, DIGEST, ((0, 10),)),
    Nack("storage", "full", 1, DIGEST),
    TombstoneNotice(1, "evicted"),
    Pull("a1", ("front",), 1, 2, "wall", "high"),
    PullResult("a1", "refused", "no history", 0),
    CampaignQuestion("metadata/x.json", 0, 10),
    CampaignPart("metadata/x.json", 0, 10, "part"),
]
EXAMPLES = {
    "wire": [encode(message) + b"\xc1x" for message in MESSAGES],
    "metadata": [b'{"rules": ["a"], "n": [1, 2.5, null]}', b"[]", b"\xff"],
    "pull_file": [
        json.dumps(PullRequest("a1", ("front",), 1, 2).to_json()).encode(),
        json.dumps(PullAnswer("a1", "sealed", n=3).to_json()).encode(),
    ],
    "key_text": [b"rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7", b"car-17"],
}


@st.composite
def damaged(draw, examples: list[bytes]) -> bytes:
    """A good input with a few bytes changed, cut out or put in."""
    data = bytearray(draw(st.sampled_from(examples)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=4))
    return bytes(data)


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_damaged_and_random_input_is_refused_or_round_trips(name):
    @settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.binary(max_size=300) | damaged(EXAMPLES[name]))
    def check(data):
        TARGETS[name](data)

    check()


def test_a_header_that_repeats_a_type_is_none():
    header = msgpack.packb({"type": "HELLO", "version": 2, "software": "x"})
    TARGETS["wire"](header[:1] + header[1:14] + header[1:])


@pytest.mark.sweep
@pytest.mark.parametrize("name", sorted(TARGETS))
def test_coverage_guided_input_finds_nothing(name, tmp_path, sweep_size):
    pytest.importorskip("atheris", reason="atheris is not installed: pip install 'shadowrig[fuzz]'")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for index, example in enumerate(EXAMPLES[name]):
        (corpus / str(index)).write_bytes(example)
    script = Path(__file__).with_name("fuzz_parsers.py")
    runs = f"-runs={sweep_size(200_000)}"
    command = [
        sys.executable,
        str(script),
        name,
        str(corpus),
        runs,
        "-max_len=5000",
        "-seed=1",
        f"-artifact_prefix={tmp_path}/",
    ]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Done" in done.stderr
