"""The uploader: the only vehicle process that talks outward. It reads the spool and knows nothing of cameras."""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.clock import SystemClock
from runtime.config.directories import Directories
from runtime.config.rig_config import RigConfig
from runtime.formats.pull_files import PullFolder
from runtime.processes.alarm_log import AlarmLog
from runtime.processes.clip_facts import facts_of_clip
from runtime.processes.shell import ProcessShell, StartError, exit_code_of, make_directories
from runtime.processes.spool_opening import open_spool
from runtime.processes.uplink_policy import delivery_policy
from runtime.spool import Spool
from runtime.uplink.delivery_limits import DeliveryLimits
from runtime.uplink.exchange import Exchange
from runtime.uplink.keys import KeyFileError, ensure_keys, load_public_key
from runtime.uplink.status_file import Publish
from runtime.uplink.uploader import Uploader, UploaderSettings
from runtime.version import package_version

if TYPE_CHECKING:
    from runtime.processes.campaign_pull import CampaignPull

IDLE_S = 1.0


def run_uploader_process(config: RigConfig, stop: threading.Event) -> int:
    """Deliver clips until `stop`; without a server, wait and say so. The process's exit code."""
    clock = SystemClock()
    directories = make_directories(config)
    shell = ProcessShell("uploader", directories.status, clock, _progress_timeout_s(config))
    last: dict[str, Any] = {"link": "no server configured: clips stay in the spool"}

    exchange = Exchange()
    campaigns = _open_campaigns(config, directories, exchange, clock)

    def publish(figures: Mapping[str, Any]) -> None:
        last.update(figures)
        if campaigns is not None:
            campaigns.raise_if_dead()
            last["campaigns"] = campaigns.facts
        shell.progress()
        shell.publish(last)

    if config.uplink.server is None:
        shell.ready(last["link"])
        while not stop.wait(IDLE_S):
            publish({})
    else:
        opened = partial(
            Spool.open,
            directories.spool,
            config.spool.quota,
            describe=partial(facts_of_clip, vehicle=config.vehicle.id),
        )
        spool = open_spool(opened, shell, stop)
        if spool is not None:
            with spool:
                pulls, alarms = PullFolder(directories.spool), AlarmLog(spool)

                def publish_with_alarms(figures: Mapping[str, Any]) -> None:
                    alarms.step()
                    publish({**figures, "newest_alarms": alarms.newest})

                uploader = _make_uploader(config, directories.keys, spool, clock, publish_with_alarms, exchange, pulls)
                shell.ready(f"delivering to {config.uplink.server}")
                _deliver(uploader, campaigns, stop)
    shell.stopping("leaving: what is not delivered stays in the spool")
    shell.close(lambda: last)
    return 0


def _deliver(uploader: Uploader, campaigns: CampaignPull | None, stop: threading.Event) -> None:
    if campaigns is not None:
        campaigns.start()
    try:
        uploader.run(stop)
    finally:
        if campaigns is not None:
            campaigns.stop()


def _open_campaigns(
    config: RigConfig, directories: Directories, exchange: Exchange, clock: SystemClock
) -> CampaignPull | None:
    if config.uplink.server is None or config.campaigns.root is None:
        return None
    from runtime.processes.campaign_pull import open_campaign_pull  # rules, signatures: only where they are used

    return open_campaign_pull(config, directories, exchange, clock, config.campaigns.root)


def uploader_settings(config: RigConfig, keys: Path) -> UploaderSettings:
    """What the configuration's `uplink` says. ValueError without a server."""
    uplink = config.uplink
    if uplink.server is None:
        raise ValueError("an uploader needs a server: set uplink.server")
    return UploaderSettings(
        server=uplink.server,
        keys_directory=keys,
        software=f"shadowrig {package_version()}",
        backoff_first_s=uplink.retry_min_s,
        backoff_longest_s=uplink.retry_max_s,
        limits=DeliveryLimits(max_bytes_per_s=uplink.bandwidth_bytes_per_s),
        policy=delivery_policy(uplink.policy),
    )


def _make_uploader(
    config: RigConfig,
    keys: Path,
    spool: Spool,
    clock: SystemClock,
    publish: Publish,
    exchange: Exchange,
    pulls: PullFolder,
) -> Uploader:
    settings = uploader_settings(config, keys)
    try:
        own = ensure_keys(keys, "vehicle")
        receiver_key = load_public_key(config.uplink.server_public_key or keys / "receiver.public")
    except (KeyFileError, OSError) as error:
        code = exit_code_of(error) if isinstance(error, OSError) else 2
        raise StartError(f"keys in {keys} cannot be used: {error}", code) from error
    return Uploader(spool, settings, own, receiver_key, clock, random.Random(), publish, exchange, pulls)


def _progress_timeout_s(config: RigConfig) -> float:
    """A link that is down makes the uploader wait on purpose: that is no hang."""
    return config.health.progress_timeout_s + config.uplink.retry_max_s + DeliveryLimits().reply_timeout_s
