"""Which kept clip serves a range pull, and what the fleet is told of those that cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runtime.formats.pull_files import PullRequest
from runtime.messages import NANOSECONDS_PER_SECOND
from runtime.recording.clip_sink import SealedClip
from runtime.recording.kept_clips import overlap_ns, why_none_serves

REQUEST = PullRequest("a1", ("rear",), 10 * NANOSECONDS_PER_SECOND, 20 * NANOSECONDS_PER_SECOND, clock="wall")
WHOLE = {"start_wall_ns": 0, "end_wall_ns": 30 * NANOSECONDS_PER_SECOND, "cameras": ["front", "rear"]}


def kept(number: int, **said: Any) -> SealedClip:
    return SealedClip(Path(f"{number}.mcap"), 1, {**WHOLE, **said}, number)


def test_an_open_full_clip_with_the_camera_serves_what_it_has_of_the_range() -> None:
    assert overlap_ns(REQUEST, kept(1), {}) == 10 * NANOSECONDS_PER_SECOND
    assert overlap_ns(REQUEST, kept(1, end_wall_ns=12 * NANOSECONDS_PER_SECOND), {}) == 2 * NANOSECONDS_PER_SECOND
    assert why_none_serves(REQUEST, [kept(1)], {}) == ""


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"encryption": {"recipients": ["x"]}}, "it is locked for the fleet's key"),
        ({"partial": True}, "it is what was left of a clip"),
        ({"variant": "thumbnails"}, "it holds thumbnails only"),
        ({"cameras": ["front"]}, "it lacks rear"),
    ],
)
def test_one_that_cannot_serve_is_named_with_the_reason(said: dict[str, Any], reason: str) -> None:
    clip = kept(7, **said)
    assert overlap_ns(REQUEST, clip, {}) == 0
    told = why_none_serves(REQUEST, [kept(3, cameras=[], end_wall_ns=11 * NANOSECONDS_PER_SECOND), clip], {})
    assert told.startswith(f"clip 7 in the spool has 10.0 s of it, but {reason}")


def test_clips_of_other_seconds_are_no_reason() -> None:
    assert (
        why_none_serves(
            REQUEST, [kept(1, encryption={}, end_wall_ns=5), kept(2, variant="thumbnails", end_wall_ns=5)], {}
        )
        == ""
    )
