"""The uploader: the only vehicle process that talks outward. It reads the spool and knows nothing of cameras."""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runtime.clock import SystemClock
from runtime.config.rig_config import RigConfig
from runtime.processes.shell import ProcessShell, StartError, make_directories
from runtime.spool import Spool
from runtime.uplink.delivery import DeliveryLimits
from runtime.uplink.keys import KeyFileError, ensure_keys, load_public_key
from runtime.uplink.status_file import Publish
from runtime.uplink.uploader import Uploader, UploaderSettings
from runtime.version import package_version

IDLE_S = 1.0


def run_uploader_process(config: RigConfig, stop: threading.Event) -> int:
    """Deliver clips until `stop`; without a server, wait and say so. The process's exit code."""
    clock = SystemClock()
    directories = make_directories(config)
    shell = ProcessShell("uploader", directories.status, clock, _progress_timeout_s(config))
    last: dict[str, Any] = {"link": "no server configured: clips stay in the spool"}

    def publish(figures: Mapping[str, Any]) -> None:
        last.update(figures)
        shell.progress()
        shell.publish(last)

    if config.uplink.server is None:
        shell.ready(last["link"])
        while not stop.wait(IDLE_S):
            publish({})
    else:
        with Spool.open(directories.spool, config.spool.quota) as spool:
            uploader = _make_uploader(config, directories.keys, spool, clock, publish)
            shell.ready(f"delivering to {config.uplink.server}")
            uploader.run(stop)
    shell.stopping("leaving: what is not delivered stays in the spool")
    shell.close(lambda: last)
    return 0


def _make_uploader(config: RigConfig, keys: Path, spool: Spool, clock: SystemClock, publish: Publish) -> Uploader:
    uplink = config.uplink
    if uplink.server is None:
        raise ValueError("an uploader needs a server")
    limits = DeliveryLimits(max_bytes_per_s=uplink.bandwidth_bytes_per_s)
    settings = UploaderSettings(
        server=uplink.server,
        keys_directory=keys,
        software=f"shadowrig {package_version()}",
        backoff_first_s=uplink.retry_min_s,
        backoff_longest_s=uplink.retry_max_s,
        limits=limits,
    )
    try:
        own = ensure_keys(keys, "vehicle")
        receiver_key = load_public_key(uplink.server_public_key or keys / "receiver.public")
    except (KeyFileError, OSError) as error:
        raise StartError(f"keys in {keys} cannot be used: {error}") from error
    return Uploader(spool, settings, own, receiver_key, clock, random.Random(), publish)


def _progress_timeout_s(config: RigConfig) -> float:
    """A link that is down makes the uploader wait on purpose: that is no hang."""
    return config.health.progress_timeout_s + config.uplink.retry_max_s + DeliveryLimits().reply_timeout_s
