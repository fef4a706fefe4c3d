"""Which kept clip serves a range pull, and what the fleet is told of those that cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runtime.formats.pull_files import PullRequest
from runtime.messages import NANOSECONDS_PER_SECOND
from runtime.recording.clip_sink import SealedClip
from runtime.recording.kept_clips import overlap_ns, times_of, wall_offset_ns, why_none_serves

REQUEST = PullRequest("a1", ("rear",), 10 * NANOSECONDS_PER_SECOND, 20 * NANOSECONDS_PER_SECOND, clock="wall")


def kept(number: int, end_s: int = 30, set_by_s: int = 0, **said: Any) -> SealedClip:
    """A clip from 5 s after the start of its machine, which was 5 s before wall time 0, until wall time `end_s`.

    `set_by_s`: how much the clock was set by in between.
    """
    seconds = {"start_ns": 5, "end_ns": 5 + end_s, "start_wall_ns": 0, "end_wall_ns": end_s + set_by_s}
    times = {key: value * NANOSECONDS_PER_SECOND for key, value in seconds.items()}
    return SealedClip(Path(f"{number}.mcap"), 1, {**times, "cameras": ["front", "rear"], **said}, number)


def test_an_open_full_clip_with_the_camera_serves_what_it_has_of_the_range() -> None:
    assert overlap_ns(REQUEST, kept(1), {}) == 10 * NANOSECONDS_PER_SECOND
    assert overlap_ns(REQUEST, kept(1, end_s=12), {}) == 2 * NANOSECONDS_PER_SECOND
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
    told = why_none_serves(REQUEST, [kept(3, cameras=[], end_s=11), clip], {})
    assert told.startswith(f"clip 7 in the spool has 10.0 s of it, but {reason}")


def test_clips_of_other_seconds_are_no_reason() -> None:
    others = [kept(1, end_s=5, encryption={"recipients": ["x"]}), kept(2, end_s=5, variant="thumbnails")]
    assert why_none_serves(REQUEST, others, {}) == ""


def test_a_clip_within_which_the_clock_was_set_has_the_seconds_of_its_ends_and_none_of_the_years_between() -> None:
    """Nine seconds, by a clock that jumped from 0 to 50 years later."""
    years_s = 50 * 365 * 86_400
    clip = kept(1, end_s=9, set_by_s=years_s)
    assert not times_of(clip).is_steady
    assert overlap_ns(REQUEST, clip, {}) == 0
    for asked_s, offset_s, expected_s in ((2, -5, 4), (years_s + 3, years_s - 5, 4), (years_s - 2, years_s - 5, 2)):
        asked_ns = asked_s * NANOSECONDS_PER_SECOND
        request = PullRequest("a1", ("rear",), asked_ns, asked_ns + 4 * NANOSECONDS_PER_SECOND, clock="wall")
        assert overlap_ns(request, clip, {}) == expected_s * NANOSECONDS_PER_SECOND
        assert wall_offset_ns(request, times_of(clip)) == offset_s * NANOSECONDS_PER_SECOND
