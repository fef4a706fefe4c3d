"""Puts the stages of a tick together; live and replay call the same functions, so that they run the same code.

Problems of a model, a rig or rules come up as the `DocumentError` of their file, or as `CompositionError` where good
files do not fit one another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from runtime.beside import beside_the_network
from runtime.camera_health import CameraHealthSignals
from runtime.camera_memory import CameraMemory
from runtime.camera_views import CameraViews
from runtime.capabilities import SourceFacts, capabilities_of, reads_images
from runtime.capture.assembler import Assembler
from runtime.capture.camera_watch import CameraWatch
from runtime.capture.monitor import HealthMonitor
from runtime.capture.phase import InstantGrid
from runtime.clock import period_of
from runtime.config.rig_config import BUNDLED_MODELS, RULE_LIBRARY
from runtime.controller_objects import ControllerObjects
from runtime.declared_signals import declared_types
from runtime.formats.documents import DocumentError, Problem
from runtime.formats.durable_files import sha256_of
from runtime.formats.signal_names import BUTTONS, CANONICAL_SIGNALS, DEFAULT_TIMEOUT_S, RecordedKind
from runtime.inference.backend import BackendError
from runtime.inference.heads.decoder import BundleFitError
from runtime.inference.learned import NOVELTY, LearnedStage, LearnedTriggers
from runtime.inference.network import Network
from runtime.inference.tracking import Tracker
from runtime.measured_ahead import AheadMeter, MeasuredAhead
from runtime.pipeline import Pipeline, RuleEvaluation, Stages
from runtime.recording.provenance import CameraProvenance, ModelProvenance, Provenance
from runtime.rig import Rig, load_rig
from runtime.second_candidate import SecondCandidate, padding
from runtime.shadow.comparison import Comparator
from runtime.signals.table import SignalTable
from runtime.tick_health import TickHealth
from runtime.version import package_version
from triggers import Capabilities, RuleEngine, RuleSet, library_path, load_rules


class CompositionError(ValueError):
    """Parts that are good in themselves do not fit together; the text says which and what to do."""


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """Which network to run, and how."""

    bundle: Path
    backend: str = "auto"
    precision: str = "auto"
    threads: int | Literal["auto"] = 1
    engines: Path | None = None  # the folder of built TensorRT engines; None: only the CPU is asked
    preprocess: str = "host"  # where images are prepared, with backend tensorrt: auto, host or device


@dataclass(frozen=True, slots=True)
class NetworkParts:
    """A network with what in a tick belongs to it and to no other."""

    network: Network
    tracker: Tracker
    learned: LearnedStage
    capabilities: Capabilities


@dataclass(slots=True)
class TickParts:
    """The stages of one tick and what reports want to see of them."""

    pipeline: Pipeline
    grid: InstantGrid
    assembler: Assembler | None
    network: Network | None
    health: CameraHealthSignals
    rules: RuleSet
    engine: RuleEngine
    views: CameraViews
    objects: ControllerObjects
    tick_health: TickHealth
    learned: LearnedStage
    capabilities: Capabilities
    always_measures_images: bool
    #: Width and height of each camera's source image, as far as they are known by now.
    image_sizes: Mapping[str, tuple[int, int]]
    tracker: Tracker | None
    #: What another network in place of the running one brings with it; None where nothing looks.
    network_parts: Callable[[Network], NetworkParts] | None = None
    #: Rules that cannot fire with this model and these cameras, with the reason of each.
    not_applicable: Mapping[str, str] = field(default_factory=dict)
    #: The second candidate, where one is shadowed beside the first.
    second: SecondCandidate | None = None


def find_bundle(name_or_path: str) -> Path:
    """A bundled network by its name, or the folder of another. Raises DocumentError."""
    for candidate in (BUNDLED_MODELS / name_or_path, Path(name_or_path)):
        if (candidate / "model.yaml").is_file():
            return candidate
    bundled = ", ".join(sorted(path.name for path in BUNDLED_MODELS.iterdir())) if BUNDLED_MODELS.is_dir() else "none"
    fix = f"name a bundled one ({bundled}), or a folder made by 'model import'"
    raise DocumentError([Problem(name_or_path, 0, 0, "is not a model bundle: there is no model.yaml", None, fix)])


def open_network(choice: ModelChoice, cameras: Sequence[str], rig: Rig | None = None) -> Network:
    """Load, check and warm the network for these cameras; `rig` is their calibration, if there is one.

    Raises DocumentError, CompositionError.
    """
    try:
        return Network.open(
            choice.bundle, cameras, choice.backend, choice.precision, choice.threads, False, rig, choice.engines,
            choice.preprocess,
        )  # fmt: skip
    except (BundleFitError, BackendError) as error:
        raise CompositionError(f"model {choice.bundle}: {error}") from error


def open_rules(places: Sequence[str | Path], declared: Mapping[str, RecordedKind] | None = None) -> RuleSet:
    """Load rule files; `library` means the rules that come with the software. Raises DocumentError.

    `declared` are signals beyond the canonical ones: those of a configuration, or those that a drive holds.
    """
    found = [library_path() if str(place) == RULE_LIBRARY else Path(place) for place in places]
    return load_rules(found, declared_types(declared or {}))


def open_signals(timeouts_s: Mapping[str, float], default_timeout_s: float = DEFAULT_TIMEOUT_S) -> SignalTable:
    """The table of all signals. Canonical signals that come more slowly than others keep their longer timeout."""
    slow = {
        name: max(signal.timeout_s, default_timeout_s)
        for name, signal in CANONICAL_SIGNALS.items()
        if signal.timeout_s != DEFAULT_TIMEOUT_S
    }
    return SignalTable({**slow, **timeouts_s}, default_timeout_s, BUTTONS)


def compose_tick(
    watches: Sequence[CameraWatch],
    network: Network | None,
    rig: Rig | None,
    signals: SignalTable,
    rules: RuleSet,
    seed: int,
    rate_hz: float,
    reference_camera: str | None,
    sources: SourceFacts | None = None,
    measures_images: bool = False,
    wrap_rules: Callable[[RuleEngine], RuleEvaluation] | None = None,
    second: Network | None = None,
    memory: CameraMemory | None = None,
) -> TickParts:
    """The tick for these cameras. Without a network nothing is decoded and no framesets are made.

    `sources` says what is known of the signal sources. Images are measured when a rule asks for that, or always.
    `wrap_rules` puts something between the tick and its rules, such as a recorder of what the rules read. `second` is
    another candidate to shadow beside `network`, which must be there too. `memory` is where the process of the cameras
    leaves their pictures; without it cameras are threads of this one.

    Raises:
        DocumentError: a query or classifier of the rules does not do for this network.
    """
    cameras = tuple(watch.name for watch in watches)
    grid = InstantGrid(period_of(rate_hz), reference_camera)
    assembler = None
    if network is not None and cameras:
        assembler = Assembler(cameras, network.image_spec, grid, None if memory is None else memory.rings[0])
    tracker = Tracker(cameras, rig) if assembler is not None else None
    health = CameraHealthSignals(HealthMonitor(watches))
    image_sizes: dict[str, tuple[int, int]] = {}  # the engine reads it; it fills in as first frames come
    looking = network if assembler else None
    published = published_scalars(looking) if looking else ()
    other = _second_candidate(second, looking, cameras, rig, grid, memory)
    second_published = None if other is None else published_scalars(other.network)
    capabilities = capabilities_of(looking, published, cameras, rig, sources or SourceFacts(), second_published)
    lacking = rules.not_applicable(capabilities)
    able = rules.without(lacking)  # what can never fire here costs nothing
    engine = RuleEngine(able, seed=seed, image_sizes=image_sizes)
    color = "rgb" if network is None else network.image_spec.color
    ahead = MeasuredAhead.of(len(cameras)) if memory is None else memory.ahead
    views = CameraViews(health, color, measures_images or reads_images(able), ahead)
    if assembler is not None:
        assembler.on_image, assembler.sources = AheadMeter(color, ahead), network.sources if network else None
        assembler.on_prepared = lambda row, image, time_ns: watches[row].picture(image, time_ns)
    objects, tick_health = ControllerObjects(), TickHealth()
    evaluation = engine if wrap_rules is None else wrap_rules(engine)
    space = network.embedding if network is not None and assembler else None
    learned = LearnedStage(space, LearnedTriggers.open(rules, space))
    stages = Stages(
        signals, evaluation, Comparator(), health, assembler, network if assembler else None, tracker,
        views=views, objects=objects, tick_health=tick_health, learned=learned, second=other,
        rules_ahead=engine if wrap_rules is None else None,
        image_sizes=image_sizes,
    )  # fmt: skip

    def network_parts(next_one: Network) -> NetworkParts:
        stage = LearnedStage(next_one.embedding, LearnedTriggers())
        facts = sources or SourceFacts()
        able = capabilities_of(next_one, published_scalars(next_one), cameras, rig, facts, second_published)
        return NetworkParts(next_one, Tracker(cameras, rig), stage, able)

    beside = beside_the_network() if looking else None
    return TickParts(
        Pipeline(stages, beside=beside), grid, assembler, network, health, rules, engine, views, objects, tick_health,
        learned, capabilities, measures_images, image_sizes, tracker, network_parts if looking else None, lacking,
        other,
    )  # fmt: skip


def _second_candidate(
    second: Network | None,
    first: Network | None,
    cameras: Sequence[str],
    rig: Rig | None,
    grid: InstantGrid,
    memory: CameraMemory | None,
) -> SecondCandidate | None:
    """It shares the first's images where it takes them alike."""
    if second is None or first is None:
        return None
    images = None
    if second.image_spec != first.image_spec:
        images = Assembler(cameras, second.image_spec, grid, None if memory is None else memory.rings[1])
    return SecondCandidate(second, Tracker(cameras, rig), grid.period_ns, images)


def published_scalars(network: Network) -> Sequence[str]:
    """The scalars that a network publishes as `heads.<name>`: asked of itself, on images of padding.

    Those that it gives only on some ticks, and what the tick derives from its embedding, are named after them.
    """
    always = network.predict(padding(network), None, None).scalars
    network.reset()  # padding is nothing to remember
    derived = () if network.embedding is None else (NOVELTY.removeprefix("heads."),)
    return tuple(dict.fromkeys((*always, *network.occasional_scalars, *derived)))


def describe_provenance(
    vehicle: str,
    config_sha256: str,
    rules: RuleSet,
    network: Network | None,
    rig_path: Path | None,
    cameras: Mapping[str, CameraProvenance],
    second: Network | None = None,
) -> Provenance:
    """What every clip says about the software that made it."""
    return Provenance(
        software_version=package_version(),
        vehicle=vehicle,
        config_sha256=config_sha256,
        rules_sha256=rules.fingerprint,
        model=describe_model(network),
        second_model=describe_model(second),
        engine=None,
        calibration_sha256=None if rig_path is None else sha256_of(rig_path),
        cameras=dict(cameras),
    )


def describe_model(network: Network | None) -> ModelProvenance | None:
    """The model's part of it; None when there is none."""
    if network is None:
        return None
    said = network.description
    return ModelProvenance(
        name=said.name, version=said.version, sha256=said.sha256, backend=said.backend, precision=said.precision
    )


def open_rig(path: Path | None) -> Rig | None:
    """The camera calibration, if there is one. Raises DocumentError."""
    return None if path is None else load_rig(path)


def model_facts(network: Network | None) -> dict[str, str] | None:
    """The model as reports show it; None when there is none."""
    if network is None:
        return None
    said = network.description
    facts = {"name": said.name, "backend": said.backend, "precision": said.precision, "sha256": said.sha256}
    if said.threads_because:
        facts |= {"threads": str(said.threads), "threads_because": said.threads_because}
    if said.backend == "tensorrt":
        facts["preprocess"] = "host" if network.sources is None else "device"
    if network.states_forgotten is not None:
        facts["states_forgotten"] = str(network.states_forgotten)
    if network.backend_reasons:
        facts["backend_because"] = "; ".join(network.backend_reasons)
    return facts
