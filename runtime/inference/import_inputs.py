"""Guesses what a foreign network's inputs are, as they stand in `model.yaml`; what a person says is taken instead.

Inputs of the shape `[batch, 3, height, width]` are images. Another input is a state when exactly one output has its
shape, its type and its name but for words like `in`, `next` or `past`; a matrix of the rig when its shape and name say
so; a signal when it is called like one. What stays unknown is a fault that names the option to say it with.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from runtime.formats.documents import suggest
from runtime.formats.image_spec import MAX_SIDE_PX
from runtime.formats.signal_names import CANONICAL_SIGNALS
from runtime.inference.graph import Graph, TensorSpec
from runtime.inference.heads.decoder import fits
from runtime.inference.inputs import MATRIX_SIZES, STATE_TYPES

InputDraft = dict[str, object]
#: What is wrong, and what to do about it.
ImportFault = tuple[str, str]

#: Words that tell a state's two ends apart and are no part of its name.
_DIRECTIONS = frozenset(
    ("in", "out", "i", "o", "input", "output", "next", "new", "present", "prev", "previous", "last", "past", "old")
)
_MATRIX_WORDS = {"intrin": "intrinsics", "extrin": "extrinsics", "project": "projection", "lidar2img": "projection"}


@dataclass(frozen=True, slots=True)
class ImageConvention:
    """How networks of one kind take their images, and who says so."""

    color: str
    resize: str
    scale: float
    because: str


@dataclass(frozen=True, slots=True)
class InputHints:
    """What a person says of inputs, by name: their signal, the output behind a state, what a matrix is."""

    signals: Mapping[str, str] = field(default_factory=dict)
    states: Mapping[str, str] = field(default_factory=dict)
    calibrations: Mapping[str, str] = field(default_factory=dict)

    def named(self) -> list[str]:
        """Every input that something is said of."""
        return [*self.signals, *self.states, *self.calibrations]


def draft_inputs(
    graph: Graph, hints: InputHints, convention: ImageConvention
) -> tuple[list[InputDraft], list[ImportFault]]:
    """Inputs in the graph's order, and everything that is wrong or not known."""
    faults = list(_hint_faults(graph, hints))
    images = [tensor for tensor in graph.inputs.values() if tensor.name not in hints.named() and _is_image(tensor)]
    drafts: list[InputDraft] = []
    for tensor in graph.inputs.values():
        if tensor in images:
            drafts.append(_image(tensor, convention))
            continue
        draft = _other(tensor, graph, hints)
        if draft is not None:
            drafts.append(draft)
        elif images:
            fix = f"say --signal {tensor.name}=SIGNAL, --state {tensor.name}=OUTPUT or --calibration {tensor.name}=WHAT"
            faults.append((f"it is not known what input {tensor} takes", fix))
    faults += [fault for tensor in images for fault in _image_faults(tensor)]
    if not images:
        listed = ", ".join(str(tensor) for tensor in graph.inputs.values()) or "none"
        faults.append((f"no input is [batch, 3, height, width]; its inputs are {listed}", "export with NCHW images"))
    _pair_with_images(drafts)
    return drafts, faults


def without_states(graph: Graph, drafts: Sequence[InputDraft]) -> Graph:
    """The graph without the outputs that feed states: they are no heads."""
    fed = {draft["output"] for draft in drafts if draft["kind"] == "state"}
    return replace(graph, outputs={name: tensor for name, tensor in graph.outputs.items() if name not in fed})


def _is_image(tensor: TensorSpec) -> bool:
    return len(tensor.shape) == 4 and tensor.shape[1] == 3 and tensor.shape[2:] not in ((3, 3), (4, 4), (3, 4))


def _image(tensor: TensorSpec, convention: ImageConvention) -> InputDraft:
    draft: InputDraft = {
        "name": tensor.name,
        "kind": "images",
        "shape": [tensor.shape[0] or 1, *tensor.shape[1:]],
        "dtype": tensor.dtype,
        "color": convention.color,
        "resize": convention.resize,
        "pad_value": 114,
    }
    return {**draft, "scale": convention.scale} if tensor.dtype == "float32" else draft


def _image_faults(tensor: TensorSpec) -> list[ImportFault]:
    faults = []
    sides = tensor.shape[2:]
    if any(side is None for side in sides):
        faults.append((f"input {tensor} must be [batch, 3, height, width]", "export with a fixed image size"))
    elif any(side is not None and side > MAX_SIDE_PX for side in sides):
        faults.append((f"input {tensor} is larger than {MAX_SIDE_PX} pixels a side", "export a smaller one"))
    if tensor.dtype not in ("uint8", "float32"):
        faults.append((f"input {tensor} must be uint8 or float32", "export with float32 inputs"))
    return faults


def _other(tensor: TensorSpec, graph: Graph, hints: InputHints) -> InputDraft | None:
    """The draft of an input that is no image; None when nothing is known of it."""
    shape = [size or 1 for size in tensor.shape]
    what = hints.calibrations.get(tensor.name) or _guessed_matrix(tensor, hints)
    if what is not None:
        return {"name": tensor.name, "kind": "calibration", "what": what, "shape": shape}
    output = hints.states.get(tensor.name) or _guessed_state(tensor, graph, hints)
    if output is not None:
        return {"name": tensor.name, "kind": "state", "output": output, "shape": shape, "dtype": tensor.dtype}
    signal = hints.signals.get(tensor.name) or _guessed_signal(tensor)
    return None if signal is None else {"name": tensor.name, "kind": "signal", "signal": signal, "shape": shape}


def _guessed_matrix(tensor: TensorSpec, hints: InputHints) -> str | None:
    if tensor.name in hints.named():
        return None
    for word, what in _MATRIX_WORDS.items():
        if word in tensor.name.lower() and tensor.shape[-2:] in MATRIX_SIZES[what]:
            return what
    return None


def _guessed_state(tensor: TensorSpec, graph: Graph, hints: InputHints) -> str | None:
    if tensor.name in hints.named() or tensor.dtype not in STATE_TYPES:
        return None
    alike = [
        output.name
        for output in graph.outputs.values()
        if output.dtype == tensor.dtype
        and fits(output.shape, tensor.shape)
        and _stem(output.name) == _stem(tensor.name)
        and output.name not in hints.states.values()
    ]
    return alike[0] if len(alike) == 1 else None


def _guessed_signal(tensor: TensorSpec) -> str | None:
    if tensor.dtype != "float32":
        return None
    return next((name for name in CANONICAL_SIGNALS if tensor.name in (name, name.partition(".")[2])), None)


def _stem(name: str) -> tuple[str, ...]:
    """`past_key.1` and `present_key.1` have the stem key, 1."""
    words = re.findall("[a-z]+|[0-9]+", name.lower())
    return tuple(word for word in words if word not in _DIRECTIONS) or tuple(words)


def _pair_with_images(drafts: Sequence[InputDraft]) -> None:
    """Where each camera has an input of its own, as many matrices of a kind are theirs, in order."""
    images = [draft for draft in drafts if draft["kind"] == "images"]
    for what in MATRIX_SIZES:
        matrices = [draft for draft in drafts if draft.get("what") == what]
        if len(images) > 1 and len(matrices) == len(images):
            for matrix, image in zip(matrices, images, strict=True):
                matrix["of"] = image["name"]


def _hint_faults(graph: Graph, hints: InputHints) -> list[ImportFault]:
    faults = []
    for name in hints.named():
        if name not in graph.inputs:
            faults.append((f"the network has no input {name!r}", suggest(name, graph.inputs)))
    for name, output in hints.states.items():
        if output not in graph.outputs:
            faults.append((f"the network has no output {output!r} to feed {name!r}", suggest(output, graph.outputs)))
    for name, what in hints.calibrations.items():
        if what not in MATRIX_SIZES:
            faults.append((f"{what!r} is no calibration for input {name!r}", suggest(what, MATRIX_SIZES)))
    return faults
