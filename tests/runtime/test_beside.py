"""Work beside the network: done once, by whichever thread is free, and its errors reach who wants the result."""

from __future__ import annotations

import threading

import pytest

from runtime.beside import Beside, Inline, Thread


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
