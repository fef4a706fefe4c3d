"""Parsers of foreign bytes, under random and coverage-guided input: their own error, or a value that round-trips."""

from __future__ import annotations

import base64
import io
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

from runtime.formats.mcap_files import McapTopicWriter
from runtime.formats.pull_files import PullAnswer, PullRequest
from runtime.formats.topics import ChannelSpec
from runtime.privacy.envelope import MAGIC, read_header
from runtime.recording.manifest import parse_manifest
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
FIRING = {
    "rule": "braking", "rule_version": "1", "sequence": 4, "session": "s", "time_ns": 5, "wall_ns": 6,
    "operands": {"speed": 3.5}, "priority": "safety", "sample_probability": 1.0, "pre_s": 2.0, "post_s": 1.0,
}  # fmt: skip
CAMERA = {
    "codec": "h264", "transcoded": False, "frames": 3, "bytes": 900, "first_ns": 1, "last_ns": 9, "period_ms": 50.0,
    "starts_late_s": 0, "ends_early_s": 0, "gap_count": 1, "gaps": [{"after_ns": 3, "duration_ms": 80.5}],
    "lag_median_ms": None, "lag_max_ms": None, "sha256": "00",
}  # fmt: skip
PROVENANCE = {
    "software_version": "1", "vehicle": "car-1", "config_sha256": "00", "rules_sha256": "00", "model": None,
    "engine": None, "calibration_sha256": None,
}  # fmt: skip
MANIFEST = {
    "format": "shadowrig-clip", "format_version": 1, "clip_id": "c1", "requested_start_ns": 1, "requested_end_ns": 9,
    "start_ns": 1, "end_ns": 9, "start_wall_ns": 1, "end_wall_ns": 9, "priority": "safety", "firings": [FIRING],
    "reference_camera": "front", "cameras": {"front": CAMERA}, "missing_cameras": ["rear"], "topics": {"/tick": 2},
    "pre_roll_short_s": 0.5, "ended_early": None, "provenance": PROVENANCE,
}  # fmt: skip


def locked_clip() -> bytes:
    """The head of one, with a data key that opens nothing."""
    recipients = [{"key_id": "k1", "wrapped": base64.b64encode(bytes(80)).decode()}]
    prefix = base64.b64encode(bytes(7)).decode()
    fields = {"version": 1, "chunk_bytes": 65536, "nonce_prefix": prefix, "recipients": recipients, "facts": {"n": 1}}
    text = json.dumps(fields).encode()
    return MAGIC + len(text).to_bytes(4, "big") + text


def small_file(chunked: bool) -> bytes:
    """Two messages, a metadata record and an attachment."""
    stream = io.BytesIO()
    writer = McapTopicWriter(stream, chunked=chunked)
    channel = ChannelSpec("/tick", "tick", "jsonschema", b"{}", "json")
    for time_ns in (1, 2):
        writer.write(channel, b'{"a": 1}', time_ns)
    if chunked:
        writer.metadata("provenance", {"vehicle": "car-1"})
        writer.attachment("manifest.json", "application/json", b"{}")
    writer.finish()
    return stream.getvalue()


EXAMPLES = {
    "wire": [encode(message) + b"\xc1x" for message in MESSAGES],
    "metadata": [b'{"rules": ["a"], "n": [1, 2.5, null]}', b"[]", b"\xff"],
    "pull_file": [
        json.dumps(PullRequest("a1", ("front",), 1, 2).to_json()).encode(),
        json.dumps(PullAnswer("a1", "sealed", n=3).to_json()).encode(),
    ],
    "manifest": [json.dumps(MANIFEST).encode()],
    "envelope": [locked_clip(), locked_clip() + bytes(100)],
    "clip_file": [small_file(chunked=True), small_file(chunked=False)],
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


def test_the_examples_of_clips_are_good_ones():
    """Else damage to them would test nothing but a refusal at the door."""
    assert parse_manifest(EXAMPLES["manifest"][0]).rules == ["braking"]
    assert read_header(io.BytesIO(EXAMPLES["envelope"][0])).chunk_bytes == 65536


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
    script = Path(__file__).with_name("fuzz_by_coverage.py")
    runs = f"-runs={sweep_size(200_000)}"
    command = [
        sys.executable,
        str(script),
        name,
        str(corpus),
        runs,
        "-max_total_time=60",
        "-max_len=5000",
        "-seed=1",
        f"-artifact_prefix={tmp_path}/",
    ]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Done" in done.stderr
