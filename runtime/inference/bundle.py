"""A model bundle: a folder with `model.yaml` (see `manifest`) and the files that it names.

`load_bundle` trusts nothing that it has not checked: the manifest's types and keys, the sha256 of every file, and
each ONNX file's inputs and outputs against what the manifest says of them. Everything that is wrong comes in one
`DocumentError`, located in `model.yaml`; nothing is run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from runtime.formats.documents import Document, DocumentError, NodePath, Problem, load_document, suggest, validate
from runtime.formats.durable_files import sha256_of
from runtime.inference.graph import Graph, GraphError, read_graph
from runtime.inference.heads import check_head
from runtime.inference.heads.decoder import BatchLayout, TensorShape
from runtime.inference.heads.specification import Head, tensors_of
from runtime.inference.input_checks import Fault, graph_faults, manifest_faults
from runtime.inference.manifest import MANIFEST_FILE, Manifest

#: The networks among a bundle's files; others (calibration ranges) are only hashed.
NETWORK_ROLES = ("fp32", "cpu_int8", "trt_int8", "trt_int8_fp16")


@dataclass(frozen=True, slots=True)
class ModelBundle:
    """A bundle whose files are all there and say what the manifest says."""

    directory: Path
    manifest: Manifest
    graphs: Mapping[str, Graph]  # by role

    def file(self, role: str) -> Path:
        """The path of the file with this role, for example `fp32`."""
        return self.directory / self.manifest.files[role].path

    def sha256(self, role: str) -> str:
        """The hash of the file with this role, as checked."""
        return self.manifest.files[role].sha256


def load_bundle(directory: str | Path) -> ModelBundle:
    """The bundle in `directory`.

    Raises:
        DocumentError: with everything that is wrong with it.
    """
    directory = Path(directory)
    if not directory.is_dir():
        fix = "give the folder that holds model.yaml"
        raise DocumentError([Problem(str(directory), 0, 0, "is not a model bundle: no such folder", None, fix)])
    document = load_document(directory / MANIFEST_FILE)
    manifest = validate(document, Manifest)
    problems: list[Problem] = []
    graphs: dict[str, Graph] = {}
    for role, entry in manifest.files.items():
        path = directory / entry.path
        faults = list(_file_faults(document, role, path, entry.sha256))
        problems += faults
        if faults or role not in NETWORK_ROLES:
            continue
        try:
            graphs[role] = read_graph(path)
        except GraphError as error:
            problems.append(document.problem(("files", role, "path"), f"file {entry.path} {error}", "export it again"))
    problems += [document.problem(*fault) for fault in manifest_faults(manifest)]
    problems += _graph_problems(document, manifest, graphs)
    if problems:
        raise DocumentError(problems)
    return ModelBundle(directory, manifest, graphs)


def _file_faults(document: Document, role: str, path: Path, sha256: str) -> Iterator[Problem]:
    if not path.is_file():
        yield document.problem(("files", role, "path"), f"file {path.name} is not in the bundle", "copy it there")
        return
    try:
        found = sha256_of(path)
    except OSError as error:
        yield document.problem(("files", role, "path"), f"file {path.name} cannot be read: {error.strerror}")
        return
    if found != sha256:
        message = f"file {path.name} has another sha256: it was changed or damaged after the manifest was written"
        yield document.problem(("files", role, "sha256"), message, f"copy the file again, or write {found}")


def _graph_problems(document: Document, manifest: Manifest, graphs: Mapping[str, Graph]) -> list[Problem]:
    """Misfits of any graph; one that all graphs share is told once."""
    problems: dict[tuple[NodePath, str], Problem] = {}
    for role, graph in graphs.items():
        name = manifest.files[role].path
        for path, message, fix in (*graph_faults(manifest, graph), *_output_faults(manifest, graph)):
            problems.setdefault((path, message), document.problem(path, f"{message} (in {name})", fix))
    return list(problems.values())


def _output_faults(manifest: Manifest, graph: Graph) -> Iterator[Fault]:
    shapes: dict[str, TensorShape] = {name: tensor.shape for name, tensor in graph.outputs.items()}
    layout = layout_of(manifest)
    for index, head in enumerate(manifest.heads):
        unknown = [(key, name) for key, name in tensors_of(head).items() if name not in shapes]
        for key, name in unknown:
            yield ("heads", index, "outputs", key), f"the network has no output {name!r}", suggest(name, shapes)
        if not unknown:
            yield from _head_faults(index, head, shapes, layout, graph)


def _head_faults(
    index: int, head: Head, shapes: Mapping[str, TensorShape], layout: BatchLayout, graph: Graph
) -> Iterator[Fault]:
    for key, name in tensors_of(head).items():
        tensor = graph.outputs[name]
        if layout.per_camera and (not tensor.shape or tensor.shape[0] not in (1, None)):
            fix = "export it with a leading batch dimension of 1"
            yield ("heads", index, "outputs", key), f"output {tensor} has no batch dimension of 1", fix
            return
    for fault in check_head(head, shapes, layout):
        place: NodePath = ("heads", index) if fault.output is None else ("heads", index, "outputs", fault.output)
        yield place, f"head {head.name!r}: {fault.message}", fault.fix


def layout_of(manifest: Manifest) -> BatchLayout:
    """Rows and image size as the graph has them, before cameras are known."""
    _, _, height, width = manifest.images.shape
    return BatchLayout(manifest.rows, height, width, {}, per_camera=manifest.is_per_camera)
