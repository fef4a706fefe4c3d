"""Cameras that take turns."""

from __future__ import annotations

import threading
import time

import pytest

from runtime.capture import turnstile as module
from runtime.capture.turnstile import Turnstile, places_here


def test_no_more_than_its_places_are_inside_at_once() -> None:
    turns, lock = Turnstile(2), threading.Lock()
    inside, most, done = 0, 0, 0

    def work() -> None:
        nonlocal inside, most, done
        for _ in range(20):
            with turns:
                with lock:
                    inside += 1
                    most = max(most, inside)
                time.sleep(0.0005)
                with lock:
                    inside -= 1
                    done += 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10.0)
    assert (done, inside) == (120, 0)
    assert 1 <= most <= 2 or turns.unwaited  # on a machine that stands still, turns begin without a place


def test_a_camera_that_never_leaves_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_WAIT_S", 0.01)
    turns = Turnstile(1)
    with turns:
        with turns:
            pass
        assert turns.unwaited == 1
    with turns:  # the place has come back, once
        pass
    assert turns.unwaited == 1


def test_a_place_comes_back_after_an_error() -> None:
    turns = Turnstile(1)
    with pytest.raises(RuntimeError), turns:
        raise RuntimeError("torn")
    with turns:
        pass
    assert turns.unwaited == 0


def test_there_is_a_place_even_on_one_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.os, "sched_getaffinity", lambda _: {0})
    assert places_here() == 1
    monkeypatch.setattr(module.os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    assert places_here() == 3
    with pytest.raises(ValueError, match="1 place"):
        Turnstile(0)
