"""A real receiver and a real uploader on loopback, with everything that campaigns need between them."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path

from runtime.campaigns.serving import CampaignFiles
from runtime.clock import SystemClock
from runtime.processes.campaign_pull import ExchangePuller
from runtime.spool import Spool
from runtime.uplink.exchange import Exchange
from runtime.uplink.keys import EnrolledVehicles, ensure_local_pair, load_keys
from runtime.uplink.receiver import Receiver, ReceiverSettings
from runtime.uplink.uploader import Uploader, UploaderSettings

PATIENCE_S = 20.0
Lie = Callable[[str, int, int], "tuple[int, bytes] | None"]


class LyingFiles(CampaignFiles):
    """A receiver that tells the truth until a test gives it lies: `lies[path](path, offset, length)`."""

    def __init__(self, repository: Path, reports: Path) -> None:
        super().__init__(repository, reports)
        self.lies: dict[str, Lie] = {}
        self.asked: list[str] = []
        self.root: Path = repository

    def part(self, path: str, offset: int, length: int) -> tuple[int, bytes] | None:
        self.asked.append(path)
        for name, lie in self.lies.items():
            if path == name or (name.startswith("*") and path.endswith(name[1:])):
                return lie(path, offset, length)
        return super().part(path, offset, length)

    def instead(self, name: str, data: bytes) -> None:
        """Serve these bytes where `name` is asked for (`*…`: every path with that end)."""
        self.lies[name] = lambda path, offset, length: (len(data), data[offset : offset + length])


class UplinkBench:
    """Both ends in threads."""

    def __init__(self, folder: Path, files: CampaignFiles | None, vehicle: str) -> None:
        vehicle_keys, receiver_keys = ensure_local_pair(folder / "keys", vehicle)
        bound = threading.Event()
        settings = ReceiverSettings("tcp://127.0.0.1:*", folder / "received", receiver_keys)
        own = load_keys(receiver_keys, "receiver")
        self.receiver = Receiver(
            settings, own, EnrolledVehicles(receiver_keys), SystemClock(), lambda figures: None,
            on_bound=lambda address: bound.set(), campaigns=files,
        )  # fmt: skip
        self.spool = Spool.open(folder / "spool", 64 << 20)
        self.exchange = Exchange()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self.receiver.run, args=(self._stop,), daemon=True)]
        self._threads[0].start()
        assert bound.wait(PATIENCE_S)
        self.uploader = Uploader(
            self.spool, UploaderSettings(self.receiver.address, vehicle_keys, backoff_first_s=0.05),
            load_keys(vehicle_keys, "vehicle"), own.public, SystemClock(), random.Random(1), lambda figures: None,
            self.exchange,
        )  # fmt: skip
        self._threads.append(threading.Thread(target=self.uploader.run, args=(self._stop,), daemon=True))
        self._threads[1].start()
        self.puller = ExchangePuller(self.exchange, PATIENCE_S)

    def close(self) -> None:
        self._stop.set()
        self.exchange.close()
        for thread in self._threads:
            thread.join(PATIENCE_S)
        self.spool.close()
