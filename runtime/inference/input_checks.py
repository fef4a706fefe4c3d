"""How the inputs of a `model.yaml` fit one another, and how they fit a graph: every misfit at once, with its place.

What a row of the batch, the camera of an input and the output behind a state must be is said here; `inputs` has said
what each of them may be by itself.
"""

from __future__ import annotations

from collections.abc import Iterator

from runtime.formats.documents import NodePath, suggest
from runtime.inference.graph import Graph, TensorSpec
from runtime.inference.heads.decoder import describe, fits
from runtime.inference.inputs import STATE_TYPES
from runtime.inference.manifest import CalibrationInput, ImagesInput, Input, Manifest, StateInput

#: Place in the document, what is wrong, and what to do about it.
Fault = tuple[NodePath, str, str]

#: What every images input of a network has in common with the first, because capture prepares each image once.
_SHARED = ("shape", "dtype", "color", "resize", "pad_value", "scale", "mean", "std")


def manifest_faults(manifest: Manifest) -> Iterator[Fault]:
    """Misfits among the inputs that can be seen without a graph."""
    first = manifest.images
    cameras: set[str] = set()
    outputs: set[str] = set()
    for index, entry in enumerate(manifest.inputs):
        place: NodePath = ("inputs", index)
        if isinstance(entry, ImagesInput):
            yield from _image_faults(place, entry, first)
            yield from _camera_faults(place, entry, manifest, cameras)
        elif isinstance(entry, CalibrationInput):
            yield from _calibration_faults(place, entry, manifest)
        elif isinstance(entry, StateInput):
            if entry.output in outputs:
                message = f"output {entry.output!r} feeds an earlier state already"
                yield (*place, "output"), message, "name the output of this state"
            outputs.add(entry.output)


def _image_faults(place: NodePath, entry: ImagesInput, first: ImagesInput) -> Iterator[Fault]:
    for field in _SHARED:
        expected, found = getattr(first, field), getattr(entry, field)
        if found != expected:
            message = f"{field} of input {entry.name!r} is {found}, that of {first.name!r} is {expected}"
            at = (*place, field) if field in entry.model_fields_set else place
            yield at, message, "all images inputs take the same kind of image: export them alike"


def _camera_faults(place: NodePath, entry: ImagesInput, manifest: Manifest, cameras: set[str]) -> Iterator[Fault]:
    if entry.camera is None:
        return
    at = (*place, "camera")
    if not manifest.has_separate_images:
        yield at, f"input {entry.name!r} takes every camera", "name them, in the order of rows, in 'cameras'"
    elif manifest.cameras:
        yield at, "cameras are named twice: here and in 'cameras'", "remove 'cameras'"
    if entry.camera in cameras:
        yield at, f"camera {entry.camera!r} has an input already", "name another"
    cameras.add(entry.camera)


def _calibration_faults(place: NodePath, entry: CalibrationInput, manifest: Manifest) -> Iterator[Fault]:
    images = [image.name for image in manifest.image_inputs]
    if entry.of is not None and entry.of not in images:
        yield (*place, "of"), f"{entry.of!r} is no images input", suggest(entry.of, images)
    expected = 1 if entry.of is not None or manifest.is_per_camera else manifest.rows
    if entry.rows != expected:
        size = "x".join(map(str, entry.matrix))
        why = "one camera" if expected == 1 else f"{expected} cameras"
        message = f"input {entry.name!r} holds {entry.rows} matrices, for {why}"
        yield (*place, "shape"), message, f"write a shape of {expected} times {size}, or 'of' for one images input"


def graph_faults(manifest: Manifest, graph: Graph) -> Iterator[Fault]:
    """Misfits of the inputs, and of the outputs that feed states, to a graph."""
    for index, declared in enumerate(manifest.inputs):
        place: NodePath = ("inputs", index)
        tensor = graph.inputs.get(declared.name)
        if tensor is None:
            fix = suggest(declared.name, graph.inputs)
            yield (*place, "name"), f"the network has no input {declared.name!r}", fix
        else:
            yield from _input_misfit(place, declared, tensor)
        if isinstance(declared, StateInput):
            yield from _state_faults(place, declared, graph)
    declared_names = {entry.name for entry in manifest.inputs}
    for name, tensor in graph.inputs.items():
        if name not in declared_names:
            yield ("inputs",), f"the network also takes {tensor}", "declare it as a signal, calibration or state"


def _input_misfit(place: NodePath, declared: Input, tensor: TensorSpec) -> Iterator[Fault]:
    if not fits(tensor.shape, declared.shape):
        fix = f"write {describe(tensor.shape)}"
        yield (*place, "shape"), f"input {declared.name!r} of the network has shape {describe(tensor.shape)}", fix
    if tensor.dtype != declared.dtype:
        takes = _types_of(declared)
        fix = f"write dtype: {tensor.dtype}" if tensor.dtype in takes else f"export it as {' or '.join(takes)}"
        at = (*place, "dtype") if "dtype" in declared.model_fields_set else place
        yield at, f"input {declared.name!r} of the network is {tensor.dtype}", fix


def _types_of(declared: Input) -> tuple[str, ...]:
    if isinstance(declared, ImagesInput):
        return ("uint8", "float32")
    return STATE_TYPES if isinstance(declared, StateInput) else ("float32",)


def _state_faults(place: NodePath, declared: StateInput, graph: Graph) -> Iterator[Fault]:
    at = (*place, "output")
    tensor = graph.outputs.get(declared.output)
    if tensor is None:
        yield at, f"the network has no output {declared.output!r}", suggest(declared.output, graph.outputs)
        return
    if not fits(tensor.shape, declared.shape) or tensor.dtype != declared.dtype:
        message = f"output {tensor} cannot feed state {declared.name!r}, {declared.dtype}{describe(declared.shape)}"
        yield at, message, "export the state's input and output with one shape and type"
