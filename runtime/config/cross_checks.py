"""What one section of a rig configuration says against another.

These checks read the raw document and not the validated model, so that they also find their mistakes in a file
that has others: everything is told at once. Hence each looks only at what has the right shape; what has not is
reported by validation.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from runtime.config.quantities import parse_duration_s
from runtime.formats.documents import Document, DocumentError, Problem, load_document, suggest
from runtime.messages import CUT_MARGIN_S

#: The batch of the network and the batch ring are sized for this many at most.
MAX_CAMERAS = 16


def contradictions(document: Document) -> Iterator[Problem]:
    """Every problem that needs more than one value to see."""
    if not isinstance(document.data, Mapping):
        return
    yield from _nothing_to_watch(document)
    yield from _camera_count(document)
    yield from _cameras_of_the_drive(document)
    yield from _reference_camera(document)
    yield from _repeated_camera_sources(document)
    yield from _repeated_signal_sources(document)
    yield from _signals_from_two_sources(document)
    yield from _second_without_first(document)
    yield from _prepared_on_no_device(document)
    yield from _retries(document)
    yield from _clip_longer_than_history(document)
    yield from _blurred_cameras(document)


def _mapping(document: Document, *path: str | int) -> Mapping[str, Any]:
    value = document.at(path)
    return value if isinstance(value, Mapping) else {}


def _list(document: Document, *path: str | int) -> list[Any]:
    value = document.at(path)
    return value if isinstance(value, list) else []


def _nothing_to_watch(document: Document) -> Iterator[Problem]:
    sources = document.at(("signals", "sources"))
    if not (document.at(("drive",)) or document.at(("cameras",)) or sources):
        fix = "add 'cameras:', 'signals: {sources: …}' or 'drive: <folder>'"
        yield document.problem(
            (), "there is nothing to watch: no cameras, no signal sources, no drive", fix, at_key=True
        )


def _camera_count(document: Document) -> Iterator[Problem]:
    names = list(_mapping(document, "cameras"))
    total = len(names) + len(_drive_camera_names(document))
    if total > MAX_CAMERAS:
        message = f"{total} cameras are more than the {MAX_CAMERAS} that fit into one batch"
        yield document.problem(("cameras",), message, "remove some, or run a second daemon", at_key=True)


def _cameras_of_the_drive(document: Document) -> Iterator[Problem]:
    for name in sorted(set(_mapping(document, "cameras")) & _drive_camera_names(document)):
        message = f"camera {name!r} is also a camera of the drive"
        yield document.problem(("cameras", name), message, "rename it, or remove 'drive'", at_key=True)


def _drive_camera_names(document: Document) -> set[str]:
    """The cameras of `drive`, as far as they can be read here; whoever opens the drive reports what is wrong in it."""
    drive = document.at(("drive",))
    if not isinstance(drive, str):
        return set()
    path = document.path.absolute().parent / Path(drive)
    try:
        described = load_document(path / "drive.yaml" if path.is_dir() else path) if path.suffix != ".mcap" else None
    except DocumentError:
        return set()
    return set(_mapping(described, "cameras")) if described is not None else set()


def _reference_camera(document: Document) -> Iterator[Problem]:
    path = ("tick", "reference_camera")
    reference = document.at(path)
    known = set(_mapping(document, "cameras")) | _drive_camera_names(document)
    is_mcap_drive = str(document.at(("drive",)) or "").endswith(".mcap")
    if isinstance(reference, str) and reference not in known and not is_mcap_drive:
        yield document.problem(path, "the reference camera is not one of the cameras", suggest(reference, known))


def _repeated_camera_sources(document: Document) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    for name, camera in _mapping(document, "cameras").items():
        source = camera.get("source") if isinstance(camera, Mapping) else None
        if not isinstance(source, Mapping):
            continue
        identity = dict(source)
        if identity.get("kind") == "drive" or (identity.get("kind") == "zeromq" and identity.get("bind") is not True):
            identity.setdefault("camera", name)  # one address carries many cameras, told apart by their topics
        key = json.dumps(identity, sort_keys=True)
        if key in seen:
            message = f"camera {name!r} has the same source as {seen[key]!r}"
            yield document.problem(("cameras", name, "source"), message, "give each camera its own source", at_key=True)
        seen.setdefault(key, name)


def _repeated_signal_sources(document: Document) -> Iterator[Problem]:
    seen: dict[tuple[object, ...], int] = {}
    for index, source in enumerate(_list(document, "signals", "sources")):
        if not isinstance(source, Mapping):
            continue
        parts = ("kind", "path", "address", "interface", "channel")
        key = tuple(str(source.get(part)) for part in parts)
        if key in seen:
            message = f"signal source {index + 1} repeats source {seen[key] + 1}"
            yield document.problem(("signals", "sources", index), message, "remove one, or merge them", at_key=True)
        seen.setdefault(key, index)
    drive = document.at(("drive",))
    for index, source in enumerate(_list(document, "signals", "sources")):
        if isinstance(source, Mapping) and drive is not None and source.get("path") == drive:
            message = "the signals of 'drive' are a source already"
            yield document.problem(("signals", "sources", index), message, "remove this source", at_key=True)


def _signals_from_two_sources(document: Document) -> Iterator[Problem]:
    provided: dict[str, int] = {}
    for index in range(len(_list(document, "signals", "sources"))):
        for name in _mapping(document, "signals", "sources", index, "signals"):
            if name in provided:
                message = f"signal {name!r} comes from source {provided[name] + 1} already"
                path = ("signals", "sources", index, "signals", name)
                yield document.problem(path, message, "keep one: which one is right cannot be known", at_key=True)
            provided.setdefault(name, index)


def _second_without_first(document: Document) -> Iterator[Problem]:
    if document.at(("second_model",)) is not None and document.at(("model",)) is None:
        fix = "call it 'model', or add the 'model' that it is to be compared with"
        yield document.problem(("second_model",), "there is a second model but no first one", fix, at_key=True)


def _prepared_on_no_device(document: Document) -> Iterator[Problem]:
    if document.at(("model", "preprocess")) == "device" and document.at(("model", "backend")) == "onnx":
        message = "backend onnx runs on the CPU and cannot prepare images on a device"
        yield document.problem(("model", "preprocess"), message, "write 'preprocess: auto', or 'backend: tensorrt'")
    if document.at(("second_model", "preprocess")) == "device":
        message = "only the first network prepares images; a second one is given its images"
        yield document.problem(("second_model", "preprocess"), message, "remove it")


def _retries(document: Document) -> Iterator[Problem]:
    uplink = _mapping(document, "uplink")
    shortest, longest = (
        _amount(uplink.get(key, default)) for key, default in (("retry_min_s", 1), ("retry_max_s", 20))
    )
    if shortest is not None and longest is not None and shortest > longest:
        message = f"the shortest retry ({shortest:g} s) is longer than the longest ({longest:g} s)"
        yield document.problem(("uplink", "retry_min_s"), message, "swap them")


def _clip_longer_than_history(document: Document) -> Iterator[Problem]:
    path = ("recorder", "max_clip_s")
    clip_s = _amount(document.at(path))
    history_s = _amount(_mapping(document, "history").get("seconds", 60))
    if clip_s is not None and history_s is not None and clip_s > history_s - CUT_MARGIN_S:
        message = f"a clip of {clip_s:g} s cannot be cut whole from a history of {history_s:g} s: it takes "
        message += f"{CUT_MARGIN_S:g} s more"
        yield document.problem(path, message, "raise history.seconds or lower recorder.max_clip_s")


def _blurred_cameras(document: Document) -> Iterator[Problem]:
    """A name that is wrong here would leave a camera unblurred."""
    known = set(_mapping(document, "cameras")) | _drive_camera_names(document)
    if str(document.at(("drive",)) or "").endswith(".mcap"):
        return  # its cameras are known once it is opened
    for index, name in enumerate(_list(document, "privacy", "blur", "cameras")):
        if isinstance(name, str) and name not in known:
            message = "the camera to blur is not one of the cameras"
            yield document.problem(("privacy", "blur", "cameras", index), message, suggest(name, known))


def _amount(value: object) -> float | None:
    try:
        return parse_duration_s(value)
    except ValueError:
        return None  # validation reports the value itself
