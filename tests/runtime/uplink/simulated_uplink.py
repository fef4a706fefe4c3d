"""Vehicles and a receiver in one thread: real deliveries on real spools, the real `Reception` on a real store.

No sockets and no wall clock. Between them lie queues of messages that a seeded schedule of faults loses, repeats,
reorders, damages, invents and holds up for any number of connections (`simulated_network`); either end is restarted, or
killed at a system call or a transaction; the receiver's disk and catalogue fail and fill up; its limits are lowered so
that clips, tombstones and answers are refused; clips are entombed, and erased by people; the policy and the clocks
jump; the fleet pulls ranges; clips are stored beside the loop, and housekeeping comes in between.
An error that leaves the receiver's loop would end the process: it fails the seed.
"""

from __future__ import annotations

import random
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

from faulty_disk import FaultyDisk, SimulatedKill
from simulated_network import Fate, Workers
from simulated_vehicle import CLIP_NS, SimulatedVehicle

from runtime.clock import ManualClock
from runtime.formats.pull_files import PullAnswer, PullRequest
from runtime.uplink.limits import VehicleLimits
from runtime.uplink.reception import Reception
from runtime.uplink.storage.accounts import account_of, recount
from runtime.uplink.storage.housekeeping import HousekeepingThread
from runtime.uplink.storage.removal import GIVEN_UP_NS, RetentionPolicy, erase
from runtime.uplink.storage.rows import DELETION_GRACE_NS
from runtime.uplink.store import ClipStore, StoreLimits
from runtime.uplink.wire import Nack, State, encode

CHUNK_BYTES = 100
CREDIT_BYTES = 350
STEP_NS = 100_000_000
#: A clock may be wrong by so much, either way.
CLOCK_ERROR_NS = 6 * 3600 * 1_000_000_000
VEHICLE = "car-1"
#: Clips of this size and more are stored beside the loop while faults happen.
SLOW_FROM_BYTES = 200
#: One of these at a time; each refuses something that an honest vehicle then tries again.
HARSH_LIMITS = (
    StoreLimits(vehicle_tombstones=0),
    StoreLimits(vehicle_quota_bytes=20_000),
    StoreLimits(vehicle_clips=2),
    StoreLimits(max_clip_bytes=500),
    StoreLimits(vehicle_partials=1),
)


class Desk:
    """What the fleet asked, in memory: it outlives the receiver, as a catalogue does."""

    def __init__(self) -> None:
        self.asked: dict[str, tuple[str, PullRequest]] = {}
        self.answers: dict[str, PullAnswer] = {}
        self.is_away = False

    @contextmanager
    def out_of_order(self):
        """Nothing can be recorded, as with a catalogue that does not answer."""
        self.is_away = True
        yield
        self.is_away = False

    def waiting(self, vehicles, limit, wall_ns, asked_lately):
        settled = {*self.answers, *asked_lately}
        return [asked for name, asked in self.asked.items() if name not in settled][:limit]

    def answer(self, vehicle, answer, wall_ns) -> None:
        if self.is_away:
            raise OSError("the book of pulls does not answer")
        assert answer.id not in self.asked or self.asked[answer.id][0] == vehicle
        self.answers.setdefault(answer.id, answer)


class World:
    """Some vehicles, one receiver, and two queues of messages between it and each."""

    def __init__(
        self,
        directory: Path,
        rng: random.Random,
        disk: FaultyDisk | None = None,
        vehicles: tuple[str, ...] = (VEHICLE,),
    ) -> None:
        self.directory = directory
        self.fate = Fate(rng, disk)
        self.clock = ManualClock()
        self.desk = Desk()
        self.wall_shift_ns, self.limits = 0, StoreLimits()
        self.finished_beside = self.erasures = self.housekept = self._delivered = 0
        self.refused: Counter[str] = Counter()
        self.reception: Reception | None = None
        self._seen_whole: set[tuple[str, int]] = set()
        self.vehicles = {
            name: SimulatedVehicle(name, directory / f"spool-{name}", self.fate, self.clock, self._on_connection)
            for name in vehicles
        }
        self.car = self.vehicles[vehicles[0]]
        self.boot_receiver()

    # Both ends

    def boot_receiver(self) -> None:
        self.store = ClipStore(self.directory / "receiver", self.limits)
        if not self.fate.is_calm:
            self.store.depot.slow_from_bytes = SLOW_FROM_BYTES
        self.store.recover(self.wall_ns())
        self.housekeeping = HousekeepingThread(self.store, RetentionPolicy(partials_days=None), self.clock)
        self.reception = Reception(
            self.store, CREDIT_BYTES, CHUNK_BYTES, pulls=self.desk, limits=VehicleLimits(barred_s=0.001)
        )

    def restart_receiver(self) -> None:
        self.store.close()
        self.boot_receiver()
        for vehicle in self.vehicles.values():
            vehicle.connect()

    def wall_ns(self) -> int:
        return self.clock.wall_ns() + self.wall_shift_ns

    def _on_connection(self, vehicle: str) -> None:
        if self.reception is not None:
            self.reception.vehicle_connected(vehicle)

    def close(self) -> None:
        for vehicle in self.vehicles.values():
            vehicle.spool.close()
        self.store.close()

    # What people do

    def ask(self, name: str, vehicle: str = VEHICLE) -> None:
        self.desk.asked[name] = (vehicle, PullRequest(name, ("front",), 1, 2))

    def erase(self, vehicle: SimulatedVehicle, first: int, last: int) -> None:
        """Forget what clips `first` to `last` show, whether they have come or not."""
        times = CLIP_NS * first, CLIP_NS * (last + 1) - 1
        erase(self.store.catalogue.database, vehicle.name, *times, "somebody", "asked to", self.wall_ns())
        vehicle.erased.append((first, last))
        self.erasures += 1

    # Time

    def step(self) -> None:
        self.clock.advance_to(self.clock.now_ns() + STEP_NS)
        for vehicle in self.vehicles.values():
            vehicle.sends()
        self.receiver_works()
        for vehicle in self.vehicles.values():
            vehicle.hears()

    def receiver_works(self) -> None:
        try:
            with self.fate.trouble():
                for vehicle in self.vehicles.values():
                    for frames in vehicle.arrived_at_receiver():
                        self.reply(self.reception.handle(vehicle.name, frames, self.wall_ns()))
                workers = self.store.finisher._workers
                if isinstance(workers, Workers):
                    self.finished_beside += workers.work(self.fate)
                self.reply(self.reception.flush(self.wall_ns()))
                self.reply(self.reception.settle(self.wall_ns()))
                self.reply(self.reception.pulls_due(list(self.vehicles), self.wall_ns()))
                if self.fate.chance(0.02):
                    self.tidy()
        except SimulatedKill:
            self.restart_receiver()

    def tidy(self) -> None:
        """One round of housekeeping, whose errors are told and not fatal."""
        self.housekept += 1
        try:
            self.housekeeping.turn(self.wall_ns())
        except OSError:
            assert not self.fate.is_calm

    def reply(self, replies) -> None:
        for vehicle, message, payload in replies:
            if isinstance(message, State) and message.state == "refused":
                self.refused["clips"] += 1
            if isinstance(message, Nack) and message.code in ("vehicle_quota", "storage") and not message.sha256:
                self.refused["notices"] += 1
            self.vehicles[vehicle].down.append([encode(message), bytes(payload)])

    def misfortune(self) -> None:
        """One round of everything that may go wrong between two steps."""
        chance, rng = self.fate.chance, self.fate.rng
        if chance(0.02):
            self.restart_receiver()
        if chance(0.02):
            self.store.depot._disk_free = lambda directory: rng.choice([0, 1 << 40])
        if chance(0.02):
            self.wall_shift_ns = rng.choice([-CLOCK_ERROR_NS, 0, CLOCK_ERROR_NS])
        if chance(0.04):
            self.limits = self.store.limits = rng.choice([*HARSH_LIMITS, *[StoreLimits()] * 5])
        if chance(0.02):
            self.desk.is_away = rng.random() < 0.5
        for vehicle in self.vehicles.values():
            vehicle.misfortune()
            if chance(0.005) and vehicle.content:
                first = rng.randint(1, max(vehicle.content))
                self.erase(vehicle, first, first + rng.randint(0, 1))

    def calm_down(self) -> None:
        """No more faults: from here on everything must come to its end."""
        self.fate.is_calm = True
        self.wall_shift_ns = 0
        self.desk.is_away = False
        self.limits = self.store.limits = StoreLimits()
        self.store.depot._disk_free = lambda directory: 1 << 40
        for vehicle in self.vehicles.values():
            vehicle.calm_down()

    def happened(self) -> dict[str, int]:
        """What the schedule brought about; a simulation that does not meet something proves nothing about it."""
        disk, vehicles = self.fate.disk, self.vehicles.values()
        return {
            "kills": disk.kills,
            "disk errors": disk.errors,
            "database errors": disk.database_errors,
            "clips": sum(len(vehicle.content) for vehicle in vehicles),
            "second vehicles": len(vehicles) - 1,
            "new links": sum(vehicle.reset_links for vehicle in vehicles),
            "pulls": len(self.desk.answers),
            "erasures": self.erasures,
            "finished beside": self.finished_beside,
            "housekeeping": self.housekept,
            "late messages": sum(vehicle.late_messages for vehicle in vehicles),
            "refused clips": self.refused["clips"],
            "refused notices": self.refused["notices"],
        }

    # What must hold

    def stored(self, vehicle: SimulatedVehicle | None = None) -> set[int]:
        """Numbers that are in the catalogue, each once, each with the bytes that were sealed, none of them erased."""
        vehicle = vehicle or self.car
        clips = self.store.catalogue.clips(self.store.directory, vehicle.name)
        numbers = {clip.key.n for clip in clips}
        assert len(numbers) == len(clips), "stored twice"
        for clip in clips:
            n = clip.key.n
            assert not vehicle.is_erased(n), f"clip {n} of {vehicle.name} was erased and is here"
            if (vehicle.name, n) not in self._seen_whole and n in vehicle.content:
                assert clip.path.read_bytes() == vehicle.content[n], f"clip {n} is not what was sealed"
                self._seen_whole.add((vehicle.name, n))
        return numbers

    def check_nothing_is_lost(self) -> None:
        """{1..n} = delivered, tombstoned or pending, and what is delivered is stored byte for byte, or erased."""
        for vehicle in self.vehicles.values():
            assert vehicle.spool.counts().is_gapless
            here = self.stored(vehicle) | {clip.n for clip in vehicle.spool.pending()} | vehicle.entombed
            for n in vehicle.content:
                assert n in here or vehicle.is_erased(n), f"clip {n} of {vehicle.name} is nowhere"

    def check_nothing_is_lost_since(self, step: int) -> None:
        """The same, where something was delivered, and now and then: it is most of what a seed costs."""
        delivered = sum(vehicle.delivery.statistics.clips_delivered for vehicle in self.vehicles.values())
        if delivered != self._delivered or step % 10 == 0:
            self._delivered = delivered
            self.check_nothing_is_lost()

    def is_settled(self) -> bool:
        """Everything is delivered or told to be gone, and every pull is answered."""
        answered = set(self.desk.answers) == set(self.desk.asked)
        return answered and all(vehicle.is_settled() for vehicle in self.vehicles.values())

    def check_the_end(self) -> None:
        """Both ends agree about every number and every pull, and the receiver keeps nothing beside that."""
        later_ns = CLOCK_ERROR_NS + max(GIVEN_UP_NS, DELETION_GRACE_NS) + STEP_NS
        self.clock.advance_to(self.clock.now_ns() + later_ns)
        self.tidy()
        self._seen_whole.clear()
        for vehicle in self.vehicles.values():
            stored = self.stored(vehicle)
            told = self.store.catalogue.tombstones(vehicle.name)
            assert all(n in stored or n in vehicle.entombed or vehicle.is_erased(n) for n in vehicle.content)
            gone = {n for n in vehicle.entombed - stored if not vehicle.is_erased(n)}  # it may have been stored before
            assert gone <= set(told), f"{vehicle.name} gave up {gone}, its receiver knows of {set(told)}"
            for name, (asked, _) in self.desk.asked.items():
                answer = self.desk.answers[name]
                pulled = [n for n in vehicle.content if vehicle.spool.clip(n).metadata.get("pull_id") == name]
                is_sealed = asked == vehicle.name and answer.state == "sealed"
                assert pulled == ([answer.n] if is_sealed else []), "asked often, done once"
        self.check_what_is_kept()

    def check_what_is_kept(self) -> None:
        """No clip under way, no file without a row, no account that is not what it is made of."""
        assert self.store.catalogue.partials() == []
        directory = self.store.directory
        files = {path for part in ("partial", "clips") for path in (directory / part).rglob("*") if path.is_file()}
        wrong = files ^ {clip.path for clip in self.store.catalogue.clips(directory)}
        assert not wrong, f"a file without a row, or a row without a file: {sorted(map(str, wrong))}"
        with self.store.catalogue.database.reading() as connection:
            for name, counted in recount(connection).items():
                assert account_of(connection, name) == counted
