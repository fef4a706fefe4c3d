"""Makes a model bundle of somebody else's ONNX file.

    import_model("yolox_nano.onnx", "yolox", "models/yolox_nano")

The file is copied as it is; `model.yaml` is written with comments, because it is a draft by convention: what a graph
does not say (colour order, pixel scale, class names) is taken from how networks of its kind are exported. The bundle is
then loaded like any other and run once on an empty image, and only if that works does it appear in its place, in one
step. A bundle that was there is replaced; any other folder with something in it is refused. What inputs beside images
take is guessed (`import_inputs`) or said in `hints`; the try-out runs on a made-up rig where matrices are wanted.

Everything wrong with the file comes in one `DocumentError` that names the ONNX file.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from runtime.formats.documents import DocumentError, Problem, suggest
from runtime.formats.durable_files import sha256_of
from runtime.inference.backend import BackendError
from runtime.inference.bundle import load_bundle
from runtime.inference.calibration_feed import stand_in_cameras, stand_in_rig
from runtime.inference.graph import Graph, GraphError, read_graph
from runtime.inference.heads import DECODERS
from runtime.inference.import_heads import DraftError, HeadDraft, draft_heads
from runtime.inference.import_inputs import ImageConvention, InputDraft, InputHints, draft_inputs, without_states
from runtime.inference.manifest import MANIFEST_FILE
from runtime.inference.network import Network

NETWORK_FILE = "model.fp32.onnx"
_PLAIN_WORDS = re.compile("[a-z][a-z_]*( [a-z]+)*")


_YOLOX_IMAGES = ImageConvention("bgr", "letterbox", 1.0, "YOLOX exports take BGR, 0 to 255, letterboxed with 114")
_COMMON_IMAGES = ImageConvention("rgb", "stretch", 1.0 / 255.0, "a guess: most exports take RGB, 0 to 1, stretched")


def import_model(
    onnx_path: str | Path,
    decoder: str,
    out_dir: str | Path,
    name: str | None = None,
    labels: Sequence[str] | None = None,
    hints: InputHints | None = None,
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
    inputs: list[InputDraft] = []
    convention = _YOLOX_IMAGES if decoder == "yolox" else _COMMON_IMAGES
    if graph is not None:
        inputs, faults = draft_inputs(graph, hints or InputHints(), convention)
        problems += [Problem(str(onnx_path), 0, 0, message, None, fix) for message, fix in faults]
    if graph is not None and decoder in DECODERS:
        try:
            heads = draft_heads(decoder, without_states(graph, inputs), labels)
        except DraftError as error:
            problems.append(Problem(str(onnx_path), 0, 0, str(error), None, error.fix))
    if problems or graph is None:
        raise DocumentError(problems)
    manifest = _manifest_text(name or _bundle_name(onnx_path), onnx_path, convention, inputs, decoder, heads)
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
    return graph, []


def _write(draft: Path, onnx_path: Path, manifest: str) -> None:
    draft.mkdir()
    shutil.copyfile(onnx_path, draft / NETWORK_FILE)
    text = manifest.replace("{sha256}", sha256_of(draft / NETWORK_FILE))
    (draft / MANIFEST_FILE).write_text(text, encoding="utf-8")


def _try_out(draft: Path, onnx_path: Path) -> None:
    """Load and run the draft; what is wrong is told of the file that the person gave."""
    try:
        cameras = stand_in_cameras(load_bundle(draft).manifest)
        network = Network.open(draft, cameras, precision="fp32", rig=stand_in_rig(cameras))
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
    name: str,
    onnx_path: Path,
    convention: ImageConvention,
    inputs: Sequence[InputDraft],
    decoder: str,
    heads: Sequence[Mapping[str, object]],
) -> str:
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
        *(f"  - {_inline(draft)}" for draft in inputs),
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
