"""The phase is chosen from measured readiness, stands still, and is measured again only on command."""

from __future__ import annotations

import pytest

from runtime.phase_choice import LEAST_FRAMES, PhaseSearch, choose_phase

MS = 1_000_000
PERIOD = 28 * MS


def test_the_phase_is_a_quarter_more_than_the_slowest_frames_need() -> None:
    choice = choose_phase([10 * MS, 8 * MS, 9 * MS], 1000, 2 * MS, PERIOD)
    assert choice is not None
    assert (choice.needed_ns, choice.phase_ns, choice.overlaps_capture) == (9 * MS, 11_250_000, False)


def test_one_stall_of_the_machine_does_not_make_every_result_late() -> None:
    quiet = choose_phase([8 * MS] * 5, 1000, 2 * MS, PERIOD)
    stalled = choose_phase([8 * MS] * 4 + [60 * MS], 1000, 2 * MS, PERIOD)
    assert quiet is not None
    assert stalled is not None
    assert stalled.phase_ns == quiet.phase_ns


def test_the_margin_is_cut_where_the_tick_would_reach_into_the_next_capture() -> None:
    choice = choose_phase([10 * MS], 1000, 17 * MS, PERIOD)
    assert choice is not None
    assert choice.phase_ns == PERIOD - 17 * MS
    assert not choice.overlaps_capture


def test_frames_win_over_a_tick_that_does_not_fit_and_the_choice_says_so() -> None:
    choice = choose_phase([12 * MS], 1000, 20 * MS, PERIOD)
    assert choice is not None
    assert choice.phase_ns == 15 * MS
    assert choice.overlaps_capture
    assert choice.to_dict()["overlaps_capture"] is True


def test_readiness_near_zero_keeps_a_least_margin_and_an_absurd_one_is_bounded() -> None:
    quick, slow = choose_phase([0], 1000, MS, PERIOD), choose_phase([900 * MS], 1000, MS, PERIOD)
    assert quick is not None
    assert slow is not None
    assert quick.phase_ns == MS // 2
    assert slow.phase_ns == PERIOD * 3 // 2


@pytest.mark.parametrize(("slowest", "frames"), [([], 1000), ([5 * MS], LEAST_FRAMES - 1)])
def test_too_few_frames_choose_nothing(slowest: list[int], frames: int) -> None:
    assert choose_phase(slowest, frames, MS, PERIOD) is None


class Rig:
    """Ticks on the beat, with frames that stand ready after `ready_ns`."""

    def __init__(self, search: PhaseSearch) -> None:
        self.search = search
        self.now_ns = 0
        self.ready_ns = {"front": 6 * MS, "rear": 8 * MS}

    def run(self, seconds: float) -> list[int]:
        """The new phases that came up."""
        found = []
        for _ in range(round(seconds * 1e9 / PERIOD)):
            self.now_ns += PERIOD
            for camera, after_ns in self.ready_ns.items():
                self.search.ready(camera, after_ns)
            phase_ns = self.search.ticked(self.now_ns, self.now_ns + 15 * MS)
            if phase_ns is not None:
                found.append(phase_ns)
        return found


def test_it_is_measured_in_two_rounds_and_then_stands_still() -> None:
    search = PhaseSearch(["front", "rear"], PERIOD)
    rig = Rig(search)
    assert search.phase_ns == PERIOD  # safe while nothing is known
    assert rig.run(13) == [10 * MS, 10 * MS]
    assert search.status()["state"] == "chosen"
    rig.ready_ns["rear"] = 25 * MS  # load comes: the phase does not follow it
    assert rig.run(20) == []
    assert search.phase_ns == 10 * MS
    assert search.status()["readiness_ms"]["rear"]["max"] == 25.0  # but it is seen


def test_the_second_round_judges_the_phase_that_the_first_has_found() -> None:
    search = PhaseSearch(["front", "rear"], PERIOD)
    rig = Rig(search)
    assert rig.run(6.5) == [10 * MS]
    rig.ready_ns["rear"] = 10 * MS  # at this phase the tick takes a processor away from the decoders
    assert rig.run(7) == [12_500_000]
    assert [choice["needed_ms"] for choice in search.status()["rounds"]] == [8.0, 10.0]


def test_on_command_it_is_measured_anew_from_the_safe_phase_on() -> None:
    search = PhaseSearch(["front", "rear"], PERIOD)
    rig = Rig(search)
    rig.run(13)
    rig.ready_ns["rear"] = 12 * MS
    assert search.again() == PERIOD
    assert search.status()["state"] == "measuring"
    assert rig.run(13)[-1] == 13 * MS  # 12 ms and a quarter would not fit beside a tick of 15 ms


def test_silent_cameras_keep_the_safe_phase_until_they_come() -> None:
    search = PhaseSearch(["front", "rear"], PERIOD)
    rig = Rig(search)
    rig.ready_ns = {}
    assert rig.run(30) == []
    assert search.phase_ns == PERIOD
    assert search.is_measuring
    rig.ready_ns = {"front": 4 * MS}
    assert rig.run(15)[-1] == 5 * MS


def test_without_cameras_the_phase_is_half_a_period() -> None:
    search = PhaseSearch([], PERIOD)
    assert search.phase_ns == PERIOD // 2
    assert search.ticked(0, MS) is None
    assert search.status()["state"] == "no cameras"


def test_a_camera_that_no_phase_can_wait_for_is_not_waited_for() -> None:
    search = PhaseSearch(["front", "rear"], PERIOD)
    rig = Rig(search)
    rig.ready_ns["rear"] = 300 * MS
    assert rig.run(13)[-1] == 7_500_000  # as the front camera needs
    assert search.choices[-1].to_dict()["too_slow"] == ["rear"]


def test_a_camera_that_is_late_under_load_only_is_waited_for_as_long_as_can_be() -> None:
    search = PhaseSearch(["front", "rear"], PERIOD)
    rig, found = Rig(search), []
    for second in range(26):
        rig.ready_ns["rear"] = 60 * MS if second % 2 else 9 * MS
        found += rig.run(0.5)
    assert search.choices[-1].too_slow == ()
    assert found[-1] == PERIOD * 3 // 2


def test_a_camera_that_is_silent_while_the_phase_is_measured_is_named() -> None:
    search = PhaseSearch(["front", "rear"], PERIOD)
    rig = Rig(search)
    rig.run(8)
    del rig.ready_ns["rear"]  # it dies in the second round: what it needed so far still counts
    rig.run(5)
    assert search.choices[-1].unseen == ()
    search.again()
    assert rig.run(13)[-1] == 7_500_000
    assert search.choices[-1].to_dict()["unseen"] == ["rear"]


def test_where_no_camera_is_quick_enough_the_latest_phase_is_taken_and_all_are_named() -> None:
    search = PhaseSearch(["front", "rear"], PERIOD)
    rig = Rig(search)
    rig.ready_ns = {"front": 200 * MS, "rear": 300 * MS}
    assert rig.run(13)[-1] == PERIOD * 3 // 2
    assert search.choices[-1].too_slow == ("front", "rear")


def test_one_camera_at_a_few_frames_a_second_is_measured_for_longer_until_there_are_enough() -> None:
    search = PhaseSearch(["front"], PERIOD)
    found = []
    for tick in range(round(30e9 / PERIOD)):
        if tick % 14 == 0:  # some 2.5 Hz
            search.ready("front", 6 * MS)
        phase_ns = search.ticked(tick * PERIOD, tick * PERIOD + 5 * MS)
        found += [] if phase_ns is None else [phase_ns]
    assert found == [7_500_000, 7_500_000]
