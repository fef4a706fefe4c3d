"""The recorder as a real process over a spool in trouble: a ledger deleted under it, half a clip that nobody awaits."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from live_processes import Command, Daemon, wait_for

from runtime.clock import SystemClock
from runtime.formats.mcap_files import McapTopicWriter
from runtime.messages import Priority, SignalSample
from runtime.recording.history_writer import HistoryWriter
from runtime.spool import ClipState, Spool
from tests.runtime.recording.recorded_rig import firing, session

QUOTA_BYTES = 64 << 20


def spool_of(vehicle: Daemon) -> Path:
    return vehicle.folder / "state" / "spool"


def seal(spool: Spool) -> None:
    draft = spool.begin(100)
    draft.path.write_bytes(os.urandom(100))
    spool.seal(draft, {})


def test_a_recorder_whose_ledger_is_deleted_leaves_and_the_next_start_goes_on_counting(
    vehicle: Daemon, commands: list[Command]
) -> None:
    with Spool.open(spool_of(vehicle), QUOTA_BYTES) as spool:
        seal(spool)
        seal(spool)
        spool.mark_delivered(2)
    commands.append(vehicle.start("recorder"))
    vehicle.wait_for("recorder", lambda status: status["spool"]["sealed"] == 2, "a recorder that runs")
    for part in spool_of(vehicle).glob("ledger.sqlite*"):
        part.unlink()
    assert commands[0].wait() != 0
    assert "the spool lost its ledger" in commands[0].output
    commands.append(vehicle.start("recorder"))
    status = vehicle.wait_for("recorder", lambda status: status["spool"]["tombstoned"] == 1, "a rebuilt ledger")
    assert (status["spool"]["sealed"], status["spool"]["pending"]) == (2, 1)
    assert commands[1].stop() == 0
    with Spool.open(spool_of(vehicle), QUOTA_BYTES) as spool:
        assert spool.clip(2).state is ClipState.TOMBSTONED
        seal(spool)
        assert spool.clip(3).state is ClipState.PENDING


def write_half(spool: Spool, **known_by: object) -> None:
    draft = spool.begin(1 << 20, Priority.HIGH, metadata=known_by)
    stream = spool.write_into(draft)
    writer = McapTopicWriter(stream)
    writer.log("info", "test", "all that is left", 1)
    writer.flush()
    stream.sync()
    draft.release()


def test_half_a_clip_of_this_run_that_no_firing_awaits_is_sealed_as_it_is_or_entombed_where_it_may_not_be(
    vehicle: Daemon, commands: list[Command]
) -> None:
    with Spool.open(spool_of(vehicle), QUOTA_BYTES) as spool:
        write_half(spool, clip_id="half")
        write_half(spool, clip_id="other", verdict={"policy": "of other rules"})
    commands.append(vehicle.start("recorder"))
    vehicle.wait_for("recorder", lambda status: status["spool"]["sealed"] == 2, "the rescued clip, and the tombstone")
    assert commands[0].stop() == 0
    with Spool.open(spool_of(vehicle), QUOTA_BYTES) as spool:
        (clip,) = spool.pending()
        assert (clip.metadata["clip_id"], clip.metadata["partial"], clip.priority) == ("half", True, Priority.HIGH)
        assert "other privacy rules" in spool.clip(2).reason
        assert spool.partial() == []


def test_a_recorder_that_is_told_to_leave_lets_the_runtime_leave_first_and_seals_what_it_left(
    vehicle: Daemon, commands: list[Command]
) -> None:
    """As when the machine is shut down: history does not outlive it."""
    clock = SystemClock()
    writer = HistoryWriter(vehicle.folder / "history", 30, 10**8, session("leaving"), clock.wall_ns() - clock.now_ns())
    began_ns = clock.now_ns()
    writer.signals([SignalSample("vehicle.speed_mps", began_ns, 20.0)])
    writer.firing(replace(firing(0.0, pre_s=1.0, post_s=20.0), time_ns=began_ns, wall_ns=clock.wall_ns()))
    commands.append(vehicle.start("recorder"))
    vehicle.wait_for("recorder", lambda status: status["waiting"] == 1, "a firing in flight")
    commands[0].process.terminate()
    wait_for(lambda: "sealing what is in flight" in commands[0].output, "a recorder that leaves")
    assert vehicle.sealed_clips == []
    writer.close()
    assert commands[0].process.wait(30) == 0
    with Spool.open(spool_of(vehicle), QUOTA_BYTES) as spool:
        (clip,) = spool.pending()
        assert clip.metadata["ended_early"] == "the runtime ended"
