"""What a clip holds, for people (a few tables) and for programs (JSON). Reads the manifest; `verify` checks it.

Names in a clip are whatever its vehicle wrote: they are shown as text, never as markup or as orders to a terminal.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from runtime.formats.printable import printable, size
from runtime.messages import NANOSECONDS_PER_SECOND
from runtime.recording.clip_file import open_clip, read_manifest
from runtime.recording.manifest import ClipManifest
from runtime.recording.provenance import ModelProvenance

#: Backends of `runtime.inference`, as people know them.
_BACKENDS = {"onnx": "ONNX Runtime (CPU)", "tensorrt": "TensorRT (GPU)"}


@dataclass(frozen=True, slots=True)
class ClipSummary:
    """A clip's manifest and its file."""

    path: Path
    size_bytes: int
    manifest: ClipManifest

    def to_json(self) -> dict[str, Any]:
        """JSON-ready: the manifest with the file's path and size."""
        return {"path": str(self.path), "size_bytes": self.size_bytes, **self.manifest.model_dump(mode="json")}


def inspect_clip(path: Path | str) -> ClipSummary:
    """McapFileError, ManifestError or OSError when there is no readable clip at `path`."""
    with open_clip(path) as reader:
        return ClipSummary(Path(path), Path(path).stat().st_size, read_manifest(reader))


def print_summary(summary: ClipSummary, console: Console) -> None:
    """A header, the firings, the cameras."""
    console.print(Group(_header(summary), _firings(summary.manifest), _cameras(summary.manifest)))


def _header(summary: ClipSummary) -> Text:
    manifest = summary.manifest
    start = datetime.fromtimestamp(manifest.start_wall_ns / NANOSECONDS_PER_SECOND, timezone.utc)
    model, second = manifest.provenance.model, manifest.provenance.second_model
    text = Text()

    def line(shown: str, style: str = "") -> None:
        text.append(f"{printable(shown)}\n", style=style)

    line(str(summary.path), "bold")
    kind = f"pull {manifest.pull_id}" if manifest.pull_id else manifest.kind
    what = f"{kind}, {manifest.variant.value}, {manifest.priority.value} priority"
    line(f"clip {manifest.clip_id}: {what}, {size(summary.size_bytes)}")
    line(f"{start:%Y-%m-%d %H:%M:%S} UTC, {manifest.duration_s:.2f} s, vehicle {manifest.provenance.vehicle}")
    models = f"model {_named(model) if model else 'none'}{f', beside it {_named(second)},' if second else ''}"
    line(f"{models}{_backend(manifest)}, shadowrig {manifest.provenance.software_version}")
    if manifest.pre_roll_short_s > 0.0:
        line(f"pre-roll short by {manifest.pre_roll_short_s:.2f} s", "yellow")
    if manifest.ended_early:
        line(f"ended early: {manifest.ended_early}", "yellow")
    if manifest.shrunk:
        length_s = (manifest.shrunk.end_ns - manifest.shrunk.start_ns) / NANOSECONDS_PER_SECOND
        left_out = ", ".join(manifest.shrunk.left_out_cameras) or "none"
        line(f"cut down to {length_s:.1f} s without cameras {left_out}: {manifest.shrunk.reason}", "yellow")
    for name, missing in (("cameras", manifest.missing_cameras), ("topics", manifest.missing_topics)):
        if missing:
            line(f"missing {name}: {', '.join(missing)}", "yellow")
    if manifest.thumbnails and manifest.thumbnails.failed:
        line(f"{manifest.thumbnails.failed} key frames could not be decoded", "yellow")
    return text


def _backend(manifest: ClipManifest) -> str:
    """What ran the networks: the engine where the provenance has one, else the model's backend by its usual name."""
    model, engine = manifest.provenance.model, manifest.provenance.engine
    shown = engine or (model and (_BACKENDS.get(model.backend) or model.backend))
    return f" on {shown}" if shown else ""


def _named(model: ModelProvenance) -> str:
    return f"{model.name} {model.version} {model.precision}"


def _firings(manifest: ClipManifest) -> Table:
    table = Table("rule", "at", "priority", "probability", title="Firings", title_justify="left")
    table.add_column("operands", overflow="fold")  # a narrow terminal breaks long names, and loses no value
    for firing in manifest.firings:
        at_s = (firing.time_ns - manifest.start_ns) / NANOSECONDS_PER_SECOND
        operands = ", ".join(f"{name}={_value(value)}" for name, value in firing.operands.items())
        rule = f"{firing.rule} of {firing.campaign}" if firing.campaign else firing.rule
        row = (rule, f"{at_s:.2f} s", firing.priority.value, f"{firing.sample_probability:g}", operands)
        table.add_row(*map(_shown, row))
    return table


def _cameras(manifest: ClipManifest) -> Table:
    columns = ("camera", "codec", "frames", "rate", "gaps", "lag median / max", "size")
    table = Table(*columns, title="Cameras", title_justify="left")
    for name, camera in manifest.cameras.items():
        codec = f"{camera.codec}, transcoded" if camera.transcoded else camera.codec
        rate = f"{1000.0 / camera.period_ms:.1f} Hz" if camera.period_ms else "-"
        lags = (camera.lag_median_ms, camera.lag_max_ms)
        lag = "-" if lags == (None, None) else " / ".join("-" if v is None else f"{v:+.1f}" for v in lags) + " ms"
        row = (name, codec, str(camera.frames), rate, str(camera.gap_count), lag, size(camera.bytes))
        table.add_row(*map(_shown, row))
    return table


def _shown(cell: str) -> Text:
    """A cell as it is: Rich would read markup in a string."""
    return Text(printable(cell))


def _value(value: object) -> str:
    if value is None:
        return "unknown"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
