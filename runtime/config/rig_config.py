"""The configuration of the vehicle daemon: one file, one validated tree, shared by its processes.

`load_config` reads `rig.yaml` and raises a `DocumentError` with every problem at once: wrong values, unknown keys,
files that are not there, and parts that contradict each other. Nothing is opened or started while loading, and
nothing else configures the daemon: no environment variable changes what a value means. (Where directories are
`auto`, `runtime.config.directories` places them.) `deploy/rig.example.yaml` is the commented reference.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo

from runtime.clock import period_of
from runtime.config.bundles import BUNDLED_MODELS, ModelBundlePath
from runtime.config.cross_checks import contradictions
from runtime.config.places import (
    DirectoryOrAuto,
    ExistingFile,
    ExistingPath,
    ZeromqAddress,
    existing,
)
from runtime.config.privacy_config import PrivacyConfig
from runtime.config.quantities import ByteCount, Seconds, SecondsOrZero
from runtime.config.sources import MAX_RATE_HZ, CameraConfig, CameraName, RateHz, Section, SignalsConfig
from runtime.config.uplink_config import UplinkConfig
from runtime.formats.documents import Document, DocumentError, Mistake, load_document, validate
from runtime.messages import CUT_MARGIN_S

#: ISO 3779: 17 letters and digits without I, O and Q, the last four digits.
_LIKE_A_VIN = re.compile(r"[A-HJ-NPR-Z0-9]{13}[0-9]{4}")

#: Means the rules that come with the software, wherever a list of rule files is asked for.
RULE_LIBRARY: Literal["library"] = "library"


def _rule_place(value: object, info: ValidationInfo) -> Path | Literal["library"]:
    return RULE_LIBRARY if value == RULE_LIBRARY else existing(value, info)


def _pseudonym(value: str) -> str:
    """Vehicle ids become names of directories, here and at the receiver."""
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", value) is None:
        raise Mistake(
            "is not a vehicle id", "write up to 64 letters, digits, '_', '.' and '-', a letter or digit first"
        )
    if _LIKE_A_VIN.fullmatch(value.upper()) is not None and any(character.isdigit() for character in value):
        raise Mistake("looks like a vehicle identification number", "write a pseudonym that names no vehicle or person")
    return value


class VehicleConfig(Section):
    """Who this is. Only the pseudonym ever leaves the vehicle."""

    id: Annotated[str, AfterValidator(_pseudonym)] = Field(
        description="a pseudonym, never the licence plate", examples=["dev-vehicle"]
    )


class ModelConfig(Section):
    """The candidate network and how it runs."""

    bundle: ModelBundlePath = Field(examples=["hydra_mini"])
    backend: Literal["auto", "onnx", "tensorrt"] = "auto"
    precision: Literal["auto", "int8", "fp16", "fp32"] = "auto"
    #: Where images are scaled and converted; device: by backend tensorrt; auto: there, where its kernel proves right.
    preprocess: Literal["auto", "host", "device"] = "auto"
    #: The folder of engines that 'model build' made; auto: engines/ in the state directory.
    engines: DirectoryOrAuto = None
    #: auto: measured at start-up; one core is always left to the rest.
    threads: Annotated[int, Field(ge=1, le=64)] | Literal["auto"] = "auto"


class TickConfig(Section):
    """The beat. `phase_ms` is the time from exposure to the start of the tick; `auto`: measured at start-up."""

    rate_hz: RateHz = 20.0
    phase_ms: Annotated[float, Field(ge=0, le=1000)] | Literal["auto"] = "auto"
    reference_camera: str | None = None

    @property
    def period_ns(self) -> int:
        """From one tick to the next."""
        return period_of(self.rate_hz)

    def reference_of(self, cameras: Sequence[str]) -> str | None:
        """The camera whose exposure is the instant: the one named here, else the first; None without cameras."""
        return self.reference_camera or next(iter(cameras), None)


class RulesConfig(Section):
    """The rules to evaluate: `library` is the bundled set, a folder means every .yaml in it."""

    files: tuple[Annotated[Path | Literal["library"], BeforeValidator(_rule_place)], ...] = Field(
        default=(RULE_LIBRARY,), min_length=1, max_length=256
    )
    seed: int = Field(default=0, ge=0, le=2**63 - 1)


class HistoryConfig(Section):
    """How far a firing can reach back. On tmpfs: its bytes are memory."""

    directory: DirectoryOrAuto = None
    seconds: Seconds = Field(default=60.0, ge=2 * CUT_MARGIN_S, le=3600)
    max_bytes: ByteCount = Field(default=512_000_000, ge=8_000_000)
    hold_s: SecondsOrZero = Field(
        default=1800.0, le=86_400, description="older seconds stay so long where a clip waits for them; 0: never"
    )
    #: Who encodes what comes raw; compressed sources pass untouched. auto: the Jetson's encoder where it is there.
    encoder: Literal["auto", "x264", "jetson"] = "auto"


class ThumbnailsConfig(Section):
    """The pictures of clips whose rule asks for `variant: thumbnails`: of key frames, one each interval at most."""

    interval_s: Seconds = Field(default=1.0, ge=0.05, le=60)
    width_px: int = Field(default=320, ge=64, le=1920)
    jpeg_quality: int = Field(default=70, ge=10, le=95)


class RecorderConfig(Section):
    """Limits of one clip and the pace of the recorder."""

    max_clip_s: Seconds = Field(default=55.0, le=600)
    crash_pre_s: Seconds = Field(default=10.0, le=600, description="how much of a runtime that died is kept")
    thumbnails: ThumbnailsConfig = ThumbnailsConfig()
    scan_interval_s: Seconds = Field(default=0.2, le=10)


class SpoolConfig(Section):
    """Sealed clips on disk that wait for delivery."""

    directory: DirectoryOrAuto = None
    quota: ByteCount = Field(default=20_000_000_000, ge=64_000_000)


class CampaignsConfig(Section):
    """Signed sets of rules and models from the fleet. Without a root to trust, none are taken."""

    root: ExistingFile | None = Field(
        default=None, description="the fleet's first root metadata (1.root.json), brought by hand or at provisioning"
    )
    check_interval_s: Seconds = Field(default=600.0, ge=1, le=86_400)
    max_bytes: ByteCount = Field(default=600_000_000, ge=1_000_000, description="one update may take so much")
    max_duration_s: Seconds = Field(default=3600.0, le=86_400, description="and so long")


class RealtimeConfig(Section):
    """Wishes to the operating system: applied where it allows them, reported where it does not."""

    tick_priority: int = Field(default=50, ge=0, le=99, description="SCHED_FIFO; 0: the normal scheduler")
    capture_priority: int = Field(default=40, ge=0, le=99)
    helper_priority: int = Field(
        default=10, ge=0, le=99, description="the runtime's other threads, which share the interpreter's lock with both"
    )
    cameras: Literal["process", "threads"] = Field(
        default="process",
        description="where cameras are read and decoded: in a process of their own, or in threads beside the tick",
    )
    lock_memory: bool = True
    tick_cpus: tuple[Annotated[int, Field(ge=0, le=1023)], ...] = ()
    capture_cpus: tuple[Annotated[int, Field(ge=0, le=1023)], ...] = ()


class HealthConfig(Section):
    """How the processes show that they are alive."""

    status_interval_s: Seconds = Field(default=1.0, ge=0.1, le=5)
    progress_timeout_s: Seconds = Field(
        default=10.0, ge=1, description="without progress for so long, a process is restarted"
    )
    telemetry: ZeromqAddress | None = Field(
        default=None, description="publish every tick's result here, for a test bench; loopback unless you mean it"
    )
    shutdown_timeout_s: SecondsOrZero = 20.0


class RigConfig(Section):
    """Everything that `shadowrig run` needs to know."""

    vehicle: VehicleConfig
    rig: ExistingFile | None = Field(default=None, description="camera calibration; without it there are no distances")
    drive: ExistingPath | None = Field(
        default=None, description="recorded drive whose cameras and signals become live sources"
    )
    cameras: dict[CameraName, CameraConfig] = Field(default_factory=dict)
    signals: SignalsConfig = SignalsConfig()
    model: ModelConfig | None = None
    second_model: ModelConfig | None = Field(
        default=None, description="another candidate to shadow beside `model` on the same frames (A/B)"
    )
    tick: TickConfig = TickConfig()
    rules: RulesConfig = RulesConfig()
    history: HistoryConfig = HistoryConfig()
    recorder: RecorderConfig = RecorderConfig()
    spool: SpoolConfig = SpoolConfig()
    uplink: UplinkConfig = UplinkConfig()
    campaigns: CampaignsConfig = CampaignsConfig()
    privacy: PrivacyConfig = PrivacyConfig()
    state_directory: DirectoryOrAuto = None
    realtime: RealtimeConfig = RealtimeConfig()
    health: HealthConfig = HealthConfig()

    @property
    def max_clip_s(self) -> float:
        """The longest clip: what is configured, and never more than history still has when it is cut."""
        return min(self.recorder.max_clip_s, self.history.seconds - CUT_MARGIN_S)

    def fingerprint(self) -> str:
        """sha256 of the validated values: the same for two files that mean the same."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


def load_config(path: str | Path) -> RigConfig:
    """Read and check a rig configuration.

    Raises:
        DocumentError: with every problem of the file, each at its line with value and fix.
    """
    document = load_document(path)
    return parse_config(document)


def parse_config(document: Document) -> RigConfig:
    """The configuration in a document that has been read already; raises like `load_config`."""
    problems = list(contradictions(document))
    try:
        config = validate(document, RigConfig, context={"base": document.path.absolute().parent})
    except DocumentError as error:
        raise DocumentError([*error.problems, *problems]) from error
    if problems:
        raise DocumentError(problems)
    return config


__all__ = ["BUNDLED_MODELS", "MAX_RATE_HZ", "RULE_LIBRARY", "RigConfig", "load_config", "parse_config"]
