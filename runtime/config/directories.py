"""Where the daemon's directories are when the configuration says `auto`.

Under systemd the units name them: `RUNTIME_DIRECTORY` (on tmpfs) and `STATE_DIRECTORY` (on disk), systemd's own
protocol. Without it, a developer's daemon keeps history in `/dev/shm` and state under `~/.local/state`, apart for
every user and vehicle so that two daemons never share one. The environment is an argument: this module reads none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runtime.config.rig_config import RigConfig

SHARED_MEMORY = Path("/dev/shm")


@dataclass(frozen=True, slots=True)
class Directories:
    """Every directory that the daemon's processes use. Nothing here has been made yet."""

    history: Path  # on tmpfs; written by the runtime, read by the recorder
    status: Path  # on tmpfs; one JSON file for each process
    state: Path  # on disk
    spool: Path  # on disk; written by recorder and uploader
    keys: Path  # on disk, 0700; the uploader's only
    campaigns: Path  # on disk; written by the uploader, read by the runtime
    engines: Path  # on disk; TensorRT engines, written by 'model build', read by the runtime


def resolve_directories(config: RigConfig, environment: Mapping[str, str], user_id: int) -> Directories:
    """The directories of `config` for a process with this environment and user."""
    runtime = _runtime_directory(config, environment, user_id)
    state = config.state_directory or _state_directory(config, environment)
    return Directories(
        history=config.history.directory or runtime / "history",
        status=runtime / "status",
        state=state,
        spool=config.spool.directory or state / "spool",
        keys=config.uplink.keys or state / "keys",
        campaigns=state / "campaigns",
        engines=(config.model.engines if config.model else None) or state / "engines",
    )


def default_engines(environment: Mapping[str, str]) -> Path:
    """Where engines are kept when no configuration says it: as on a vehicle, or in the user's state."""
    given = _first(environment.get("STATE_DIRECTORY"))
    return (given or _user_state(environment)) / "engines"


def _runtime_directory(config: RigConfig, environment: Mapping[str, str], user_id: int) -> Path:
    given = _first(environment.get("RUNTIME_DIRECTORY"))
    if given is not None:
        return given
    if config.history.directory is not None:
        return config.history.directory.parent
    return SHARED_MEMORY / f"shadowrig-{user_id}-{config.vehicle.id}"


def _state_directory(config: RigConfig, environment: Mapping[str, str]) -> Path:
    given = _first(environment.get("STATE_DIRECTORY"))
    if given is not None:
        return given
    return _user_state(environment) / config.vehicle.id


def _user_state(environment: Mapping[str, str]) -> Path:
    home = Path(environment.get("HOME") or "~").expanduser()
    base = _first(environment.get("XDG_STATE_HOME")) or home / ".local" / "state"
    return base / "shadowrig"


def _first(value: str | None) -> Path | None:
    """systemd joins several directories with ':'; the first is ours."""
    return Path(value.split(":")[0]) if value else None
