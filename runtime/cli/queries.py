"""`shadowrig triggers query` and `similar`: ask for "more like this" and look where there is some already."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.cli.common import CommandError, Subcommands, add_command, add_json_option, write_json
from runtime.formats.documents import suggest
from runtime.messages import NANOSECONDS_PER_SECOND

if TYPE_CHECKING:
    from runtime.drives import Drive
    from runtime.formats.mcap_files import McapTopicReader
    from runtime.recorded_embeddings import Scene
    from runtime.recording.provenance import ModelProvenance

#: A recorded embedding may be this far from the moment that was asked for.
NEAR_S = 0.5
DIGITS = 6
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})


def add(group: Subcommands) -> None:
    """Register both commands below `triggers`."""
    query = add_command(
        group, "query", "Make a query file of a scene: rules then find more like it.",
        "shadowrig triggers query clips/0001.mcap --firing 0 --camera front_main --out more_like_this.json", run_query,
    )  # fmt: skip
    query.add_argument("source", type=Path, help="a clip, a recorded drive, or an image file")
    moment = query.add_mutually_exclusive_group()
    moment.add_argument("--at", type=float, default=None, metavar="SECONDS", help="seconds after the start")
    moment.add_argument("--firing", type=int, default=None, metavar="N", help="the clip's firing number N, from 0")
    query.add_argument("--camera", default=None, metavar="NAME", help="whose view; may be left out where there is one")
    query.add_argument("--any-camera", action="store_true", help="look for it in all cameras, not in that one only")
    query.add_argument("--out", type=Path, required=True, metavar="JSON", help="the query file to write")
    query.add_argument("--name", default=None, help="what rules call it (default: the file's name)")
    query.add_argument("--model", default="hydra_mini", help="network for pictures without recorded predictions")
    similar = add_command(
        group, "similar", "Rank the seconds of recordings by their distance to a query.",
        "shadowrig triggers similar more_like_this.json clips/0001.mcap clips/0002.mcap", run_similar,
    )  # fmt: skip
    similar.add_argument("query", type=Path, help="a query file")
    similar.add_argument("sources", nargs="+", type=Path, help="clips with recorded predictions")
    similar.add_argument("--top", type=int, default=20, help="how many seconds to list (default 20)")
    add_json_option(similar, "the list")


def run_query(options: argparse.Namespace) -> int:
    """Write the query file and show how a rule reads it."""
    from runtime.composition import CompositionError
    from runtime.formats.mcap_files import McapFileError
    from runtime.recording.manifest import ManifestError
    from runtime.scenes import SceneError

    if not options.source.exists():
        raise CommandError(f"{options.source} does not exist: name a clip, a drive or an image file")
    try:
        scene, model, moment = _scene(options)
    except (SceneError, CompositionError, McapFileError, ManifestError) as error:
        raise CommandError(str(error)) from error
    is_nameless = _is_image(options.source) and options.camera is None
    facts = {
        "embedding": [round(value, DIGITS) for value in scene.vector.tolist()],
        "model": model.name,
        "model_sha256": model.sha256,
        **({} if options.any_camera or is_nameless else {"camera": scene.camera}),
        "source": f"{options.source.name}{'' if is_nameless else f', {scene.camera}'}{moment}",
    }
    write_json(options.out, facts)
    name = options.name or options.out.stem
    print(f"{options.out}: {len(facts['embedding'])} numbers of {model.name}, {facts['source']}")
    print("A rule beside it finds more like this (0: the same, 1: unrelated, 2: opposite):")
    print(f"  queries: {{{name}: {{file: {options.out.name}}}}}")
    print(f'  rules: [{{name: more_{name}, description: …, when: embedding_distance("{name}") < 0.1}}]')
    return 0


def _scene(options: argparse.Namespace) -> tuple[Scene, ModelProvenance, str]:
    from runtime.composition import find_bundle
    from runtime.drives import open_drive
    from runtime.formats.mcap_files import McapTopicReader
    from runtime.recorded_embeddings import recorded_model
    from runtime.scenes import embed, picture_of_drive, picture_of_file

    source: Path = options.source
    if _is_image(source):
        if options.at is not None or options.firing is not None:
            raise CommandError(f"{source} is one picture: leave out --at and --firing")
        return *embed(find_bundle(options.model), options.camera or "camera", picture_of_file(source)), ""
    drive = open_drive(source)
    camera = _camera(options.camera, tuple(drive.cameras), source)
    if drive.path.suffix == ".mcap":
        with McapTopicReader(drive.path) as reader:
            time_ns = _time_ns(options, drive, reader)
            model = recorded_model(reader)
            if model is not None:
                return _recorded(reader, camera, time_ns), model, _moment(time_ns, drive)
    else:
        time_ns = _time_ns(options, drive, None)
    scene, model = embed(find_bundle(options.model), camera, picture_of_drive(drive, camera, time_ns))
    return scene, model, _moment(time_ns, drive)


def _is_image(source: Path) -> bool:
    return source.suffix.lower() in IMAGE_SUFFIXES


def _camera(asked: str | None, cameras: Sequence[str], source: Path) -> str:
    if not cameras:
        raise CommandError(f"{source} has no camera")
    if asked is None and len(cameras) > 1:
        raise CommandError(f"{source} has {len(cameras)} cameras: choose with --camera ({', '.join(cameras)})")
    if asked is not None and asked not in cameras:
        raise CommandError(f"{source} has no camera {asked!r}: {suggest(asked, cameras)}")
    return asked or cameras[0]


def _time_ns(options: argparse.Namespace, drive: Drive, reader: McapTopicReader | None) -> int:
    """The moment that was asked for, in the recording's time."""
    from runtime.formats import topics

    if options.firing is not None:
        times: list[int] = [] if reader is None else [message.time_ns for message in reader.messages({topics.FIRING})]
        number: int = options.firing
        if not 0 <= number < len(times):
            raise CommandError(f"{options.source} has {len(times)} firings, number {number} is not among them")
        return times[number]
    if options.at is None:
        raise CommandError("say which moment: --at SECONDS after the start, or --firing N of a clip")
    if not 0.0 <= options.at <= drive.duration_s:
        raise CommandError(f"--at {options.at:g} is outside of {options.source}: it is {drive.duration_s:.2f} s long")
    at_s: float = options.at
    return drive.start_ns + round(at_s * NANOSECONDS_PER_SECOND)


def _moment(time_ns: int, drive: Drive) -> str:
    return f" at {(time_ns - drive.start_ns) / NANOSECONDS_PER_SECOND:.2f} s"


def _recorded(reader: McapTopicReader, camera: str, time_ns: int) -> Scene:
    """The recorded embedding that is nearest in time."""
    from runtime.recorded_embeddings import recorded_scenes
    from runtime.scenes import SceneError

    near_ns = round(NEAR_S * NANOSECONDS_PER_SECOND)
    scenes = [s for s in recorded_scenes(reader, time_ns - near_ns, time_ns + near_ns + 1) if s.camera == camera]
    if not scenes:
        raise SceneError(f"{reader.path} holds no embedding of {camera} within {NEAR_S:g} s: choose another moment")
    return min(scenes, key=lambda scene: abs(scene.time_ns - time_ns))


def run_similar(options: argparse.Namespace) -> int:
    """List the seconds that are most like the query, nearest first."""
    from runtime.formats.documents import load_document, validate
    from runtime.formats.mcap_files import McapFileError
    from runtime.recording.manifest import ManifestError
    from triggers.rules.learned import QueryFile

    query = validate(load_document(options.query), QueryFile)
    found: list[dict[str, Any]] = []
    try:
        for source in options.sources:
            found += _nearest_seconds(source, query)
    except (McapFileError, ManifestError, OSError) as error:
        raise CommandError(str(error)) from error
    found = sorted(found, key=lambda entry: (entry["distance"], entry["source"], entry["second"]))[: options.top]
    if options.json is not None:
        write_json(options.json, found)
    if options.json != "-":
        for entry in found:
            print(f"{entry['distance']:.4f}  {entry['source']}  {entry['second']:4d} s  {entry['camera']}")
    return 0


def _nearest_seconds(source: Path, query: Any) -> list[dict[str, Any]]:
    """The nearest scene of each second of one recording."""
    import numpy as np

    from runtime.formats.mcap_files import McapTopicReader
    from runtime.recorded_embeddings import recorded_model, recorded_scenes

    vector = np.array(query.embedding) / np.linalg.norm(query.embedding)
    best: dict[int, dict[str, Any]] = {}
    with McapTopicReader(source) as reader:
        model, span = recorded_model(reader), reader.time_range_ns
        if model is None or model.name != query.model or span is None:
            raise CommandError(f"{source} holds no embeddings of {query.model}: replay it with --model and --out first")
        for scene in recorded_scenes(reader):
            if query.camera not in (None, scene.camera) or scene.vector.size != vector.size:
                continue
            second = (scene.time_ns - span[0]) // NANOSECONDS_PER_SECOND
            distance = round(float(1.0 - scene.vector @ vector), DIGITS)
            if second not in best or distance < best[second]["distance"]:
                best[second] = {
                    "distance": distance, "source": str(source), "second": second, "camera": scene.camera,
                }  # fmt: skip
    return list(best.values())
