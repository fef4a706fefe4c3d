"""The fleet's end: takes clips in, stores them durably, and checks every promise of each one."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Mapping
from typing import Any

import zmq

from runtime.backoff import Backoff
from runtime.clock import Clock, SystemClock
from runtime.config.receiver_config import ReceiverConfig
from runtime.processes.receiver_pulls import open_pull_book
from runtime.processes.shell import ProcessShell, StartError
from runtime.processes.verifier_link import VerifierLink
from runtime.receiver_storage import campaign_desk, places_of, retention_of
from runtime.uplink.keys import EnrolledVehicles, KeyFileError, KeyPair, ensure_keys
from runtime.uplink.receiver import Receiver, ReceiverSettings
from runtime.uplink.storage.limits import SetupError, StoreLimits
from runtime.uplink.storage.opening import open_store

PROGRESS_TIMEOUT_S = 30.0
#: Between attempts to reach a database or a bucket that is away.
WAIT_FIRST_S = 1.0
WAIT_LONGEST_S = 60.0

log = logging.getLogger("shadowrig")


def run_receiver_process(config: ReceiverConfig, stop: threading.Event, rng: random.Random) -> int:
    """Receive until `stop`. The process's exit code.

    Storage that is away is waited for, here and not by being started again: its text stands in the status meanwhile.
    Raises StartError, with exit code 2, for what only a person can mend.
    """
    clock = SystemClock()
    try:
        config.directory.mkdir(parents=True, exist_ok=True, mode=0o750)
    except OSError as error:
        raise StartError(f"{config.directory} cannot be made: {error.strerror} (fix: name another)") from error
    shell = ProcessShell("receiver", config.directory, clock, PROGRESS_TIMEOUT_S)
    try:
        own = ensure_keys(config.keys_directory, "receiver")
        enrolled = EnrolledVehicles(config.keys_directory)
    except (KeyFileError, OSError) as error:
        raise StartError(f"keys in {config.keys_directory} cannot be used: {error}") from error
    work = ReceiverWork(config, own, enrolled, clock, shell, Backoff(WAIT_FIRST_S, WAIT_LONGEST_S, rng))
    while not stop.is_set():
        try:
            work.receive(stop)
        except SetupError as error:
            raise StartError(f"the receiver's storage cannot be used: {error}") from error
        except zmq.ZMQError as error:
            raise StartError(f"cannot listen at {config.bind}: {error}") from error
        except OSError as error:
            work.wait_out(error, stop)
    shell.stopping("leaving: unfinished clips go on where they are")
    shell.close(lambda: work.last)
    return 0


class ReceiverWork:
    """One attempt after the other to receive; `last` are the figures that were published last."""

    def __init__(
        self,
        config: ReceiverConfig,
        own: KeyPair,
        enrolled: EnrolledVehicles,
        clock: Clock,
        shell: ProcessShell,
        backoff: Backoff,
    ) -> None:
        self.last: dict[str, Any] = {}
        self._config = config
        self._own = own
        self._enrolled = enrolled
        self._clock = clock
        self._shell = shell
        self._backoff = backoff
        self._attempts = 0

    def receive(self, stop: threading.Event) -> None:
        """Until `stop`. Raises SetupError, zmq.ZMQError, and OSError when the storage is away."""
        config = self._config
        settings = settings_of(config)
        store = open_store(places_of(config), settings.limits)  # first: it holds the folder, and upgrades the catalogue
        try:
            receiver = Receiver(
                settings, self._own, self._enrolled, self._clock, self._publish, VerifierLink(), self._on_bound,
                campaign_desk(config), open_pull_book(config), store,
            )  # fmt: skip
        except BaseException:
            store.close()
            raise
        receiver.run(stop)

    def wait_out(self, error: OSError, stop: threading.Event) -> None:
        """The storage is away: say so, and wait a while, longer each time, without looking hung to systemd."""
        self._attempts += 1
        wait_s = self._backoff.next_s()
        text = f"the receiver's storage cannot be used now, next attempt in {wait_s:.0f} s: {error}"
        self.last.update({"waiting_for_storage": str(error), "attempts": self._attempts})
        self._shell.wait_out(text, self.last, wait_s, stop)

    def _on_bound(self, address: str) -> None:
        self._backoff.reset()
        self._attempts = 0
        self.last.clear()
        self._shell.ready(f"listening at {address}")

    def _publish(self, figures: Mapping[str, Any]) -> None:
        self.last.update(figures)
        self._shell.progress()
        self._shell.publish(self.last)


def settings_of(config: ReceiverConfig) -> ReceiverSettings:
    """What the configuration says to the receiver."""
    return ReceiverSettings(
        bind=config.bind,
        directory=config.directory,
        keys_directory=config.keys_directory,
        limits=StoreLimits(
            max_clip_bytes=config.max_clip_bytes,
            vehicle_quota_bytes=config.quota_per_vehicle,
            disk_reserve_bytes=config.disk_reserve,
        ),
        places=places_of(config),
        retention=retention_of(config),
    )
