"""`shadowrig triggers backtest`: what rules would find, and cost, on recorded drives."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.cli import vehicle
from runtime.cli.common import CommandError, Subcommands, add_command, add_json_option, write_json

if TYPE_CHECKING:
    from replay.backtest.runner import BacktestRequest
    from replay.backtest.summary import BacktestResult


def add(group: Subcommands) -> None:
    """Register the command."""
    parser = add_command(
        group,
        "backtest",
        "Play rules over recorded drives: firings, cost a day, precision and recall, overlap, what was suppressed. "
        "The network runs once for a drive; after that only rules are evaluated.",
        "shadowrig triggers backtest my_rules.yaml drives/monday drives/tuesday.mcap --html backtest.html",
        run,
    )
    parser.add_argument(
        "places", nargs="+", metavar="FILES DRIVES",
        help="rule files, folders of them, folders of campaigns or 'library' (default: those of --config, else the "
        "library), and drives: folders with drive.yaml, .mcap files, or folders of these",
    )  # fmt: skip
    vehicle.add_config_option(parser)
    parser.add_argument(
        "--model", default=None, help="bundled model or bundle folder (default: a campaign's own, else hydra_mini)"
    )
    parser.add_argument("--second-model", help="another candidate beside it, compared with it (A/B)")
    parser.add_argument("--no-inference", action="store_true", help="signals only: decode nothing, run no network")
    parser.add_argument(
        "--predictions", choices=("auto", "run", "recorded"), default=None,
        help="run the network, or take what a recording's own ticks say (default: recorded where a drive holds ticks "
        "and neither --model nor --second-model is named)",
    )  # fmt: skip
    parser.add_argument("--rig", type=Path, default=None, help="camera calibration (default: rig.yaml beside a drive)")
    parser.add_argument("--rate", type=float, default=20.0, help="ticks a second (default 20)")
    parser.add_argument("--threads", type=int, default=1, help="threads of the network (default 1)")
    parser.add_argument("--jobs", type=int, default=0, help="drives at a time (default: one for each core)")
    parser.add_argument(
        "--hours-per-day", type=float, default=1.5,
        help="hours that a vehicle is driven in a day, for MB/day (default 1.5, a private car)",
    )  # fmt: skip
    parser.add_argument("--cache", type=Path, default=None, metavar="DIR", help="where recorded ticks are kept")
    parser.add_argument("--no-cache", action="store_true", help="keep no recorded ticks")
    add_json_option(parser, "the result")
    parser.add_argument("--html", type=Path, default=None, metavar="FILE", help="write a report with timelines")


def run(options: argparse.Namespace) -> int:
    """Backtest and print; 1 when a drive could not be played."""
    from replay.backtest.places import sort_places
    from replay.backtest.runner import run_backtest
    from replay.backtest.table import print_backtest
    from replay.playing import ReplayError

    config = vehicle.configuration(options)
    rules, drives = sort_places(options.places, [str(place) for place in vehicle.rule_places((), config)])
    request = _request(options, rules, drives)
    request = replace(request, declared=vehicle.declared_signals(config))
    try:
        result = run_backtest(request, show_progress=options.json != "-")
    except ReplayError as error:
        raise CommandError(str(error)) from error
    if options.html is not None:
        _write_html(options.html, result)
    if options.json is not None:
        write_json(options.json, result.to_json())
    if options.json != "-":
        print_backtest(result)
    for failure in result.failures:
        print(f"{failure.path}: not counted: {failure.error}", file=sys.stderr)
    return 1 if result.failures else 0


def _request(options: argparse.Namespace, rules: list[str], drives: list[Path]) -> BacktestRequest:
    from replay.backtest.cache import default_folder
    from replay.backtest.campaigns import campaign_model
    from replay.backtest.runner import BacktestRequest

    brought = None if options.model or options.no_inference else campaign_model(rules)
    is_named = options.model or options.second_model or options.no_inference
    default = vehicle.DEFAULT_MODEL if brought is None else str(brought)
    return BacktestRequest(
        rules=tuple(rules),
        drives=tuple(drives),
        model=None if options.no_inference else options.model or default,
        rig=options.rig,
        rate_hz=options.rate,
        threads=options.threads,
        cache=None if options.no_cache else options.cache or default_folder(),
        predictions=options.predictions or ("run" if is_named else "auto"),
        second_model=None if options.no_inference else options.second_model,
        jobs=options.jobs,
        hours_per_day=options.hours_per_day,
    )


def _write_html(path: Path, result: BacktestResult) -> None:
    from replay.backtest.page import backtest_page

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(backtest_page(result), encoding="utf-8")
    except OSError as error:
        raise CommandError(f"cannot write --html {path}: {error.strerror}", exit_code=1) from error
