"""The protocol as a state machine that hypothesis drives: any order of sending, hearing, losing, repeating and dying.

What a random schedule meets rarely, hypothesis looks for, and then shrinks to the shortest history that breaks it.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from simulated_uplink import CREDIT_BYTES, STEP_NS, VEHICLE, World

from runtime.formats.pull_files import PullAnswer
from runtime.messages import Priority
from runtime.uplink.delivery import SessionError
from runtime.uplink.policy import Permissions

MEMORY = Path("/dev/shm")
MOST_CLIPS = 8


class UplinkMachine(RuleBasedStateMachine):
    """One vehicle, one receiver, and the two queues between them, moved message by message."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
        self.world = World(self.directory, random.Random(0))
        self.pulls = 0

    # What happens on the vehicle

    @precondition(lambda self: len(self.world.car.content) < MOST_CLIPS)
    @rule(size=st.integers(1, 1000), priority=st.sampled_from(Priority))
    def seal(self, size, priority):
        self.world.car.seal(size, priority)

    @precondition(lambda self: self.world.car.spool.pending())
    @rule(which=st.integers(0, MOST_CLIPS))
    def entomb(self, which):
        pending = self.world.car.spool.pending()
        doomed = pending[which % len(pending)].n
        self.world.car.entombed.add(doomed)
        self.world.car.spool.tombstone(doomed, "evicted to make room")

    @rule(allowed=st.integers(0, 5), campaigns=st.booleans())
    def follow_policy(self, allowed, campaigns):
        reasons = {} if campaigns else {"campaigns": "wait for another network"}
        self.world.car.delivery.permit(Permissions(frozenset(list(Priority)[:allowed]), reasons))

    @rule()
    def vehicle_sends(self):
        self.world.car.sends()

    @rule()
    def vehicle_restarts(self):
        self.world.car.spool.close()
        self.world.car.boot()

    # What the fleet asks

    @precondition(lambda self: self.pulls < 4)
    @rule()
    def ask(self):
        self.pulls += 1
        self.world.ask(f"pull-{self.pulls}")

    @rule(has_it=st.booleans())
    def record(self, has_it):
        for request in self.world.car.recorder.requests():
            n = self.world.car.seal(50, request.priority, pull_id=request.id) if has_it else 0
            reason = "" if has_it else "history has nothing of it"
            self.world.car.recorder.answer(PullAnswer(request.id, "sealed" if has_it else "refused", reason, n))

    @rule()
    def receiver_asks(self):
        self.world.reply(self.world.reception.pulls_due([VEHICLE], self.world.wall_ns()))

    # What happens to messages

    @precondition(lambda self: self.world.car.up)
    @rule(which=st.integers(0, 100), repeated=st.booleans())
    def receiver_hears(self, which, repeated):
        """Any message of those under way, once, or once more."""
        at = which % len(self.world.car.up)
        frames = self.world.car.up[at] if repeated else self.world.car.up.pop(at)
        self.world.reply(self.world.reception.handle(VEHICLE, frames, self.world.wall_ns()))

    @rule()
    def receiver_flushes(self):
        self.world.reply(self.world.reception.flush(self.world.wall_ns()))

    @precondition(lambda self: self.world.car.down)
    @rule(which=st.integers(0, 100), repeated=st.booleans())
    def vehicle_hears(self, which, repeated):
        at = which % len(self.world.car.down)
        frames = self.world.car.down[at] if repeated else self.world.car.down.pop(at)
        try:
            self.world.car.delivery.on_message(frames, self.world.clock.now_ns())
        except SessionError:
            self.world.car.connect()

    @rule(up=st.booleans())
    def messages_are_lost(self, up):
        (self.world.car.up if up else self.world.car.down).clear()

    @rule()
    def link_is_reset(self):
        self.world.car.connect()

    @rule(steps=st.integers(1, 30))
    def time_passes(self, steps):
        self.world.clock.advance_to(self.world.clock.now_ns() + steps * STEP_NS)
        if self.world.car.delivery.is_overdue(self.world.clock.now_ns()):
            self.world.car.connect()

    # What happens to the receiver

    @rule()
    def receiver_restarts(self):
        self.world.store.close()
        self.world.boot_receiver()
        self.world.car.connect()

    @rule(free_bytes=st.sampled_from([0, 1 << 40]))
    def receiver_disk(self, free_bytes):
        self.world.store.depot._disk_free = lambda directory: free_bytes

    # What must hold

    @invariant()
    def nothing_is_lost(self):
        self.world.check_nothing_is_lost()

    @invariant()
    def the_credit_is_kept(self):
        assert sum(t.under_way_bytes for t in self.world.car.delivery._transfers.values()) <= CREDIT_BYTES

    def teardown(self):
        """Without faults everything comes to its end."""
        world = self.world
        try:
            world.calm_down()
            for _ in range(400):
                world.car.record()
                world.step()
                if world.is_settled():
                    break
            assert world.is_settled(), "it does not come to an end without faults"
            world.check_the_end()
        finally:
            world.close()
            shutil.rmtree(self.directory)


def explore(examples: int, steps: int) -> None:
    run_state_machine_as_test(
        UplinkMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=examples < 100,
        ),
    )


def test_no_order_of_events_loses_a_clip():
    explore(40, 40)


@pytest.mark.sweep
def test_no_order_of_events_loses_a_clip_however_long_one_looks(sweep_size):
    explore(sweep_size(400), 60)
