"""One seed's life of a `simulated_uplink.World`: what happens in it, and what is looked at on the way."""

from __future__ import annotations

import random
from pathlib import Path

from faulty_disk import FaultyDisk
from simulated_network import Workers
from simulated_uplink import STEP_NS, VEHICLE, World

from runtime.formats.durable_files import sha256_of
from runtime.messages import Priority
from runtime.uplink import reception
from runtime.uplink.catalogue import Catalogue
from runtime.uplink.storage import database, finishing
from tests.kept_engines import engine_for


def forbid_waste(world: World, disk: FaultyDisk, monkeypatch) -> None:
    """A whole clip at its final path whose disk did not fail since it came there is stored, and not thrown away."""
    drop = Catalogue.drop_partial

    def checked(catalogue, row, wall_ns):
        known, vehicle = catalogue.partial(row.key), world.vehicles[row.key.vehicle]
        is_wanted = row.key.n not in vehicle.entombed and not vehicle.is_erased(row.key.n)
        if is_wanted and known is not None and known.final_path is not None:
            path = world.store.directory / known.final_path
            is_sound = path.is_file() and disk.errors_at_rename.get(str(path)) == disk.errors
            assert not is_sound or sha256_of(path) != row.key.sha256, f"clip {row.key.n} is here and thrown away"
        drop(catalogue, row, wall_ns)

    monkeypatch.setattr(Catalogue, "drop_partial", checked)


def run_seed(directory: Path, seed: int, monkeypatch, most_steps: int = 250) -> World:
    """One seeded life of one or two vehicles and a receiver; the world at its end, every promise checked on the way."""
    monkeypatch.setattr(reception, "PULL_REPEAT_S", 1.0)
    monkeypatch.setattr(reception, "REASSURE_AFTER_NS", 5 * STEP_NS)
    monkeypatch.setattr(database, "sqlite_engine", engine_for)
    rng = random.Random(seed)
    disk = FaultyDisk(rng, monkeypatch)
    names = (VEHICLE, "car-2") if rng.random() < 0.4 else (VEHICLE,)
    monkeypatch.setattr(finishing, "ThreadPoolExecutor", lambda *_: Workers())
    world = World(directory, rng, disk, names)
    forbid_waste(world, disk, monkeypatch)
    try:
        for vehicle in world.vehicles.values():
            for _ in range(rng.randint(1, 4)):
                vehicle.seal(rng.randint(1, 1500), rng.choice(list(Priority)))
        for step in range(most_steps):
            vehicle = rng.choice(list(world.vehicles.values()))
            if rng.random() < 0.01:
                world.ask(f"pull-{step}", vehicle.name)
            if rng.random() < 0.02 and len(vehicle.content) < 10:
                vehicle.seal(rng.randint(1, 1500), rng.choice(list(Priority)))
            world.step()
            world.misfortune()
            world.check_nothing_is_lost_since(step)
            if step > 30 and step % 4 == 0 and world.is_settled():
                break
        world.calm_down()
        for _ in range(600):
            for vehicle in world.vehicles.values():
                vehicle.record()
            world.step()
            if world.is_settled():
                break
        assert world.is_settled(), "it does not come to an end without faults"
        world.check_nothing_is_lost()
        world.check_the_end()
    finally:
        world.close()
    return world
