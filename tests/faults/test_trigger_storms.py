"""Rules go wild: 1,000 firings a minute meet a recorder at work, over minutes of recorded time.

History is written as recorded time passes and the recorder steps with it, once a second. Nothing waits for a wall
clock, so the firings that wait at once are those of a real storm: all of a clip of 55 s and of the seconds until its
end is settled, and a thousand more for each minute that the recorder is away.
"""

from __future__ import annotations

from contextlib import closing

import pytest
from recorded_vehicle import HISTORY_BYTES, HISTORY_S, Vehicle

from runtime.messages import Firing, Priority
from runtime.processes.spool_clip_sink import SpoolClipSink
from runtime.recording.firing_files import MAX_WAITING_FIRINGS
from runtime.recording.history_needs import HoldSettings
from runtime.recording.history_writer import HistoryWriter
from runtime.recording.recorder import Recorder
from runtime.spool import Spool
from tests.runtime.recording.recorded_rig import SECOND_NS, START_NS, Recording, encode_camera, firing, session

FIRINGS_A_MINUTE = 1000
FRAMES_A_SECOND = 20
MINUTE_S = 60
#: A recorder that starts again, or seals for so long.
AWAY_S = 60
LONGEST_CLIP_S = 55
#: Until the end of a clip is settled in history (`readiness`), and the recorder has looked.
SETTLED_S = 5


def storm(minutes: int) -> tuple[Firing, ...]:
    """Firings of seven rules and every priority, evenly spread, whose windows overlap."""
    return tuple(
        firing(index * MINUTE_S / FIRINGS_A_MINUTE, f"rule_{index % 7}", index, 2.0, 1.0, list(Priority)[index % 5])
        for index in range(minutes * FIRINGS_A_MINUTE)
    )


def record_as_it_happens(vehicle: Vehicle, spool: Spool, fired: tuple[Firing, ...], until_s: int, away_s: int) -> int:
    """A runtime that writes and a recorder that steps, second by second; the most firings that waited at once."""
    packets = {"front_main": encode_camera("front_main", until_s * FRAMES_A_SECOND)}
    run = session(history_s=HISTORY_S)
    most_waiting = 0
    with closing(HistoryWriter(vehicle.history, HISTORY_S, HISTORY_BYTES, run, hold=HoldSettings(1800))) as writer:
        recorder = Recorder(vehicle.history, SpoolClipSink(spool))
        next_step_ns = START_NS
        for time_ns, kind, value in Recording(packets, fired, until_s).records():
            is_away = time_ns - START_NS < away_s * SECOND_NS
            if time_ns >= next_step_ns and not is_away:
                most_waiting = max(most_waiting, vehicle.waiting)
                recorder.step(time_ns)
                next_step_ns = time_ns + SECOND_NS
            assert getattr(writer, kind)(value) is not False, (kind, writer.counters)
        assert writer.counters.holds_given_up == writer.counters.segments_given_up == 0
    recorder.step(START_NS + until_s * SECOND_NS)
    assert (recorder.status.lost_firings, recorder.status.last_error) == ({}, "")
    return most_waiting


@pytest.mark.parametrize(
    ("minutes", "away_s"), [(1, 0), pytest.param(4, AWAY_S, marks=[pytest.mark.sweep, pytest.mark.timeout(300)])]
)
def test_a_storm_of_a_thousand_firings_a_minute_loses_none_of_them(vehicle, minutes, away_s):
    fired = storm(minutes)
    with vehicle.bench.open_spool() as spool:
        most_waiting = record_as_it_happens(vehicle, spool, fired, minutes * MINUTE_S + 10, away_s)
    usual = (LONGEST_CLIP_S + SETTLED_S) * FIRINGS_A_MINUTE / MINUTE_S
    assert most_waiting <= usual + away_s * FIRINGS_A_MINUTE / MINUTE_S <= MAX_WAITING_FIRINGS * 2 / 3
    assert vehicle.waiting == 0
    clips = vehicle.deliver_and_check(fired)
    assert minutes <= len(clips) <= minutes + 2, "they overlap: a clip is as long as clips may be"
