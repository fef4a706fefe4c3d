"""A learned trigger: a small ONNX file that says from the embedding how likely a scene is what somebody looks for.

`open_classifier` reads the file once and checks what it read: its size, its hash, its graph (`classifier_graph`), and
what it answers to a few made-up scenes, which must be probabilities. Nothing of a file whose hash is wrong is parsed.
All of that is done when rules are loaded, away from the tick; `probability` is one bound run, with one thread and
buffers of its own, so two rule sets may be open at once.

A run that fails or gives no probability leaves the signal unknown and is counted in `failures`; the rules that read it
are silent, all others go on.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from runtime.formats.documents import DocumentError, Problem
from runtime.inference.classifier_graph import MAX_BYTES, ClassifierSurface, read_classifier
from runtime.inference.embedding import EmbeddingSpace
from runtime.inference.onnx_session import QUIET, RUN_ERRORS

PROBES = 8
#: A softmax in float32 may miss 0 and 1 by rounding.
TOLERANCE = 1e-4


class Classifier:
    """One opened file. Make one with `open_classifier`."""

    def __init__(self, session: Any, surface: ClassifierSurface, outputs: NDArray[np.float32]) -> None:
        self._session = session
        self._surface = surface
        self._input = np.zeros(surface.input_shape, np.float32)
        self._output = outputs
        self._binding = session.io_binding()
        self._binding.bind_input(surface.input_name, "cpu", 0, np.float32, self._input.shape, self._input.ctypes.data)
        self._binding.bind_output(
            surface.output_name, "cpu", 0, np.float32, self._output.shape, self._output.ctypes.data
        )
        #: Runs that failed or gave no probability.
        self.failures = 0

    def probability(self, vectors: NDArray[np.float32], counts: NDArray[np.bool_]) -> float | None:
        """Of this tick's unit vectors `[rows, D]`, of which `counts` says which to look at; None: unknown."""
        np.copyto(self._input, vectors.reshape(self._input.shape))
        try:
            self._session.run_with_iobinding(self._binding)
        except RUN_ERRORS:
            self.failures += 1
            return None
        found = self._output.reshape(-1)[counts] if self._surface.per_row else self._output.reshape(-1)
        best = float(found.max())
        if not is_probability(best):
            self.failures += 1
            return None
        return min(max(best, 0.0), 1.0)


def open_classifier(path: Path, sha256: str, space: EmbeddingSpace) -> Classifier:
    """The classifier in this file, for embeddings of `space`.

    Raises:
        DocumentError: the file cannot be read, is not the one that was meant, or is no such classifier; with every
            problem: what was found and what is needed.
    """
    data = _read(path, sha256)
    surface, faults = read_classifier(data, space)
    if surface is None:
        raise DocumentError(Problem(str(path), 0, 0, fault.message, None, fault.fix) for fault in faults)
    try:
        session = _session(data)
        outputs = _probe(session, surface, space)
    except RUN_ERRORS as error:
        reason = str(error).splitlines()[0][:300]
        raise _problem(path, f"does not run: {reason}", None, "check it with ONNX Runtime on the CPU") from error
    if not all(is_probability(value) for output in outputs for value in output.reshape(-1).tolist()):
        worst = next(v for o in outputs for v in o.reshape(-1).tolist() if not is_probability(v))
        raise _problem(path, "does not answer a probability, 0 to 1", str(worst), "end it with a sigmoid or softmax")
    expected = space.rows if surface.per_row else 1
    if any(output.size != expected for output in outputs):
        raise _problem(path, f"answers {outputs[0].size} numbers, {expected} are needed", None, "export it again")
    return Classifier(session, surface, np.array(outputs[0]))


def is_probability(value: float) -> bool:
    """Whether `value` is one, but for rounding."""
    return math.isfinite(value) and -TOLERANCE <= value <= 1.0 + TOLERANCE


def _read(path: Path, sha256: str) -> bytes:
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise _problem(path, f"cannot be read: {error.strerror}", None, "correct the path of the classifier") from error
    if len(data) > MAX_BYTES:
        message = f"is larger than the {MAX_BYTES // 1_000_000} MB that a learned trigger may have"
        raise _problem(path, message, None, "train a smaller classifier")
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        message = f"has another sha256 than the rules say: needed {sha256}"
        raise _problem(
            path, message, found, "copy the file again, or load the rules again if it was changed on purpose"
        )
    return data


def _session(data: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.use_deterministic_compute = True
    options.log_severity_level = QUIET
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def _probe(session: Any, surface: ClassifierSurface, space: EmbeddingSpace) -> list[NDArray[np.float32]]:
    """Answers to no scene at all, and to fixed made-up ones."""
    generator = np.random.default_rng(0)
    answers = []
    for probe in range(PROBES):
        rows = generator.standard_normal((space.rows, space.dimension)) * (probe > 0)
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1.0)
        feed = {surface.input_name: rows.reshape(surface.input_shape).astype(np.float32)}
        answers.append(session.run([surface.output_name], feed)[0])
    return answers


def _problem(path: Path, message: str, value: object, fix: str) -> DocumentError:
    return DocumentError([Problem(str(path), 0, 0, message, value, fix)])
