"""A vehicle and a receiver, each on a LazyFS disk of its own: cut at any moment, started again, and looked through.

The two ends are the processes of `fault_bench.py`; what must hold at the end is `Bench.check_both_ends`, and what must
hold after each cut of the vehicle's power is here.
"""

from __future__ import annotations

import random
import time

import fault_bench
from fault_bench import Bench, FaultProcess
from lazyfs_disk import LazyDisk

from runtime.formats.durable_files import sha256_of
from runtime.spool import ClipState
from runtime.uplink.catalogue import Catalogue

LARGEST_BYTES = 60_000
PATIENCE_S = 600.0  # what waits on the vehicle after many cuts takes minutes on a slow machine


class LazyRig:
    """A vehicle and a receiver, each with a disk of its own that may lose its power."""

    def __init__(self, bench: Bench, vehicle: LazyDisk, receiver: LazyDisk, seed: int) -> None:
        self.bench, self.vehicle, self.receiver = bench, vehicle, receiver
        self.rng = random.Random(seed)
        bench.patience_s = PATIENCE_S
        bench.spool_directory, bench.receiver_directory = vehicle.mount / "spool", receiver.mount / "receiver"
        self.running: dict[LazyDisk, list[FaultProcess]] = {vehicle: [], receiver: []}

    def start(self, disk: LazyDisk) -> None:
        disk.power_on()
        if disk is self.receiver:
            self.running[disk] = [self.bench.start_receiver()]
            return
        self.check_promises()
        sealing = self.bench.start_sealing(seed=self.rng.random(), largest_bytes=LARGEST_BYTES, pause_s=0.1)
        assert sealing.next_line() == "ready", sealing.errors
        self.running[disk] = [sealing, self.bench.start_uploader(reply_timeout_s=0.5)]

    def cut(self, disk: LazyDisk) -> None:
        """The power first, then the processes: what they had not synced nobody can sync any more."""
        disk.cut_power()
        for process in self.running[disk]:
            process.kill()
            self.bench.note_sealed(process)

    def check_promises(self) -> None:
        """Of what had been promised before a cut, everything is there; and DONE was said only of what is stored."""
        with self.bench.open_spool() as spool:
            counts = spool.counts()
            clips = {n: spool.clip(n) for n in range(1, counts.sealed + 1)}
            assert not spool.last_recovery.ledger_rebuilt, "a power cut never damages the ledger"
            assert counts.is_gapless, counts
            for clip in spool.pending():
                assert sha256_of(clip.path) == clip.sha256, f"clip {clip.n} is not what was sealed"
        wrong = {n for n, sha256 in self.bench.sealed.items() if n not in clips or clips[n].sha256 != sha256}
        assert not wrong, f"clips {wrong} had been sealed and are gone, or others"
        assert not [clip for clip in clips.values() if clip.state is ClipState.TOMBSTONED]
        done = {n: clip.sha256 for n, clip in clips.items() if clip.state is ClipState.DELIVERED}
        if done:
            assert done.items() <= self.stored().items(), "DONE had been said of a clip that is not there"

    def stored(self) -> dict[int, str]:
        """What the receiver has, by its catalogue and by its files."""
        catalogue = Catalogue(self.bench.receiver_directory / "catalogue.sqlite")
        try:
            clips = catalogue.clips(self.bench.receiver_directory, fault_bench.VEHICLE)
        finally:
            catalogue.close()
        return {clip.key.n: sha256_of(clip.path) for clip in clips}

    def run(self, cuts: int) -> None:
        """Cut the power of one end, or of both, `cuts` times; then let everything arrive."""
        for disk in (self.receiver, self.vehicle):
            self.start(disk)
        for _ in range(cuts):
            time.sleep(self.rng.uniform(0.0, 0.6))
            ends = self.rng.choice([[self.vehicle], [self.receiver], [self.receiver, self.vehicle]])
            for disk in ends:
                self.cut(disk)
            for disk in ends:
                self.start(disk)
        self.finish()

    def finish(self) -> None:
        sealing, _ = self.running[self.vehicle]
        sealing.stop()
        self.bench.note_sealed(sealing)
        with self.bench.open_spool() as spool:
            self.bench.wait_for_delivery(spool)
        for process in self.running[self.vehicle][1:] + self.running[self.receiver]:
            process.stop()
        self.bench.check_both_ends(unclaimed=True)
