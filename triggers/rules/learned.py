"""What is learned and called by name: fleet queries (embeddings of scenes) and learned triggers (small networks).

A query file is JSON:

    {"embedding": [0.12, ...], "model": "hydra_mini", "model_sha256": "…", "camera": "front_main", "source": "…"}

`camera` (compare this camera only; else the nearest of all), `model_sha256` and `source` may be missing. Files are
named relative to the rule file and must stand beside or below it, so that a rule file that came from elsewhere
cannot make the vehicle read anything but what came with it. A classifier is hashed here and loaded where it runs.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from runtime.formats.documents import Document, DocumentError, load_document, validate
from triggers.rules.format import MAX_VECTOR, Component, QuerySection

MAX_CLASSIFIER_BYTES = 16 * 1000 * 1000  # what the tick loads at most
_CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class EmbeddingQuery:
    """A scene to look for, as the embedding that a model gave it."""

    name: str
    vector: tuple[float, ...]
    model: str
    camera: str | None  # None: whichever camera is nearest


@dataclass(frozen=True, slots=True)
class ClassifierFile:
    """A learned trigger: a small ONNX from embedding to probability."""

    name: str
    path: Path
    sha256: str


class QueryFile(BaseModel):
    """A query file as it is written."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    embedding: tuple[Component, ...] = Field(min_length=1, max_length=MAX_VECTOR)
    model: str = Field(min_length=1, max_length=64)
    model_sha256: str | None = Field(default=None, max_length=64)
    camera: str | None = Field(default=None, min_length=1, max_length=64)
    source: str = Field(default="", max_length=1000)


def read_query(document: Document, name: str, section: QuerySection) -> EmbeddingQuery:
    """The query that `section` of a rule file describes. Raises DocumentError."""
    where: tuple[str, ...] = ("queries", name)
    if section.vector is not None:
        query = EmbeddingQuery(name, section.vector, section.model or "", section.camera)
    else:
        path = _beside(document, (*where, "file"), section.file or "")
        if not path.is_file():
            fix = "put the file beside the rule file, or make it with `shadowrig triggers query`"
            raise DocumentError([document.problem((*where, "file"), "there is no such file", fix)])
        file = validate(load_document(path), QueryFile)
        query = EmbeddingQuery(name, file.embedding, file.model, file.camera)
    length = math.hypot(*query.vector)
    if length < 1e-12:
        fix = "take it from a clip again: it has no direction to compare"
        raise DocumentError([document.problem(where, f"the vector has the length {length:g}", fix)])
    return query


def read_classifier(document: Document, name: str, file: str) -> ClassifierFile:
    """The learned trigger in `file`. Raises DocumentError when it is missing, empty or too large."""
    where = ("classifiers", name, "file")
    path = _beside(document, where, file)
    digest, size_bytes = hashlib.sha256(), 0
    try:
        with path.open("rb") as stream:
            while size_bytes <= MAX_CLASSIFIER_BYTES and (chunk := stream.read(_CHUNK_BYTES)):
                digest.update(chunk)
                size_bytes += len(chunk)
    except OSError as error:
        problem = document.problem(where, f"cannot be read: {error.strerror}", "put the file beside the rule file")
        raise DocumentError([problem]) from error
    if not 0 < size_bytes <= MAX_CLASSIFIER_BYTES:
        limit_mb = MAX_CLASSIFIER_BYTES // 1000**2
        raise DocumentError(
            [document.problem(where, "is empty or too large", f"give an ONNX of at most {limit_mb} MB")]
        )
    return ClassifierFile(name, path, digest.hexdigest())


def _beside(document: Document, where: tuple[str, ...], file: str) -> Path:
    folder = document.path.resolve().parent
    path = (folder / file.replace("\0", "/../")).resolve()
    if "\0" in file or not path.is_relative_to(folder):
        fix = "name a file beside or below the rule file"
        raise DocumentError([document.problem(where, "is outside of the rule file's folder", fix)])
    return path
