"""What every process has around its work: directories, systemd, a watchdog fed by progress, a status file."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from runtime.clock import Clock
from runtime.config.directories import Directories, resolve_directories
from runtime.config.rig_config import RigConfig
from runtime.health.status import StatusError, write_status
from runtime.health.watchdog import ProgressWatchdog, SystemdNotifier

#: Leaving may take as long as there is progress; systemd is asked for so much at a time.
LEAVING_EXTENSION_S = 30.0

log = logging.getLogger("shadowrig")


class StartError(RuntimeError):
    """A process cannot start; the text says what is wrong and what to do.

    `exit_code` is 2 where the configuration is at fault, so that nobody starts it again with the same.
    """

    def __init__(self, text: str, exit_code: int = 2) -> None:
        super().__init__(text)
        self.exit_code = exit_code


def make_directories(config: RigConfig) -> Directories:
    """Resolve and create the directories of a vehicle process; group members (the other processes) may read them.

    Raises StartError when one cannot be made.
    """
    directories = resolve_directories(config, os.environ, os.getuid())
    for directory in (directories.history, directories.status, directories.state, directories.spool):
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o770)
        except OSError as error:
            raise StartError(f"{directory} cannot be made: {error.strerror} (fix: name another)") from error
    return directories


class ProcessShell:
    """Ready, alive, stopping: told to systemd, and shown in `<status directory>/<name>.json`."""

    def __init__(self, name: str, status_directory: Path, clock: Clock, progress_timeout_s: float) -> None:
        self.name = name
        self._path = status_directory / f"{name}.json"
        self._clock = clock
        self._notifier = SystemdNotifier.from_environment(os.environ)
        self._watchdog = ProgressWatchdog(self._notifier, [name], progress_timeout_s, clock.now_ns())
        self._status_failed = False
        self._is_leaving = False

    def ready(self, text: str) -> None:
        """Start-up is over."""
        self._notifier.ready(text)
        log.info("%s: %s", self.name, text)

    def progress(self) -> None:
        """The process has done a piece of its work."""
        self._watchdog.progress(self.name, self._clock.now_ns())

    def publish(self, status: Mapping[str, Any]) -> None:
        """Pet the watchdog if there was progress, and write the status file."""
        if not self._watchdog.check(self._clock.now_ns()) and self._is_leaving:
            self._notifier.extend(LEAVING_EXTENSION_S)
        try:
            write_status(self._path, status, self._clock.wall_ns())
            self._status_failed = False
        except (OSError, StatusError) as error:
            if not self._status_failed:  # once: a full tmpfs would otherwise fill the log too
                log.error("%s: status not written: %s", self.name, error)
            self._status_failed = True

    def stopping(self, text: str) -> None:
        """Leaving on purpose. What is published from now on also keeps systemd from ending it half-way."""
        self._is_leaving = True
        self._notifier.stopping(text)
        log.info("%s: %s", self.name, text)

    def close(self, final_status: Callable[[], Mapping[str, Any]]) -> None:
        """Write the last status and let go of systemd's socket."""
        self.publish(final_status())
        self._notifier.close()
