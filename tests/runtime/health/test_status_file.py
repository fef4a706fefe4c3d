"""Status files are whole or absent, and small."""

from __future__ import annotations

import os
import threading

import pytest

from runtime.health.status import MAX_STATUS_BYTES, StatusError, read_status, write_status


def test_what_was_written_is_read_with_writer_and_time(tmp_path):
    path = tmp_path / "runtime.json"
    write_status(path, {"framesets": 7}, wall_ns=123)
    assert read_status(path) == {"wall_ns": 123, "pid": os.getpid(), "framesets": 7}
    assert os.listdir(tmp_path) == ["runtime.json"]


def test_a_status_that_was_never_written_is_none(tmp_path):
    assert read_status(tmp_path / "absent.json") is None


def test_a_reader_never_sees_half_a_status(tmp_path):
    path = tmp_path / "runtime.json"
    write_status(path, {"a": 0, "b": [0] * 5000}, wall_ns=0)
    done = threading.Event()
    torn = []

    def read() -> None:
        while not done.is_set():
            status = read_status(path)
            if status is None or set(status["b"]) != {status["a"]}:
                torn.append(status)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(200):
        write_status(path, {"a": number, "b": [number] * 5000}, wall_ns=number)
    done.set()
    reader.join()
    assert torn == []


@pytest.mark.parametrize("status", [{"latency": float("nan")}, {"thing": object()}, {"long": "x" * MAX_STATUS_BYTES}])
def test_what_json_or_the_bound_refuses_leaves_the_old_status(tmp_path, status):
    path = tmp_path / "runtime.json"
    write_status(path, {"framesets": 1}, wall_ns=0)
    with pytest.raises(StatusError):
        write_status(path, status, wall_ns=1)
    assert read_status(path)["framesets"] == 1


@pytest.mark.parametrize("content", ["", "{", "[1]", "\xff"])
def test_a_foreign_file_is_an_error_with_its_name(tmp_path, content):
    path = tmp_path / "odd.json"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(StatusError, match=r"odd\.json"):
        read_status(path)
