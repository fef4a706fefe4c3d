"""What the runtime opens by its configuration: the network, the writer of history, telemetry."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import zmq

from runtime.camera_memory import CameraMemory
from runtime.capture.picture_encoders import EncoderError, OpenEncoder, choose_encoder
from runtime.clock import Clock
from runtime.composition import CompositionError, ModelChoice, TickParts, describe_provenance, open_network, open_rig
from runtime.config.rig_config import RigConfig
from runtime.health.telemetry import TelemetryPublisher
from runtime.inference.network import Network
from runtime.live_sources import LiveCamera
from runtime.processes.camera_link import CameraLink
from runtime.processes.camera_messages import Assignment
from runtime.processes.shell import StartError, exit_code_of, log
from runtime.recording.calibrations import calibrated_cameras, record_calibrations
from runtime.recording.history_needs import HoldSettings
from runtime.recording.history_writer import HistoryWriter
from runtime.recording.provenance import CameraProvenance
from runtime.recording.sessions import SessionRecord
from runtime.rig import Rig
from runtime.second_candidate import why_it_does_not_fit


def open_live_network(
    config: RigConfig, cameras: tuple[str, ...], bundle: Path | None, engines: Path | None = None
) -> Network | None:
    """The configured network, or the bundle of a campaign run as it is configured; `engines` are built ones.

    Raises DocumentError, StartError.
    """
    if config.model is None or not cameras:
        return None
    model = config.model
    try:
        choice = ModelChoice(
            bundle or model.bundle, model.backend, model.precision, model.threads, engines, model.preprocess
        )
        return open_network(choice, cameras, open_rig(config.rig))
    except CompositionError as error:
        raise StartError(str(error)) from error


def open_second_network(
    config: RigConfig, cameras: tuple[str, ...], first: Network | None, engines: Path | None = None
) -> tuple[Network | None, str]:
    """The second candidate, or why it does not run beside the first on this machine. DocumentError, StartError."""
    if config.second_model is None or first is None:
        return None, ""
    model = config.second_model
    try:
        choice = ModelChoice(model.bundle, model.backend, model.precision, model.threads, model.engines or engines)
        second = open_network(choice, cameras, open_rig(config.rig))
    except CompositionError as error:
        raise StartError(f"second_model: {error}") from error
    refusal = why_it_does_not_fit(first, second, config.tick.period_ns)
    if refusal:
        log.error("second_model is refused, the first goes on alone: %s", refusal)
        second.close()
        return None, refusal
    return second, ""


def launch_cameras(
    config: RigConfig, cameras: tuple[str, ...], first: Network | None, second: Network | None
) -> tuple[CameraLink, CameraMemory] | None:
    """The cameras' process, on its way up; None where they are threads of this one: so configured, or none there.

    A network that prepares images itself needs them in this process too: its memory is the device's. Raises StartError.
    """
    if not cameras or config.realtime.cameras == "threads" or (first is not None and first.sources is not None):
        return None
    specs = tuple(dict.fromkeys(network.image_spec for network in (first, second) if network is not None))
    tick = config.tick
    try:
        memory = CameraMemory(cameras, specs)
        assignment = Assignment(
            config, cameras, specs, memory.descriptors, tick.period_ns, tick.reference_of(cameras)
        )  # fmt: skip
        return CameraLink(assignment, memory), memory
    except OSError as error:
        raise StartError(f"the cameras' process cannot be started: {error}", exit_code=1) from error


def open_history(
    config: RigConfig,
    directory: Path,
    sources: Sequence[LiveCamera],
    parts: TickParts,
    clock: Clock,
    rig: Rig | None = None,
) -> HistoryWriter:
    """The writer of a new session, which tells what runs and carries the cameras' calibrations. Raises StartError."""
    calibrated = calibrated_cameras(rig, [camera.name for camera in sources])
    cameras = {
        camera.name: CameraProvenance(
            rate_hz=camera.rate_hz or 0.0, width=(camera.size or (0, 0))[0], height=(camera.size or (0, 0))[1],
            calibrated=any(camera.name == known.name for known in calibrated),
        )
        for camera in sources
    }  # fmt: skip
    second = None if parts.second is None else parts.second.network
    provenance = describe_provenance(
        config.vehicle.id, config.fingerprint(), parts.rules, parts.network, config.rig, cameras, second
    )
    session = SessionRecord(
        session=f"{clock.wall_ns():020d}-{os.getpid()}",
        pid=os.getpid(),
        started_wall_ns=clock.wall_ns(),
        history_s=config.history.seconds,
        provenance=provenance,
    )
    try:
        wall_offset_ns, settings = clock.wall_ns() - clock.now_ns(), config.history
        hold = HoldSettings(settings.hold_s, before_s=config.privacy.fix_timeout_s)
        writer = HistoryWriter(directory, settings.seconds, settings.max_bytes, session, wall_offset_ns, hold)
    except OSError as error:
        text = f"history cannot be written in {directory}: {error} (fix: give it room, or name another directory)"
        raise StartError(text, exit_code_of(error)) from error
    record_calibrations(writer, calibrated)
    return writer


def open_encoder(config: RigConfig) -> OpenEncoder:
    """Who encodes raw sources for history. Raises StartError."""
    try:
        return choose_encoder(config.history.encoder)
    except EncoderError as error:
        raise StartError(str(error)) from error


def open_telemetry(address: str | None) -> TelemetryPublisher | None:
    """The bench's view of every tick, where one is configured. Raises StartError."""
    if address is None:
        return None
    try:
        return TelemetryPublisher(address)
    except zmq.ZMQError as error:
        raise StartError(f"health.telemetry {address!r} cannot be bound: {error}") from error
