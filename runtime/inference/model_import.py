"""Makes a model bundle of somebody else's ONNX file.

    import_model("yolox_nano.onnx", "yolox", "models/yolox_nano")

The file is copied as it is; `model.yaml` is written with comments, because it is a draft by convention: what a graph
does not say (colour order, pixel scale, class names) is taken from how networks of its kind are exported. The bundle is
then loaded like any other and run once on an empty image, and only if that works does it appear in its place, in one
step. A bundle that was there is replaced; any other folder with something in it is refused.

Everything wrong with the file comes in one `DocumentError` that names the ONNX file.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from runtime.formats.documents import DocumentError, Problem, suggest
from runtime.formats.durable_files import sha256_of
from runtime.formats.image_spec import MAX_SIDE_PX
from runtime.inference.backend import BackendError
from runtime.inference.bundle import load_bundle
from runtime.inference.graph import Graph, GraphError, TensorSpec, read_graph
from runtime.inference.heads import DECODERS
from runtime.inference.import_heads import DraftError, HeadDraft, draft_heads
from runtime.inference.manifest import MANIFEST_FILE
from runtime.inference.network import Network

NETWORK_FILE = "model.fp32.onnx"
_PLAIN_WORDS = re.compile("[a-z][a-z_]*( [a-z]+)*")


@dataclass(frozen=True, slots=True)
class ImageConvention:
    """How networks of one kind take their images, and who says so."""

    color: str
    resize: str
    scale: float
    because: str


_YOLOX_IMAGES = ImageConvention("bgr", "letterbox", 1.0, "YOLOX exports take BGR, 0 to 255, letterboxed with 114")
_YOLOV8_IMAGES = ImageConvention(
    "rgb", "letterbox", 1.0 / 255.0, "YOLOv8 exports take RGB, 0 to 1, letterboxed with 114"
)
_COMMON_IMAGES = ImageConvention("rgb", "stretch", 1.0 / 255.0, "a guess: most exports take RGB, 0 to 1, stretched")


_CONVENTIONS = {"yolox": _YOLOX_IMAGES, "yolov8": _YOLOV8_IMAGES}


def import_model(
    onnx_path: str | Path,
    decoder: str,
    out_dir: str | Path,
    name: str | None = None,
    labels: Sequence[str] | None = None,
) -> Path:
    """Write a bundle for `onnx_path` into `out_dir` and return that path.

    Raises:
        DocumentError: the file, the decoder, the labels or the folder do not do; with everything that is wrong.
    """
    onnx_path, out_dir = Path(onnx_path), Path(out_dir)
    problems = [*_decoder_problems(onnx_path, decoder), *_folder_problems(out_dir)]
    graph, graph_problems = _read(onnx_path)
    problems += graph_problems
    heads: list[HeadDraft] = []
    if graph is not None and decoder in DECODERS:
        try:
            heads = draft_heads(decoder, graph, labels)
        except DraftError as error:
            problems.append(Problem(str(onnx_path), 0, 0, str(error), None, error.fix))
    if problems or graph is None:
        raise DocumentError(problems)
    images = next(iter(graph.inputs.values()))
    manifest = _manifest_text(name or _bundle_name(onnx_path), onnx_path, images, decoder, heads)
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out_dir.name}-", dir=out_dir.parent) as staging:
        draft = Path(staging) / "bundle"
        _write(draft, onnx_path, manifest)
        _try_out(draft, onnx_path)
        _put_in_place(draft, out_dir, Path(staging) / "replaced")
    return out_dir


def _decoder_problems(onnx_path: Path, decoder: str) -> list[Problem]:
    if decoder in DECODERS:
        return []
    return [Problem(str(onnx_path), 0, 0, f"unknown decoder {decoder!r}", None, suggest(decoder, DECODERS))]


def _folder_problems(out_dir: Path) -> list[Problem]:
    if out_dir.exists() and not out_dir.is_dir():
        return [Problem(str(out_dir), 0, 0, "is a file; a bundle is a folder", None, "give another path")]
    if out_dir.is_dir() and any(out_dir.iterdir()) and not (out_dir / MANIFEST_FILE).is_file():
        message = "is a folder with something else in it; it is left alone"
        return [Problem(str(out_dir), 0, 0, message, None, "give a new folder, or that of a bundle to replace")]
    return []


def _read(onnx_path: Path) -> tuple[Graph | None, list[Problem]]:
    try:
        graph = read_graph(onnx_path)
    except GraphError as error:
        return None, [Problem(str(onnx_path), 0, 0, str(error), None, "export it again")]
    return graph, [Problem(str(onnx_path), 0, 0, message, None, fix) for message, fix in _input_faults(graph)]


def _input_faults(graph: Graph) -> list[tuple[str, str]]:
    listed = ", ".join(str(tensor) for tensor in graph.inputs.values()) or "none"
    if len(graph.inputs) != 1:
        fix = "write model.yaml by hand and declare the others as inputs of kind signal"
        return [(f"the network must take images alone; its inputs are {listed}", fix)]
    tensor = next(iter(graph.inputs.values()))
    faults = []
    sides = tensor.shape[2:]
    if len(tensor.shape) != 4 or tensor.shape[1] != 3 or any(side is None for side in sides):
        faults.append((f"input {tensor} must be [batch, 3, height, width]", "export with NCHW and fixed image size"))
    elif any(side is not None and side > MAX_SIDE_PX for side in sides):
        faults.append((f"input {tensor} is larger than {MAX_SIDE_PX} pixels a side", "export a smaller one"))
    if tensor.dtype not in ("uint8", "float32"):
        faults.append((f"input {tensor} must be uint8 or float32", "export with float32 inputs"))
    return faults


def _write(draft: Path, onnx_path: Path, manifest: str) -> None:
    draft.mkdir()
    shutil.copyfile(onnx_path, draft / NETWORK_FILE)
    text = manifest.replace("{sha256}", sha256_of(draft / NETWORK_FILE))
    (draft / MANIFEST_FILE).write_text(text, encoding="utf-8")


def _try_out(draft: Path, onnx_path: Path) -> None:
    """Load and run the draft; what is wrong is told of the file that the person gave."""
    try:
        batch = load_bundle(draft).manifest.images.batch
        network = Network.open(draft, [f"camera_{index}" for index in range(batch)], precision="fp32")
    except DocumentError as error:
        raise DocumentError(replace(problem, file=str(onnx_path), line=0) for problem in error.problems) from error
    except BackendError as error:
        raise DocumentError([Problem(str(onnx_path), 0, 0, f"does not run: {error}", None, "")]) from error
    silent = network.silent_outputs()
    network.close()
    if silent:
        message = f"outputs {', '.join(silent)} are not finite on an empty image"
        raise DocumentError([Problem(str(onnx_path), 0, 0, message, None, "check the export")])


def _put_in_place(draft: Path, out_dir: Path, replaced: Path) -> None:
    if out_dir.exists():
        out_dir.rename(replaced)
    draft.chmod(0o755)
    draft.rename(out_dir)


def _bundle_name(onnx_path: Path) -> str:
    cleaned = re.sub("[^A-Za-z0-9._-]+", "_", onnx_path.stem).strip("._-")
    return cleaned[:64] or "network"


def _manifest_text(
    name: str, onnx_path: Path, images: TensorSpec, decoder: str, heads: Sequence[Mapping[str, object]]
) -> str:
    convention = _CONVENTIONS.get(decoder, _COMMON_IMAGES)
    scale = f", scale: {convention.scale!r}" if images.dtype == "float32" else ""
    shape = [images.shape[0] or 1, *images.shape[1:]]
    lines = [
        f"# Model bundle of {_one_line(onnx_path.name)}, imported with the decoder {decoder}.",
        "# Correct whatever is not true of it.",
        f"name: {_inline(name)}",
        'version: "1"',
        "licence: unknown    # the licence of the weights, for example Apache-2.0",
        f"source: {_inline(onnx_path.name)}    # who made it, from what",
        "",
        f"# Images: {convention.because}.",
        "# A pixel enters a float32 input as (pixel * scale - mean) / std. A batch of 1 runs once per camera.",
        "inputs:",
        f"  - {{name: {_inline(images.name)}, kind: images, shape: {shape}, dtype: {images.dtype},",
        f"     color: {convention.color}, resize: {convention.resize}, pad_value: 114{scale}}}",
        "",
        "# What the outputs mean. `outputs` maps the decoder's names to the network's.",
        "heads:",
    ]
    for head in heads:
        first, *rest = [f"{key}: {_inline(value)}" for key, value in head.items()]
        lines += [f"  - {first}", *(f"    {line}" for line in rest)]
    lines += ["", "files:", f"  fp32: {{path: {NETWORK_FILE}, sha256: {{sha256}}}}", ""]
    return "\n".join(lines)


def _one_line(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _inline(value: object) -> str:
    """JSON, which is YAML in one line; plain words stay without quotes for the reader's sake."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_inline(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_inline(entry) for entry in value) + "]"
    if isinstance(value, str) and _PLAIN_WORDS.fullmatch(value) and value not in ("null", "true", "false"):
        return value
    return json.dumps(value)
