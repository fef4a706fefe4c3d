"""A recorded tick gives back what its rules saw, to the last bit."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.formats.tick_records import decode_tick, encode_tick
from runtime.messages import CameraView, Frameset, TickReport, Track

_numbers = st.floats(allow_nan=False, allow_infinity=False)
_unknown = st.none() | _numbers
_words = st.text(max_size=8)
_times = st.integers(0, 2**62)
_counts = st.none() | st.integers(0, 16)
_tracks = st.builds(
    Track, st.integers(0, 2**40), _words, _words, _numbers, st.tuples(*[_numbers] * 4), _times, _times, st.booleans(),
    st.none() | _words, _unknown, _unknown, _unknown, _unknown, st.none() | _words, _unknown, _unknown, _unknown,
    _unknown, _counts, _counts, _unknown,
)  # fmt: skip
_views = st.builds(CameraView, _words, _words, st.booleans(), *[_unknown] * 7)
_values = st.dictionaries(_words, st.booleans() | _numbers | _words, max_size=5)


def report(tracks: Any, cameras: Any, signals: Any) -> TickReport:
    return TickReport(7, 1000, None, None, tracks, None, [], {"infer": 1.5}, 2000, cameras=cameras, signals=signals)


@given(st.none() | st.lists(_tracks, max_size=4), st.none() | st.lists(_views, max_size=3), _values)
def test_what_rules_saw_comes_back_unchanged(tracks: Any, cameras: Any, signals: Any) -> None:
    tick = decode_tick(encode_tick(report(tracks, cameras, signals)))
    assert (tick.sequence, tick.time_ns, tick.wall_ns) == (7, 1000, 2000)
    assert tick.tracks == tracks
    assert tick.cameras == cameras
    assert tick.signals == signals


def test_unknown_tracks_are_not_an_empty_list() -> None:
    assert decode_tick(encode_tick(report(None, None, {}))).tracks is None
    assert decode_tick(encode_tick(report([], [], {}))).tracks == []


def test_number_that_json_does_not_know_is_unknown() -> None:
    tick = decode_tick(encode_tick(report([], None, {"heads.a": float("nan"), "heads.b": 1.0})))
    assert tick.signals == {"heads.b": 1.0}


def test_fields_of_a_newer_version_are_skipped() -> None:
    said = json.loads(encode_tick(report([], [CameraView("front", "ok", False)], {})))
    said["cameras"]["fields"].append("dirt_share")
    said["cameras"]["rows"][0].append(0.5)
    assert decode_tick(json.dumps(said).encode()).cameras == [CameraView("front", "ok", False)]


@pytest.mark.parametrize(
    "data",
    [
        b"[]",
        b"{}",
        b"not json",
        b'{"sequence":1,"time_ns":1,"wall_ns":1,"tracks":3,"cameras":null,"signals":{},"firings":[]}',
        b'{"sequence":1,"time_ns":1,"wall_ns":1,"tracks":{"fields":["a"],"rows":[[]]},"cameras":null,"signals":{},'
        b'"firings":[]}',
    ],
)
def test_what_is_no_tick_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a recorded tick"):
        decode_tick(data)


def test_bookkeeping_says_who_was_there() -> None:
    frameset = Frameset(
        3, 1000, ("front", "rear"), np.array([True, False]), np.zeros(2, np.int64), np.zeros(2, np.int64),
        np.zeros((0, 3, 0, 0), np.uint8),
    )  # fmt: skip
    said = json.loads(encode_tick(TickReport(7, 1000, frameset, None, [], None, [], {})))
    assert (said["frameset_sequence"], said["present"], said["missing"]) == (3, ["front"], ["rear"])
