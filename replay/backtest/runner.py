"""A backtest over many drives, side by side in processes; the result does not depend on how many.

A drive that cannot be played becomes a `DriveFailure` and the others still count. What is wrong for every drive alike
(rules, model, calibration) is told before the first is opened. A worker that dies takes its drive with it; drives
that then could not be started are failures as well, each by name.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from replay.backtest.campaigns import open_rules_and_campaigns
from replay.backtest.evaluation import DriveOutcome, evaluate_drive
from replay.backtest.recording import RecordingRequest, drive_ticks
from replay.backtest.summary import DEFAULT_HOURS_PER_DAY, BacktestResult, DriveFailure, summarise
from replay.backtest.tick_file import TickFileError
from replay.playing import ReplayError, check_rate
from runtime.composition import find_bundle, open_rig
from runtime.drives import DriveVideoError, open_drive
from runtime.formats.documents import DocumentError
from runtime.formats.mcap_files import McapFileError
from runtime.formats.signal_names import RecordedKind
from runtime.openings import Openings
from triggers import RuleSet

DRIVE_ERRORS = (DocumentError, ReplayError, TickFileError, DriveVideoError, McapFileError, OSError)


@dataclass(frozen=True, slots=True)
class BacktestRequest:
    """Which rules over which drives, and with what. `model` None: signals only; `jobs` 0: one a core."""

    rules: tuple[str, ...]
    drives: tuple[Path, ...]
    model: str | None
    rig: Path | None = None
    rate_hz: float = 20.0
    threads: int = 1
    cache: Path | None = None
    predictions: str = "auto"
    jobs: int = 0
    hours_per_day: float = DEFAULT_HOURS_PER_DAY
    declared: Mapping[str, RecordedKind] = field(default_factory=dict)  # signals beyond the canonical ones
    second_model: str | None = None  # another candidate beside it


Answer = DriveOutcome | DriveFailure


def run_backtest(request: BacktestRequest, show_progress: bool = False) -> BacktestResult:
    """Every drive under every rule. Raises DocumentError and ReplayError for what is wrong for all drives alike."""
    rules = _check(request)
    jobs = min(request.jobs or os.cpu_count() or 1, len(request.drives))
    answers: dict[Path, Answer] = {}
    is_one = len(request.drives) == 1  # then its own progress is shown
    columns = TextColumn("backtest"), BarColumn(), MofNCompleteColumn(), TextColumn("drives")
    with Progress(*columns, disable=is_one or not show_progress) as progress:
        task = progress.add_task("", total=len(request.drives))
        alone = _alone(request, rules, is_one and show_progress)
        for drive, answer in alone if jobs <= 1 else _side_by_side(request, rules, jobs):
            answers[drive] = answer
            progress.advance(task)
    ordered = [answers[drive] for drive in request.drives]
    outcomes = [answer for answer in ordered if isinstance(answer, DriveOutcome)]
    failures = [answer for answer in ordered if isinstance(answer, DriveFailure)]
    return summarise(rules, outcomes, failures, request.hours_per_day)


def _check(request: BacktestRequest) -> RuleSet:
    check_rate(request.rate_hz)
    if not 0 < request.hours_per_day <= 24:
        raise ReplayError(f"--hours-per-day is {request.hours_per_day:g}; a day has more than 0 and at most 24")
    openings = Openings()
    rules = openings.open(lambda: _open_rules(request))
    openings.open(lambda: None if request.model is None else find_bundle(request.model))
    second = request.second_model
    openings.open(lambda: None if second is None else find_bundle(second))
    openings.open(lambda: open_rig(request.rig))
    openings.settle()
    assert rules is not None
    return rules


def _open_rules(request: BacktestRequest) -> RuleSet:
    """The rules; where they name signals beyond the canonical ones, those that any of the drives holds are known.

    Drives are opened for that only if need be: it can take a while for each.
    """
    try:
        return open_rules_and_campaigns(request.rules, request.declared)
    except DocumentError:
        return open_rules_and_campaigns(request.rules, {**_declared(request.drives), **request.declared})


def _declared(drives: Sequence[Path]) -> dict[str, RecordedKind]:
    kinds: dict[str, RecordedKind] = {}
    for drive in drives:
        try:
            for name, kind in open_drive(drive).declared.items():
                kinds[name] = kind if kinds.get(name, kind) == kind else "any"
        except DRIVE_ERRORS:
            continue  # reported where the drive is played
    return kinds


def _alone(request: BacktestRequest, rules: RuleSet, show_progress: bool) -> Iterator[tuple[Path, Answer]]:
    for drive in request.drives:
        yield drive, backtest_drive(request, drive, rules, show_progress)


def _side_by_side(request: BacktestRequest, rules: RuleSet, jobs: int) -> Iterator[tuple[Path, Answer]]:
    context = multiprocessing.get_context("forkserver")  # a plain fork would copy threads that libraries started
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(jobs, context, initializer=_Worker.start, initargs=(request, rules)) as pool:
        waiting = {pool.submit(_Worker.work, drive): drive for drive in request.drives}
        for future in as_completed(waiting):
            drive = waiting[future]
            try:
                yield drive, future.result()
            except BrokenProcessPool:
                yield drive, DriveFailure(drive, "a worker process died (out of memory?); try --jobs 1")


class _Worker:
    """One worker process."""

    task: Callable[[Path], Answer]

    @staticmethod
    def start(request: BacktestRequest, rules: RuleSet) -> None:
        _Worker.task = lambda drive: backtest_drive(request, drive, rules)

    @staticmethod
    def work(drive: Path) -> Answer:
        return _Worker.task(drive)


def backtest_drive(request: BacktestRequest, drive: Path, rules: RuleSet, show_progress: bool = False) -> Answer:
    """One drive; a failure is a value, so that the others still count."""
    recording = RecordingRequest(
        drive, request.model, request.rig, request.rate_hz, request.threads, request.cache, request.predictions,
        request.second_model,
    )  # fmt: skip
    began_s = time.perf_counter()
    try:
        with drive_ticks(recording, rules, show_progress) as ticks:
            spent_s = time.perf_counter() - began_s
            truth, notes = ticks.drive.truth, ticks.notes
            return evaluate_drive(drive, ticks.facts, truth, ticks.blocks, rules, ticks.was_cached, spent_s, notes)
    except DRIVE_ERRORS as error:
        return DriveFailure(drive, str(error))
