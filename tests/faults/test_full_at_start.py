"""A vehicle's disk that others have filled: before its processes start, and while clips are delivered.

The spool holds clips that could go, and only its ledger may let them: the recorder and the uploader must get that far.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import yaml
from fault_bench import Bench, FaultProcess, read_json

from runtime.formats.pull_files import PullFolder
from runtime.spool import LedgerError, Spool
from runtime.spool.accounts import add_alarm
from runtime.spool.ballast import BALLAST_BYTES

CLIPS = 12
CLIP_BYTES = 300_000


class FullVehicle:
    """Both processes of a vehicle whose state, and nothing else, lies on a disk of its own."""

    def __init__(self, bench: Bench, disk: Any) -> None:
        self.bench = bench
        self.disk = disk
        bench.spool_directory = disk.directory / "state" / "spool"
        self.ballast = bench.spool_directory / "ballast"
        self.config = bench.directory / "rig.yaml"

    def write_config(self) -> None:
        tree = {
            "vehicle": {"id": "car-1"},
            "drive": str(self.bench.directory),  # a configuration has to watch something; nobody plays it here
            "history": {"directory": str(self.bench.directory / "volatile" / "history"), "seconds": 60},
            "state_directory": str(self.disk.directory / "state"),
            "health": {"status_interval_s": 0.1},
            "realtime": {"lock_memory": False},
            "recorder": {"scan_interval_s": 0.05},
            "uplink": {
                "server": self.bench.address,
                "keys": str(self.bench.vehicle_keys),
                "retry_min_s": 0.1,
                "retry_max_s": 0.2,
            },
        }
        self.config.write_text(yaml.safe_dump(tree))

    def start(self, role: str) -> FaultProcess:
        process = self.bench.start(role, {"config": str(self.config)})
        assert process.next_line() == "ready", process.errors
        return process

    def status(self, name: str) -> dict[str, Any]:
        return read_json(self.bench.directory / "volatile" / "status" / f"{name}.json")

    def wait_for(self, what: str, condition: Callable[[], Any], *processes: FaultProcess) -> None:
        """All of these processes live on meanwhile."""

        def holds() -> bool:
            for process in processes:
                assert process.is_alive, process.errors
            return bool(condition())

        self.bench.wait(holds, what)


@pytest.fixture
def vehicle(bench: Bench, tiny_disk: Any) -> FullVehicle:
    """A receiver that is up, and a spool with clips that wait for it."""
    made = FullVehicle(bench, tiny_disk)
    bench.start_receiver()
    PullFolder(bench.spool_directory)  # as a vehicle that has run before
    with bench.open_spool() as spool:
        bench.seal(spool, *[CLIP_BYTES] * CLIPS)
    made.write_config()
    return made


def test_on_a_disk_that_is_full_before_the_start_both_processes_start_and_what_is_delivered_makes_room(vehicle):
    bench = vehicle.bench
    assert vehicle.ballast.stat().st_size == BALLAST_BYTES
    vehicle.disk.fill()
    recorder, uploader = vehicle.start("record"), vehicle.start("deliver")
    clips = bench.spool_directory / "clips"
    vehicle.wait_for("room on the disk", lambda: not list(clips.iterdir()), recorder, uploader)
    vehicle.wait_for("figures", lambda: vehicle.status("recorder").get("spool", {}).get("pending") == 0, recorder)
    vehicle.disk.free()
    assert uploader.stop() == 0
    assert recorder.stop() == 0
    bench.open_spool().close()
    assert vehicle.ballast.stat().st_size == BALLAST_BYTES, "there is room for it again"
    bench.check_both_ends()


@pytest.mark.sweep
def test_without_ballast_both_processes_wait_for_room_say_so_and_go_on_when_there_is_some(vehicle):
    bench = vehicle.bench
    vehicle.ballast.unlink()
    vehicle.disk.fill()
    recorder, uploader = vehicle.start("record"), vehicle.start("deliver")
    for name in ("recorder", "uploader"):
        vehicle.wait_for(
            f"a {name} that waits",
            lambda: "disk is full" in vehicle.status(name).get("waiting_for_spool", ""),  # noqa: B023
            recorder, uploader,
        )  # fmt: skip
    assert recorder.stop() == 0, "a stop ends the wait"
    vehicle.disk.free()
    vehicle.wait_for("delivery", lambda: not list((bench.spool_directory / "clips").iterdir()), uploader)
    assert uploader.stop() == 0
    bench.check_both_ends()


def test_a_delivery_that_a_full_disk_lets_nobody_note_is_noted_later_and_the_uploader_lives(bench, tiny_disk):
    bench.spool_directory = tiny_disk.directory / "spool"
    receiver = bench.start_receiver()
    with bench.open_spool() as spool:
        uploader = bench.start_uploader()
        bench.wait(lambda: bench.uploader_status().get("link") == "connected", "a session")
        assert receiver.stop() == 0
        bench.seal(spool, 10, 20, 30)
        (bench.spool_directory / "ballast").unlink()
        tiny_disk.fill()
        fill_the_ledger(spool)
        bench.start_receiver()
        bench.wait(lambda: "full" in bench.uploader_status().get("last_error", ""), "a delivery that cannot be noted")
        assert spool.counts().pending == 3
        assert uploader.is_alive, uploader.errors
        tiny_disk.free()
        bench.wait_for_delivery(spool)
        assert uploader.stop() == 0
    bench.check_both_ends()


def fill_the_ledger(spool: Spool) -> None:
    """Write until its log would have to grow."""
    with pytest.raises(LedgerError, match="the disk is full"):
        note_many(spool)


def note_many(spool: Spool) -> None:
    for _ in range(2000):
        with spool._ledger.transaction() as connection:
            add_alarm(connection, 0, "something to write")
