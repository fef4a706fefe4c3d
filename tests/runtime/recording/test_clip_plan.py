from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from recorded_rig import SECOND_NS, firing

from runtime.messages import ClipVariant, Priority
from runtime.recording.clip_plan import plan_clips
from runtime.recording.firing_files import WaitingFiring, crash_firing

MINUTE_NS = 60 * SECOND_NS


def waiting(at_s: float, name: str, **capture: object) -> WaitingFiring:
    return WaitingFiring(Path(f"{name}.json"), "run", firing(at_s, rule=name, **capture))  # type: ignore[arg-type]


def test_firings_far_apart_have_clips_of_their_own() -> None:
    plans = plan_clips([waiting(10, "a"), waiting(20, "b")], MINUTE_NS)
    assert [plan.rules for plan in plans] == [("a",), ("b",)]
    assert plans[0].end_ns - plans[0].start_ns == 5 * SECOND_NS


def test_overlapping_firings_share_a_clip_and_keep_their_names() -> None:
    (plan,) = plan_clips([waiting(12, "b"), waiting(10, "a"), waiting(14, "a")], MINUTE_NS)
    assert plan.rules == ("a", "b")
    assert len(plan.firings) == 3
    assert plan.end_ns - plan.start_ns == 9 * SECOND_NS


def test_merging_stops_at_the_longest_clip() -> None:
    plans = plan_clips([waiting(second, f"r{second}") for second in range(60)], 20 * SECOND_NS)
    assert all(plan.end_ns - plan.start_ns <= 20 * SECOND_NS for plan in plans)
    assert sum(len(plan.firings) for plan in plans) == 60


def test_a_window_longer_than_the_longest_clip_is_kept_whole() -> None:
    (plan,) = plan_clips([waiting(100, "long", pre_s=90.0)], 20 * SECOND_NS)
    assert plan.end_ns - plan.start_ns == 92 * SECOND_NS


def test_the_clip_has_the_highest_priority_of_its_firings() -> None:
    (plan,) = plan_clips([waiting(1, "a", priority=Priority.LOW), waiting(2, "b", priority=Priority.SAFETY)], MINUTE_NS)
    assert plan.priority is Priority.SAFETY


def test_cameras_add_up_and_all_wins() -> None:
    (plan,) = plan_clips([waiting(1, "a", cameras=("rear",)), waiting(2, "b", cameras=("front",))], MINUTE_NS)
    assert plan.cameras == ("rear", "front")
    (plan,) = plan_clips([waiting(1, "a", cameras=("rear",)), waiting(2, "b")], MINUTE_NS)
    assert plan.cameras == ()


@given(st.lists(st.tuples(st.floats(0, 300), st.floats(0, 30), st.floats(0, 30)), max_size=30), st.randoms())
def test_every_firing_is_covered_once_whatever_the_order(
    windows: list[tuple[float, float, float]], random: object
) -> None:
    firings = [waiting(at, f"r{i}", pre_s=pre, post_s=post) for i, (at, pre, post) in enumerate(windows)]
    plans = plan_clips(firings, MINUTE_NS)
    random.shuffle(firings)  # type: ignore[attr-defined]
    assert plan_clips(firings, MINUTE_NS) == plans
    assert sorted(f.path.name for plan in plans for f in plan.firings) == sorted(f.path.name for f in firings)
    for plan in plans:
        assert all(plan.start_ns <= f.start_ns and f.end_ns <= plan.end_ns for f in plan.firings)
        assert plan.end_ns - plan.start_ns <= MINUTE_NS


SMALL = ClipVariant.THUMBNAILS


def test_a_rule_that_asks_for_thumbnails_does_not_make_a_full_clip_longer() -> None:
    plans = plan_clips([waiting(10, "full"), waiting(12, "small", variant=SMALL)], MINUTE_NS)
    assert [(plan.rules, plan.variant) for plan in plans] == [(("full",), ClipVariant.FULL), (("small",), SMALL)]
    assert plans[0].end_ns == waiting(10, "full").end_ns


def test_thumbnails_that_a_full_clip_holds_anyway_have_no_clip_of_their_own() -> None:
    inside = waiting(10.5, "small", variant=SMALL, pre_s=1.0, post_s=1.0)
    (plan,) = plan_clips([waiting(10, "full"), inside], MINUTE_NS)
    assert (plan.rules, plan.variant) == (("full", "small"), ClipVariant.FULL)
    assert plan.clip_id == plan_clips([waiting(10, "full")], MINUTE_NS)[0].clip_id


def test_joining_a_full_clip_does_not_widen_it() -> None:
    narrow = waiting(10, "full", cameras=("rear",))
    of_all = waiting(10, "small", variant=SMALL, pre_s=1.0, post_s=1.0)
    assert len(plan_clips([narrow, of_all], MINUTE_NS)) == 2
    of_it = waiting(10, "small", variant=SMALL, pre_s=1.0, post_s=1.0, cameras=("rear",))
    (plan,) = plan_clips([narrow, of_it], MINUTE_NS)
    assert plan.cameras == ("rear",)


def test_thumbnails_merge_among_themselves() -> None:
    (plan,) = plan_clips([waiting(10, "a", variant=SMALL), waiting(12, "b", variant=SMALL)], MINUTE_NS)
    assert (plan.rules, plan.variant) == (("a", "b"), SMALL)


def test_a_clip_with_a_crash_in_it_is_of_that_kind() -> None:
    crash = WaitingFiring(Path("crash.json"), "run", crash_firing(waiting(10, "a").end_ns, 0, 5.0, "1"))
    (plan,) = plan_clips([waiting(10, "a"), crash], MINUTE_NS)
    assert plan.kind == "crash"
