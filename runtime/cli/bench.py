"""`shadowrig bench`: what the parts cost on this machine."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from runtime.cli.common import CommandError, Subcommands, add_command, add_group, add_json_option, write_json

MOST_RULES = 10_000
MOST_TRACKS = 512
#: As in `replay.latency.loads`, which would take a while to import for a parser.
LOADS = ("cpu", "disk", "record", "upload")


def add(commands: Subcommands) -> None:
    """Register the command."""
    group = add_group(commands, "bench", "Measure what parts cost on this machine.", "shadowrig bench triggers")
    parser = add_command(
        group,
        "triggers",
        "Time of evaluating many rules over many tracks, on one core.",
        "shadowrig bench triggers --rules 221 --json triggers.json",
        run_triggers,
    )
    parser.add_argument("--rules", type=int, default=221, help="how many (default 221)")
    parser.add_argument("--library", action="store_true", help="the shipped rules instead, every field known")
    parser.add_argument("--tracks", type=int, default=100, help="how many at each tick (default 100)")
    parser.add_argument("--ticks", type=int, default=2000, help="how many to measure (default 2000)")
    add_json_option(parser, "the figures")
    _add_latency(group)


def _add_latency(group: Subcommands) -> None:
    parser = add_command(
        group,
        "latency",
        "Play eight cameras live at the real processes, alone and under load, and measure capture to result.",
        "shadowrig bench latency --load cpu,disk,record,upload --seconds 600 --json latency.json",
        run_latency,
    )
    parser.add_argument(
        "--load", default=",".join(LOADS), help=f"what contends in the second spell (default {','.join(LOADS)}; none)"
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="of each spell (default 60)")
    parser.add_argument("--model", default="hydra_mini", help="bundle to run (default hydra_mini)")
    parser.add_argument("--cameras", type=int, default=8, help="how many (default 8)")
    parser.add_argument("--size", default="1280x960", metavar="WxH", help="of their pictures (default 1280x960)")
    parser.add_argument("--rate-hz", type=float, default=36.0, help="of cameras and tick (default 36)")
    parser.add_argument("--film-s", type=float, default=8.0, help="length of the film that is looped (default 8)")
    parser.add_argument("--phase-ms", type=float, help="from capture to tick; chosen by the runtime when not given")
    parser.add_argument("--folder", type=Path, help="films, logs, picture (default ~/.cache/shadowrig/latency)")
    add_json_option(parser, "the figures")


def run_triggers(options: argparse.Namespace) -> int:
    """Measure, print, write."""
    from replay.rule_bench import bench_library, bench_rules

    _require(options.rules, 1, MOST_RULES, "--rules")
    _require(options.tracks, 1, MOST_TRACKS, "--tracks")
    _require(options.ticks, 1, 10_000_000, "--ticks")
    if options.library:
        facts = asdict(bench_library(options.tracks, options.ticks))
    else:
        facts = asdict(bench_rules(options.rules, options.tracks, options.ticks))
    if options.json is not None:
        write_json(options.json, facts)
    if options.json != "-":
        for name, value in facts.items():
            print(f"{name:12}  {value:.3f}" if name.endswith("_ms") else f"{name:12}  {value}")
    return 0


def run_latency(options: argparse.Namespace) -> int:
    """Play, measure, print, draw, write."""
    from rich.console import Console

    from replay.latency.bench import BenchOptions, run_bench
    from replay.latency.film import DEFAULT_FOLDER, ReferenceLoad, make_film
    from replay.latency.picture import write_picture
    from replay.latency.report import print_report, to_json
    from replay.latency.stage import InterruptedBenchError, StageError
    from runtime.composition import find_bundle
    from runtime.shutdown import stop_on_signals

    _require(options.seconds, 1, 86_400, "--seconds")
    _require(options.cameras, 1, 8, "--cameras")
    _require(options.rate_hz, 1, 100, "--rate-hz")
    _require(options.film_s, 1, 60, "--film-s")
    if options.phase_ms is not None:
        _require(options.phase_ms, 0, 1000, "--phase-ms")
    find_bundle(options.model)
    width, height = _size(options.size)
    load = ReferenceLoad(width, height, options.rate_hz, options.film_s, options.cameras)
    bench = BenchOptions(options.seconds, _loads(options.load), load, options.model, options.phase_ms)
    folder = (options.folder or DEFAULT_FOLDER).absolute()
    console = Console(stderr=options.json == "-")
    picture = folder / "latency.png"
    try:
        console.print("making the film (first time only)", highlight=False)
        make_film(load, folder / "films")  # before signals are handled: Ctrl-C ends the painting processes too
        result = run_bench(bench, folder, stop_on_signals(), lambda text: console.print(text, highlight=False))
        facts = to_json(bench, result)
        spells = {"alone": result.alone, "loaded": result.loaded}
        write_picture(picture, {name: spell.latencies_ms() for name, spell in spells.items() if spell is not None})
    except InterruptedBenchError as error:
        raise CommandError(str(error), exit_code=130) from error
    except (StageError, ValueError) as error:
        raise CommandError(str(error), exit_code=1) from error
    except OSError as error:
        raise CommandError(f"the bench cannot go on in {folder}: {error}", exit_code=1) from error
    facts["picture"] = str(picture)
    if options.json is not None:
        write_json(options.json, facts)
    if options.json != "-":
        print_report(facts, console)
        console.print(f"picture: {picture}", highlight=False)
    return 0


def _loads(text: str) -> tuple[str, ...]:
    if text == "none":
        return ()
    wanted = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    unknown = [load for load in wanted if load not in LOADS]
    if unknown:
        raise CommandError(f"--load names {unknown[0]!r}; choose among {', '.join(LOADS)}, or none")
    return wanted


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise CommandError(f"--size is {text!r}; write it as 1280x960")
    _require(int(width), 160, 4096, "--size")
    _require(int(height), 96, 4096, "--size")
    if int(width) % 4 or int(height) % 4:
        raise CommandError(f"--size is {text!r}; choose sides that are divisible by 4")
    return int(width), int(height)


def _require(value: float, least: float, most: float, option: str) -> None:
    if not least <= value <= most:
        raise CommandError(f"{option} is {value:g}; choose {least:g} to {most:g}")
