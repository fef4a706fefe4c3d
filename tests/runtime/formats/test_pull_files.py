"""The file seam of range pulls: one answer for each request, whatever dies between the steps."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.formats import pull_files
from runtime.formats.pull_files import (
    PullAnswer,
    PullFileError,
    PullFolder,
    PullRequest,
    answer_from_json,
    request_from_json,
)

REQUEST = PullRequest("a1", ("front", "rear"), 10, 20, "wall")


def test_a_request_travels_to_the_recorder_and_its_answer_back(tmp_path):
    uploader, recorder = PullFolder(tmp_path), PullFolder(tmp_path)
    assert uploader.ask(REQUEST)
    assert not uploader.ask(REQUEST), "asked twice is asked once"
    assert recorder.requests() == [REQUEST]
    recorder.answer(PullAnswer("a1", "sealed", n=7))
    assert (recorder.requests(), uploader.answers()) == ([], [PullAnswer("a1", "sealed", n=7)])
    assert not uploader.ask(REQUEST), "an answered request is not done again"
    uploader.mark_reported("a1")
    assert uploader.answers() == []
    assert not uploader.ask(REQUEST), "nor a reported one"


def test_a_recorder_that_died_after_answering_finds_nothing_to_do_twice(tmp_path):
    folder = PullFolder(tmp_path)
    folder.ask(REQUEST)
    request_file = tmp_path / "pulls/requests/a1.json"
    kept = request_file.read_bytes()
    folder.answer(PullAnswer("a1", "sealed", n=7))
    request_file.write_bytes(kept)  # as if it had died before the request was removed
    folder.answer(PullAnswer("a1", "refused", "history has nothing of it"))
    assert folder.answers() == [PullAnswer("a1", "sealed", n=7)], "the first answer stands"
    assert folder.requests() == []


def test_files_that_are_none_are_set_aside_once(tmp_path):
    folder = PullFolder(tmp_path)
    requests = tmp_path / "pulls/requests"
    (requests / "x.json").write_bytes(b"\xff{")
    (requests / "y.json").write_text(json.dumps(REQUEST.to_json()))  # another request's content under this name
    (requests / ".z.json.1.new").write_bytes(b"half")
    assert folder.requests() == []
    assert sorted(path.name for path in requests.iterdir()) == [".z.json.1.new", "x.bad", "y.bad"]


def test_requests_that_wait_are_bounded_and_reported_answers_forgotten(tmp_path, monkeypatch):
    monkeypatch.setattr(pull_files, "MAX_WAITING_REQUESTS", 2)
    monkeypatch.setattr(pull_files, "MAX_REPORTED", 1)
    folder = PullFolder(tmp_path)
    for name in ("a", "b"):
        folder.ask(PullRequest(name, (), 1, 2))
    with pytest.raises(OSError, match="2 pull requests wait"):
        folder.ask(PullRequest("c", (), 1, 2))
    for name in ("a", "b"):
        folder.answer(PullAnswer(name, "refused", "no history"))
    with pytest.raises(OSError, match="2 pull requests wait already, or their answers do"):
        folder.ask(PullRequest("c", (), 1, 2))
    for name in ("a", "b"):
        folder.mark_reported(name)
    assert folder.ask(PullRequest("c", (), 1, 2))
    assert len(list((tmp_path / "pulls/reported").iterdir())) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "../up"},
        {"id": ""},
        {"cameras": ("",)},
        {"cameras": ("..",)},
        {"cameras": ("a/b",)},
        {"cameras": ("c",) * 99},
        {"clock": "sun"},
        {"end_ns": 10},
    ],
)
def test_a_request_that_cannot_be_is_none(changes):
    values = {"id": "a", "cameras": (), "start_ns": 10, "end_ns": 20, "clock": "wall", **changes}
    with pytest.raises(PullFileError):
        PullRequest(**values)


@pytest.mark.parametrize(("state", "reason", "n"), [("sealed", "", 0), ("refused", "x", 3), ("refused", "", 0)])
def test_an_answer_that_contradicts_itself_is_none(state, reason, n):
    with pytest.raises(PullFileError):
        PullAnswer("a", state, reason, n)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
FIELDS = st.dictionaries(
    st.sampled_from(["id", "cameras", "start_ns", "end_ns", "clock", "priority", "state", "reason", "n"]), ANYTHING
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ANYTHING | FIELDS)
def test_whatever_a_file_holds_it_is_a_record_or_refused(value):
    for parse in (request_from_json, answer_from_json):
        try:
            parsed = parse(value)
        except PullFileError:
            continue
        assert parse(json.loads(json.dumps(parsed.to_json()))) == parsed


@pytest.mark.parametrize(
    ("clock", "said"),
    [("wall", "2026-11-21T09:30:15.250Z to 2026-11-21T09:30:00.000Z"), ("capture", "1795253415.250 s (capture time)")],
)
def test_a_window_the_wrong_way_round_is_told_in_times_that_people_read(clock: str, said: str) -> None:
    start_ns, end_ns = 1_795_253_415_250_000_000, 1_795_253_400_000_000_000
    with pytest.raises(PullFileError, match=re.escape(said)):
        PullRequest("a", (), start_ns, end_ns, clock)
