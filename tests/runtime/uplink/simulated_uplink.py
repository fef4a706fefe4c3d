"""A vehicle and a receiver in one thread: the real `Delivery` on a real spool, the real `Reception` on a real store.

No sockets and no wall clock. Between the two lie queues of messages that a seeded schedule of faults loses, repeats,
reorders, delays beyond a reconnection, damages and invents; either end is restarted, or killed at a system call; the
receiver's disk fails and fills up; clips are entombed; the policy and the clocks jump; the fleet pulls ranges.
"""

from __future__ import annotations

import random
from contextlib import contextmanager
from pathlib import Path

from faulty_disk import FaultyDisk, SimulatedKill

from runtime.clock import ManualClock
from runtime.formats.pull_files import PullAnswer, PullFolder, PullRequest
from runtime.messages import Priority
from runtime.spool import Spool
from runtime.uplink import reception as reception_module
from runtime.uplink.delivery import Delivery, SessionError
from runtime.uplink.delivery_limits import DeliveryLimits
from runtime.uplink.limits import VehicleLimits
from runtime.uplink.policy import Permissions
from runtime.uplink.reception import Reception
from runtime.uplink.store import ClipStore, StoreLimits
from runtime.uplink.wire import encode

CHUNK_BYTES = 100
CREDIT_BYTES = 350
STEP_NS = 100_000_000
DAY_NS = 86_400 * 1_000_000_000
LIMITS = DeliveryLimits(reply_timeout_s=2.0, refused_retry_s=3.0, refresh_s=0.2, keep_alive_s=5.0)
VEHICLE = "car-1"
MAX_LATE = 40


class Desk:
    """What the fleet asked, in memory: it outlives the receiver, as a catalogue does."""

    def __init__(self) -> None:
        self.asked: dict[str, PullRequest] = {}
        self.answers: dict[str, PullAnswer] = {}
        self.is_away = False

    @contextmanager
    def out_of_order(self):
        """Nothing can be recorded, as with a catalogue that does not answer."""
        self.is_away = True
        yield
        self.is_away = False

    def waiting(self, vehicles, limit, wall_ns):
        return [(VEHICLE, request) for name, request in self.asked.items() if name not in self.answers][:limit]

    def answer(self, vehicle, answer, wall_ns) -> None:
        if self.is_away:
            raise OSError("the book of pulls does not answer")
        self.answers.setdefault(answer.id, answer)


class World:
    """One vehicle, one receiver, two queues of messages between them."""

    def __init__(self, directory: Path, rng: random.Random, disk: FaultyDisk | None = None) -> None:
        self.directory = directory
        self.rng = rng
        self.disk = disk
        self.faults = disk is not None
        self.clock = ManualClock()
        self.up: list[list[bytes]] = []
        self.down: list[list[bytes]] = []
        self.late: list[list[bytes]] = []
        self.content: dict[int, bytes] = {}
        self.entombed: set[int] = set()
        self._seen_whole: set[int] = set()
        self.desk = Desk()
        self.wall_shift_ns = 0
        self.boot_vehicle()
        self.boot_receiver()

    # Both ends

    def boot_vehicle(self) -> None:
        self.spool = Spool.open(self.directory / "spool", 64 << 20, clock=self.clock)
        self.recorder = PullFolder(self.directory / "spool")
        self.delivery = Delivery(self.spool, LIMITS, "simulation", pulls=PullFolder(self.directory / "spool"))
        self.connect()

    def boot_receiver(self) -> None:
        self.store = ClipStore(self.directory / "receiver", StoreLimits())
        self.store.recover(self.wall_ns())
        self.reception = Reception(
            self.store, CREDIT_BYTES, CHUNK_BYTES, pulls=self.desk, limits=VehicleLimits(barred_s=0.001)
        )

    def wall_ns(self) -> int:
        return self.clock.wall_ns() + self.wall_shift_ns

    def connect(self) -> None:
        if self.faults:
            self.late = (self.late + self.up)[-MAX_LATE:]
        self.up.clear()
        self.down.clear()
        self.reception_of_new_connection()
        self.delivery.begin_session(self.clock.now_ns())

    def reception_of_new_connection(self) -> None:
        if hasattr(self, "reception"):
            self.reception.vehicle_connected(VEHICLE)

    def close(self) -> None:
        self.spool.close()
        self.store.close()

    # What people and rules do

    def seal(self, size: int, priority: Priority = Priority.NORMAL, **metadata) -> int:
        draft = self.spool.begin(size, priority)
        content = self.rng.randbytes(size)
        draft.path.write_bytes(content)
        clip = self.spool.seal(draft, {"size": size, **metadata})
        self.content[clip.n] = content
        return clip.n

    def ask(self, name: str) -> None:
        self.desk.asked[name] = PullRequest(name, ("front",), 1, 2)

    def record(self) -> None:
        """The recorder answers what was asked: with a clip, or with a reason."""
        for request in self.recorder.requests():
            if self.rng.random() < 0.5:
                n = self.seal(self.rng.randint(1, 300), request.priority, pull_id=request.id)
                self.recorder.answer(PullAnswer(request.id, "sealed", n=n))
            else:
                self.recorder.answer(PullAnswer(request.id, "refused", "history has nothing of it"))

    # Time

    def chance(self, probability: float) -> bool:
        return self.faults and self.rng.random() < probability

    def step(self) -> None:
        self.clock.advance_to(self.clock.now_ns() + STEP_NS)
        self.vehicle_sends()
        self.receiver_works()
        self.vehicle_hears()

    def vehicle_sends(self) -> None:
        now_ns = self.clock.now_ns()
        while (outgoing := self.delivery.next_message(now_ns)) is not None:
            self.up.append([encode(outgoing[0]), outgoing[1]])

    def receiver_works(self) -> None:
        try:
            with self.trouble():
                for frames in self.through_the_network(self.up):
                    self.reply(self.reception.handle(VEHICLE, frames, self.wall_ns()))
                self.reply(self.reception.flush(self.wall_ns()))
                self.reply(self.reception.settle(self.wall_ns()))
                self.reply(self.reception.pulls_due([VEHICLE], self.wall_ns()))
        except (SimulatedKill, OSError):  # an error outside of an answer ends the process as well
            self.store.close()
            self.boot_receiver()
            self.connect()

    def vehicle_hears(self) -> None:
        now_ns = self.clock.now_ns()
        try:
            with self.trouble(is_receiver=False):
                for frames in self.through_the_network(self.down):
                    self.delivery.on_message(frames, now_ns)
        except SessionError:
            self.connect()
        except SimulatedKill:
            self.spool.close()
            self.boot_vehicle()
        if self.delivery.is_overdue(now_ns):
            self.connect()

    def reply(self, replies) -> None:
        self.down += [[encode(message), bytes(payload)] for _, message, payload in replies]

    # Faults

    def trouble(self, is_receiver: bool = True):
        if self.disk is None or not self.faults:
            return FaultyDisk.troubled(_CALM)
        kill_after = self.rng.randint(0, 12) if self.chance(0.03) else None
        return self.disk.troubled(kill_after, 0.01 if is_receiver else 0.0)

    def through_the_network(self, queue: list[list[bytes]]) -> list[list[bytes]]:
        arrived = []
        for frames in queue:
            if self.chance(0.05):
                continue
            arrived += [self.maybe_damaged(frames)] * (2 if self.chance(0.1) else 1)
        if self.chance(0.2):
            self.rng.shuffle(arrived)
        if queue is self.up and self.late and self.chance(0.2):
            arrived.insert(self.rng.randint(0, len(arrived)), self.late.pop(self.rng.randrange(len(self.late))))
        if queue is self.up and self.chance(0.02):
            arrived.append([self.rng.randbytes(self.rng.randint(0, 60)) for _ in range(self.rng.randint(1, 3))])
        queue.clear()
        return arrived

    def maybe_damaged(self, frames: list[bytes]) -> list[bytes]:
        """Bytes of a payload flipped or cut off: neither gets past CURVE, both must be harmless without it."""
        header, payload = frames
        if not payload or not self.chance(0.03):
            return frames
        if self.chance(0.5):
            return [header, payload[: self.rng.randrange(len(payload))]]
        damaged = bytearray(payload)
        damaged[self.rng.randrange(len(damaged))] ^= 1 << self.rng.randrange(8)
        return [header, bytes(damaged)]

    def misfortune(self) -> None:
        """One round of everything that may go wrong between two steps."""
        if self.chance(0.02):
            self.spool.close()
            self.boot_vehicle()
        if self.chance(0.02):
            self.store.close()
            self.boot_receiver()
            self.connect()
        if self.chance(0.02):
            self.store.depot._disk_free = lambda directory: self.rng.choice([0, 1 << 40])
        if self.chance(0.02):
            self.wall_shift_ns = self.rng.choice([-DAY_NS, 0, DAY_NS])
        if self.chance(0.05):
            allowed = list(Priority)[: self.rng.randint(0, 5)]
            self.delivery.permit(Permissions(frozenset(allowed), self.rng.random() < 0.5))
        if self.chance(0.01) and (pending := self.spool.pending()):
            doomed = self.rng.choice(pending).n
            self.entombed.add(doomed)
            self.spool.tombstone(doomed, "evicted to make room")
        if self.chance(0.3):
            self.record()

    def calm_down(self) -> None:
        """No more faults: from here on everything must come to its end."""
        self.faults = False
        self.late.clear()
        self.wall_shift_ns = 0
        self.store.depot._disk_free = lambda directory: 1 << 40
        self.delivery.permit(Permissions())

    # What must hold

    def stored(self) -> set[int]:
        """Numbers that are in the catalogue, each once, each with the bytes that were sealed."""
        clips = self.store.catalogue.clips(self.store.directory)
        numbers = {clip.key.n for clip in clips}
        assert len(numbers) == len(clips), "stored twice"
        for clip in clips:
            if clip.key.n not in self._seen_whole and clip.key.n in self.content:
                assert clip.path.read_bytes() == self.content[clip.key.n], f"clip {clip.key.n} is not what was sealed"
                self._seen_whole.add(clip.key.n)
        return numbers

    def check_nothing_is_lost(self) -> None:
        """{1..n} = delivered, tombstoned or pending, and what is delivered is stored byte for byte."""
        assert self.spool.counts().is_gapless
        stored = self.stored()
        pending = {clip.n for clip in self.spool.pending()}
        for n in self.content:
            assert n in stored or n in pending or n in self.entombed, f"clip {n} is nowhere"

    def is_settled(self) -> bool:
        """Everything is delivered or told to be gone, and every pull is answered."""
        counts = self.spool.counts()
        answered = set(self.desk.answers) == set(self.desk.asked) and not self.recorder.answers()
        return counts.pending == 0 and not self.spool.unreported_tombstones() and answered

    def check_the_end(self) -> None:
        """Both ends agree about every number and every pull."""
        self._seen_whole.clear()
        stored = self.stored()
        told = self.store.catalogue.tombstones(VEHICLE)
        assert stored | self.entombed >= set(self.content)
        assert set(told) >= self.entombed - stored
        assert self.store.catalogue.partials() == []
        for name, answer in self.desk.answers.items():
            pulled = [n for n in self.content if self.spool.clip(n).metadata.get("pull_id") == name]
            assert pulled == ([answer.n] if answer.state == "sealed" else []), "asked often, done once"


class _Calm(FaultyDisk):
    def __init__(self) -> None:
        self._left, self._error_probability = None, 0.0


_CALM = _Calm()


def run_seed(directory: Path, seed: int, monkeypatch, most_steps: int = 250) -> World:
    """One seeded life of a vehicle and its receiver; the world at its end, every promise checked on the way."""
    monkeypatch.setattr(reception_module, "PULL_REPEAT_S", 1.0)
    rng = random.Random(seed)
    disk = FaultyDisk(rng, monkeypatch)
    world = World(directory, rng, disk)
    try:
        for _ in range(rng.randint(1, 5)):
            world.seal(rng.randint(1, 1500), rng.choice(list(Priority)))
        for step in range(most_steps):
            if rng.random() < 0.01:
                world.ask(f"pull-{step}")
            if rng.random() < 0.02 and len(world.content) < 12:
                world.seal(rng.randint(1, 1500), rng.choice(list(Priority)))
            world.step()
            world.misfortune()
            world.check_nothing_is_lost()
            if step > 30 and world.is_settled():
                break
        world.calm_down()
        for _ in range(600):
            world.record()
            world.step()
            if world.is_settled():
                break
        assert world.is_settled(), "it does not come to an end without faults"
        world.check_nothing_is_lost()
        world.check_the_end()
    finally:
        world.close()
    return world
