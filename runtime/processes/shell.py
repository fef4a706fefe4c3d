"""What every process has around its work: directories, systemd, a watchdog fed by progress, a status file."""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from runtime.clock import Clock
from runtime.config.directories import Directories, resolve_directories
from runtime.config.rig_config import RigConfig
from runtime.health.status import StatusError, write_status
from runtime.health.watchdog import ProgressWatchdog, SystemdNotifier
from runtime.messages import NANOSECONDS_PER_SECOND

#: Starting and leaving may take as long as there is progress; systemd is asked for so much at a time.
EXTENSION_S = 30.0
#: A disk in this state may be another one tomorrow: nothing is gained by ending, or by calling the configuration wrong.
PASSING_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)

log = logging.getLogger("shadowrig")


def exit_code_of(error: OSError) -> int:
    """1 where the disk is to blame, which may change by itself; 2 where a person has to change something."""
    return 1 if error.errno in PASSING_ERRORS else 2


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
            text = f"{directory} cannot be made: {error.strerror} (fix: name another)"
            raise StartError(text, exit_code_of(error)) from error
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
        self._tell_starting_ns = clock.now_ns()

    def ready(self, text: str) -> None:
        """Start-up is over."""
        self._notifier.ready(text)
        log.info("%s: %s", self.name, text)

    def starting(self) -> None:
        """Still starting, and getting on: systemd shall wait. To be called often; it is told once a second."""
        now_ns = self._clock.now_ns()
        if now_ns >= self._tell_starting_ns:
            self._tell_starting_ns = now_ns + NANOSECONDS_PER_SECOND
            self.progress()
            self._watchdog.check(now_ns)  # it counts already where `wait_out` said READY
            self._notifier.extend(EXTENSION_S)

    def wait_out(self, text: str, figures: Mapping[str, Any], wait_s: float, stop: threading.Event) -> None:
        """Something is away that may come back: say so, and wait `wait_s` or for `stop`, without looking hung."""
        log.warning("%s: %s", self.name, text)
        self._notifier.ready(text)  # up, and waiting: systemd would end a start that takes long
        until_ns = self._clock.now_ns() + round(wait_s * NANOSECONDS_PER_SECOND)
        is_going_on = True
        while is_going_on and self._clock.now_ns() < until_ns:
            self.progress()
            self.publish(figures)
            next_ns = min(until_ns, self._clock.now_ns() + NANOSECONDS_PER_SECOND)
            is_going_on = self._clock.wait_until(next_ns, stop)

    def progress(self) -> None:
        """The process has done a piece of its work."""
        self._watchdog.progress(self.name, self._clock.now_ns())

    def publish(self, status: Mapping[str, Any]) -> None:
        """Pet the watchdog if there was progress, and write the status file."""
        if not self._watchdog.check(self._clock.now_ns()) and self._is_leaving:
            self._notifier.extend(EXTENSION_S)
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
