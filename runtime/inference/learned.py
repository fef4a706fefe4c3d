"""What the network's embedding says to rules: fleet queries, learned triggers and novelty.

Each tick gives, from the rows of the embedding whose camera delivered a new image:

    embedding.<query>     cosine distance 0..2 to the query's vector; the smallest over the cameras, or its one camera's
    classifier.<name>     the probability that a learned trigger gives the scene, 0..1
    heads.novelty         see `novelty`

A signal that cannot be told is left out, which means unknown: no new image, another model than the query's, a
classifier that failed. What can *never* be told on this vehicle is listed in `lacking`, with the reason.

`LearnedTriggers` is of one rule set and is built whole (files read, checked, sessions warm, arrays allocated) wherever
it is built; the tick only reads it. `LearnedStage` is of one run and outlives rule sets: a new campaign is taken over
by assigning `stage.triggers`, which is one reference, so a tick sees the old one or the new one, whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from runtime.formats.documents import DocumentError, Problem
from runtime.inference.classifier import Classifier, open_classifier
from runtime.inference.embedding import EmbeddingReader, EmbeddingSpace
from runtime.inference.novelty import NoveltyMemory, NoveltySettings
from runtime.messages import Prediction, SignalValue

NOVELTY = "heads.novelty"
#: Digits of a recorded distance or probability: float32 knows no more.
DIGITS = 6


class Query(Protocol):
    """A vector to look for."""

    @property
    def vector(self) -> Sequence[float]:
        """What the network said of the scene that was asked about."""

    @property
    def model(self) -> str:
        """Which network said it."""

    @property
    def camera(self) -> str | None:
        """The one camera to look at; None: all."""


class ClassifierSource(Protocol):
    """A learned trigger's file."""

    @property
    def path(self) -> Path:
        """Where it is."""

    @property
    def sha256(self) -> str:
        """What it must hash to."""


class LearnedRules(Protocol):
    """What a rule set says of learned triggers, by name."""

    @property
    def queries(self) -> Mapping[str, Query]:
        """Fleet queries."""

    @property
    def classifiers(self) -> Mapping[str, ClassifierSource]:
        """Classifiers."""


@dataclass(slots=True)
class LearnedTriggers:
    """The queries and classifiers of one rule set, ready to run. Make one with `open`."""

    names: tuple[str, ...] = ()  # signals of the queries, in the order of the columns of `vectors`
    vectors: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))  # [D, Q]
    looks_at: NDArray[np.bool_] = field(default_factory=lambda: np.zeros((0, 0), np.bool_))  # [rows, Q]
    classifiers: Mapping[str, Classifier] = field(default_factory=dict)  # by signal
    #: Signals that are never known on this vehicle, and why.
    lacking: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def open(rules: LearnedRules, space: EmbeddingSpace | None) -> LearnedTriggers:
        """Read and check everything; `space` is the running network's embedding, None when it has none.

        Raises:
            DocumentError: with every problem of every query and classifier.
        """
        lacking = _lacking(rules, space)
        if space is None:
            return LearnedTriggers(lacking=lacking)
        queries = {name: query for name, query in rules.queries.items() if _query_signal(name) not in lacking}
        problems = [problem for name, query in queries.items() for problem in _query_problems(name, query, space)]
        classifiers: dict[str, Classifier] = {}
        for name, source in rules.classifiers.items():
            try:
                classifiers[f"classifier.{name}"] = open_classifier(source.path, source.sha256, space)
            except DocumentError as error:
                problems += error.problems
        if problems:
            raise DocumentError(problems)
        vectors = np.zeros((space.dimension, len(queries)), np.float32)
        looks_at = np.ones((space.rows, len(queries)), np.bool_)
        for column, query in enumerate(queries.values()):
            vector = np.asarray(query.vector, np.float64)
            vectors[:, column] = vector / np.linalg.norm(vector)
            if query.camera is not None:
                looks_at[:, column] = np.arange(space.rows) == space.row_of_camera[query.camera]
        return LearnedTriggers(tuple(map(_query_signal, queries)), vectors, looks_at, classifiers, lacking)

    def values(self, vectors: NDArray[np.float32], counts: NDArray[np.bool_]) -> dict[str, SignalValue]:
        """The signals of one tick from its unit vectors `[rows, D]`, of which `counts` says which to look at."""
        values: dict[str, SignalValue] = {}
        if self.names:
            distance = np.where(self.looks_at & counts[:, None], 1.0 - vectors @ self.vectors, np.inf).min(axis=0)
            for name, found in zip(self.names, distance.tolist(), strict=True):
                if found <= 3.0:  # not the infinity of a query whose camera has no new image
                    values[name] = round(min(max(found, 0.0), 2.0), DIGITS)
        for name, classifier in self.classifiers.items():
            probability = classifier.probability(vectors, counts)
            if probability is not None:
                values[name] = round(probability, DIGITS)
        return values

    def failures(self) -> dict[str, int]:
        """Runs that gave no probability, by classifier signal."""
        return {name: classifier.failures for name, classifier in self.classifiers.items()}


class LearnedStage:
    """The embedding's part of every tick of one run."""

    def __init__(
        self, space: EmbeddingSpace | None, triggers: LearnedTriggers, novelty: NoveltySettings | None = None
    ) -> None:
        self.space = space
        #: Assign another one to take over another rule set, at any moment.
        self.triggers = triggers
        self._reader = None if space is None else EmbeddingReader(space)
        self._novelty = None if space is None else NoveltyMemory(space.rows, space.dimension, novelty)

    def values(
        self, prediction: Prediction | None, fresh: NDArray[np.bool_], time_ns: int
    ) -> Mapping[str, SignalValue]:
        """The signals of one tick; `fresh` says which cameras delivered a new image for it."""
        reader, memory, triggers = self._reader, self._novelty, self.triggers
        if reader is None or memory is None or not reader.read(prediction, fresh):
            return {}
        values = triggers.values(reader.vectors, reader.counts)
        novelty = memory.observe(reader.vectors, reader.counts, time_ns)
        if novelty is not None:
            values[NOVELTY] = round(novelty, DIGITS)
        return values

    def status(self) -> dict[str, Mapping[str, str] | Mapping[str, int]]:
        """For people: signals that are never known here and why, and classifiers that failed, how often."""
        triggers = self.triggers
        return {"lacking": dict(triggers.lacking), "failures": triggers.failures()}


def _query_signal(name: str) -> str:
    return f"embedding.{name}"


def _lacking(rules: LearnedRules, space: EmbeddingSpace | None) -> dict[str, str]:
    if space is None:
        names = [*map(_query_signal, rules.queries), *(f"classifier.{name}" for name in rules.classifiers)]
        return dict.fromkeys(names, "no network with an embedding runs")
    reasons: dict[str, str] = {}
    for name, query in rules.queries.items():
        if query.model != space.model:
            reasons[_query_signal(name)] = f"the query is of model {query.model!r}, {space.model!r} runs"
        elif query.camera is not None and query.camera not in space.row_of_camera:
            reasons[_query_signal(name)] = f"the rig has no camera {query.camera!r}"
    return reasons


def _query_problems(name: str, query: Query, space: EmbeddingSpace) -> list[Problem]:
    place = f"query {name}"
    if len(query.vector) != space.dimension:
        message = f"has {len(query.vector)} numbers, an embedding of model {space.model} has {space.dimension}"
        return [Problem(place, 0, 0, message, None, "make it again with 'shadowrig triggers query'")]
    length = float(np.linalg.norm(np.asarray(query.vector, np.float64)))
    if not (np.isfinite(length) and length > 0.0):
        return [Problem(place, 0, 0, "is not a direction: its length is not a positive number", str(length), "")]
    return []
