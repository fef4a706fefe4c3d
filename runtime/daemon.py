"""The daemon's entry points: one process of it, all of them under a supervisor, the receiver, and the doctor.

A bad configuration is refused before anything is started: `DocumentError` with every problem.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

from runtime.clock import SystemClock
from runtime.config import load_config, load_receiver_config, parse_config
from runtime.config.directories import Directories, resolve_directories
from runtime.config.rig_config import RigConfig
from runtime.formats.documents import Document, DocumentError, load_document
from runtime.health.doctor import Check, DoctorPlan, Probe, diagnose
from runtime.processes.shell import StartError, make_directories
from runtime.shutdown import stop_on_signals
from runtime.supervisor import Child, Supervisor, SupervisorError, shadowrig_command

#: Stopping follows the data: the runtime first, so that the recorder can seal what is in flight.
STOP_ORDER = ("runtime", "recorder", "uploader")
#: A process may take its whole shutdown timeout for its data, and then still has to let go of its threads.
STOP_MARGIN_S = 10.0
DEFAULT_MODEL = "hydra_mini"


class DaemonError(Exception):
    """The daemon cannot start or cannot go on. `exit_code` is 2 for bad input, 1 otherwise."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def run_daemon(config_path: Path, process: str) -> int:
    """Run `all` processes, or one of `runtime`, `recorder`, `uploader`, until SIGTERM or SIGINT."""
    document = load_document(config_path)
    config = parse_config(document)
    try:
        if process == "all":
            _check_parts(config, document)
            return _supervise(config, config_path)
        return _run_one(config, process)
    except StartError as error:
        raise DaemonError(str(error), exit_code=error.exit_code) from error
    except DocumentError:
        _check_parts(config, document)  # the process met the first bad file: tell of all of them
        raise


def _check_parts(config: RigConfig, document: Document) -> None:
    from runtime.preflight import check_parts

    check_parts(config, document, SystemClock())


def _run_one(config: RigConfig, process: str) -> int:
    # Each process imports only what it needs: the recorder never loads a network library, the uploader no video.
    stop = stop_on_signals()
    if process == "runtime":
        from runtime.processes.runtime_process import run_runtime

        return run_runtime(config, stop)
    if process == "recorder":
        from runtime.processes.recorder_process import run_recorder

        return run_recorder(config, stop)
    from runtime.processes.uploader_process import run_uploader_process

    return run_uploader_process(config, stop)


def _supervise(config: RigConfig, config_path: Path) -> int:
    stop = stop_on_signals()
    directories = make_directories(config)
    children = {
        name: Child(
            name,
            shadowrig_command("run", "--process", name, "--config", str(config_path)),
            _log_path(directories, name),
        )
        for name in reversed(STOP_ORDER)
    }
    children["recorder"].progress_path = directories.status / "recorder.json"  # many clips may be in flight
    supervisor = Supervisor(list(children.values()), lambda text: print(text, file=sys.stderr, flush=True))
    place = directories.state
    print(f"running as {config.vehicle.id}; logs and spool in {place}; stop with Ctrl-C or SIGTERM", flush=True)
    supervisor.start()
    failure: SupervisorError | None = None
    try:
        supervisor.run(stop)
    except SupervisorError as error:
        failure = error
    codes = supervisor.stop(STOP_ORDER, config.health.shutdown_timeout_s + STOP_MARGIN_S)
    if failure is not None:
        raise DaemonError(str(failure), failure.exit_code)
    bad = {name: code for name, code in codes.items() if code != 0}
    if bad:
        raise DaemonError(", ".join(f"{name} ended with code {code}" for name, code in bad.items()))
    return 0


def _log_path(directories: Directories, name: str) -> Path:
    return directories.state / "logs" / f"{name}.log"


def run_receiver(config_path: Path) -> int:
    """Receive clips until SIGTERM or SIGINT."""
    from runtime.processes.receiver_process import run_receiver_process

    config = load_receiver_config(config_path, is_serving=True)
    try:
        return run_receiver_process(config, stop_on_signals(), random.Random())
    except StartError as error:
        raise DaemonError(str(error), error.exit_code) from error


def examine_machine(config_path: Path | None = None) -> list[Check]:
    """What this machine can and cannot do for the daemon, with the bundled model looked at too.

    With a configuration: also where that one puts its data, and whether what protects its clips is all there.
    """
    from runtime.config.rig_config import BUNDLED_MODELS
    from runtime.inference.backends import describe_tensorrt
    from runtime.inference.bundle import load_bundle
    from runtime.privacy.doctor import probe_lock, probe_privacy
    from runtime.processes.alarm_log import newest_alarm

    def probe_model() -> str:
        bundle = load_bundle(BUNDLED_MODELS / DEFAULT_MODEL)
        return f"{bundle.manifest.name} {bundle.manifest.version}: {', '.join(sorted(bundle.graphs))}"

    config = (
        RigConfig.model_validate({"vehicle": {"id": "doctor"}}) if config_path is None else load_config(config_path)
    )
    directories = resolve_directories(config, os.environ, os.getuid())
    probe_alarms = Probe("spool alarms", lambda: newest_alarm(directories.status), "see deploy/CLIPS.md")
    plan = DoctorPlan(
        history_directory=directories.history,
        history_bytes=config.history.max_bytes,
        state_directory=directories.state,
        spool_bytes=config.spool.quota,
        tick_priority=config.realtime.tick_priority,
        probes=[
            Probe("model bundle", probe_model, "reinstall shadowrig: the bundled model is damaged"),
            Probe("tensorrt", describe_tensorrt, "see deploy/TENSORRT.md"),
            Probe(
                "clip lock", probe_lock, "install the cryptography wheel: pip install --force-reinstall cryptography"
            ),
            Probe("privacy", lambda: probe_privacy(config), "see deploy/PRIVACY.md; until then no clip is sealed"),
            *([] if config_path is None else [probe_alarms]),
        ],
    )
    return diagnose(plan)
