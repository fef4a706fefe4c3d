"""The fleet's end: takes clips in, stores them durably, and checks every promise of each one."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import zmq

from runtime.clock import SystemClock
from runtime.config.receiver_config import ReceiverConfig
from runtime.processes.receiver_pulls import open_pull_book
from runtime.processes.shell import ProcessShell, StartError
from runtime.processes.verifier_link import VerifierLink
from runtime.receiver_storage import campaign_desk, places_of, retention_of
from runtime.uplink.keys import EnrolledVehicles, KeyFileError, ensure_keys
from runtime.uplink.receiver import Receiver, ReceiverSettings
from runtime.uplink.storage.limits import StoreLimits

PROGRESS_TIMEOUT_S = 30.0


def run_receiver_process(config: ReceiverConfig, stop: threading.Event) -> int:
    """Receive until `stop`. The process's exit code."""
    clock = SystemClock()
    try:
        config.directory.mkdir(parents=True, exist_ok=True, mode=0o750)
    except OSError as error:
        raise StartError(f"{config.directory} cannot be made: {error.strerror} (fix: name another)") from error
    shell = ProcessShell("receiver", config.directory, clock, PROGRESS_TIMEOUT_S)
    last: dict[str, Any] = {}

    def publish(figures: Mapping[str, Any]) -> None:
        last.update(figures)
        shell.progress()
        shell.publish(last)

    settings = ReceiverSettings(
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
    try:
        own = ensure_keys(config.keys_directory, "receiver")
        enrolled = EnrolledVehicles(config.keys_directory)
    except (KeyFileError, OSError) as error:
        raise StartError(f"keys in {config.keys_directory} cannot be used: {error}") from error
    try:
        campaigns = campaign_desk(config)
        receiver = Receiver(
            settings, own, enrolled, clock, publish, VerifierLink(),
            lambda address: shell.ready(f"listening at {address}"), campaigns,
            open_pull_book(config),
        )  # fmt: skip
        receiver.run(stop)
    except OSError as error:
        raise StartError(f"the receiver's storage cannot be used: {error}", exit_code=1) from error  # it may come back
    except zmq.ZMQError as error:
        raise StartError(f"cannot listen at {config.bind}: {error}") from error
    shell.stopping("leaving: unfinished clips go on where they are")
    shell.close(lambda: last)
    return 0
