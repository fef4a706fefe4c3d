"""Work beside the network: done once, by whichever thread is free, and its errors reach who wants the result."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from tiny_bundle import write_tiny_bundle
from tiny_drive import CAMERAS

from replay.playing import DrivePlayer
from runtime import composition
from runtime.beside import Beside, Inline, Thread
from runtime.composition import ModelChoice, open_network, open_rules
from runtime.drives import open_drive


@pytest.mark.parametrize("make", [Inline, Thread])
def test_work_is_done_once_and_gives_its_result(make: type) -> None:
    beside: Beside = make()
    done: list[int] = []
    for number in range(50):
        result = beside.begin(lambda number=number: done.append(number) or number * 2)
        assert result() == number * 2
    assert done == list(range(50))
    beside.close()


def test_the_thread_works_while_the_caller_does_something_else() -> None:
    beside, has_worked = Thread(), threading.Event()
    result = beside.begin(lambda: has_worked.set() or threading.current_thread().name)
    assert has_worked.wait(5.0)
    assert result() == "beside"
    beside.close()


def test_work_that_nobody_has_begun_is_taken_back() -> None:
    beside, holds, may_go = Thread(), threading.Event(), threading.Event()
    busy = beside.begin(lambda: holds.set() or may_go.wait(5.0))
    assert holds.wait(5.0)
    waiting = beside.begin(lambda: threading.current_thread().name)
    assert waiting() == threading.current_thread().name  # the thread is held up: not waited for
    may_go.set()
    assert busy() is True
    beside.close()


def test_an_error_is_told_where_the_result_is_wanted() -> None:
    beside = Thread()
    result = beside.begin(lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        result()
    assert beside.begin(lambda: 7)() == 7
    beside.close()


def _player(drive: Path, bundle: Path) -> DrivePlayer:
    opened = open_drive(drive)
    network = open_network(ModelChoice(bundle), tuple(opened.cameras))
    return DrivePlayer(opened, network, None, open_rules(["library"], opened.declared), 20.0)


@pytest.mark.parametrize("make", [Inline, Thread])
def test_what_goes_wrong_beside_the_network_ends_the_tick_and_hangs_nothing(
    make: type, tiny_drive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(composition, "beside_the_network", make)
    others = set(threading.enumerate())
    player = _player(tiny_drive, write_tiny_bundle(tmp_path / "bundle", len(CAMERAS)))
    ticks = player.ticks()
    next(ticks)
    monkeypatch.setattr(player.parts.health, "signals", lambda *_: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        next(ticks)
    player.close()
    assert not any(thread.name == "beside" for thread in set(threading.enumerate()) - others)


def test_ticks_are_the_same_whichever_thread_looks_ahead(
    tiny_drive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, said = write_tiny_bundle(tmp_path / "bundle", len(CAMERAS)), []
    for make in (Inline, Thread):
        monkeypatch.setattr(composition, "beside_the_network", make)
        player = _player(tiny_drive, bundle)
        reports = [played.report for played in player.ticks()]
        said.append([(report.firings, dict(report.signals), report.cameras, report.tracks) for report in reports])
        player.close()
    assert len(said[0]) > 20
    assert repr(said[0]) == repr(said[1])
