"""Campaign files and reports over the connection that delivers clips, beside them and without harm to them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from fleet import VEHICLE
from uplink_bench import LyingFiles, UplinkBench

from runtime.campaigns.reasons import FetchError
from runtime.campaigns.serving import CampaignFiles, read_reports
from runtime.messages import Priority
from runtime.uplink.exchange import Exchange, ExchangeError
from runtime.uplink.wire import CampaignPart, CampaignQuestion, Nack, Result, WireError, decode, encode

BIG = bytes(range(256)) * 2000


@pytest.fixture
def served(tmp_path: Path) -> Path:
    folder = tmp_path / "served"
    (folder / "metadata").mkdir(parents=True)
    (folder / "targets").mkdir()
    (folder / "metadata/timestamp.json").write_bytes(b"{}")
    (folder / "targets/big").write_bytes(BIG)
    (folder / "secret").write_bytes(b"secret")
    (folder / "draft").mkdir()
    (folder / "draft/root.json").write_bytes(b"draft")
    (tmp_path / "outside").write_bytes(b"outside")
    (folder / "targets/link").symlink_to(tmp_path / "outside")
    (folder / "targets/up").symlink_to(folder)
    return folder


@pytest.fixture
def bench(tmp_path, served):
    made = UplinkBench(tmp_path, LyingFiles(served, tmp_path / "reports"), VEHICLE)
    yield made
    made.close()


def pulled(bench: UplinkBench, path: str) -> bytes:
    data = b""
    while (part := bench.puller.pull(path, len(data), 100_000)).data:
        data += part.data
    return data


def test_a_file_comes_whole_while_clips_are_delivered(bench):
    for index in range(3):
        draft = bench.spool.begin(1 << 20, Priority.NORMAL)
        draft.path.write_bytes(bytes([index]) * (1 << 20))
        bench.spool.seal(draft, {"rule": "x"})
    assert pulled(bench, "targets/big") == BIG
    while bench.spool.pending():
        bench.puller.pull("metadata/timestamp.json", 0, 10)
    assert bench.uploader.delivery.statistics.sessions == 1


@pytest.mark.parametrize(
    "path", ["secret", "draft/root.json", "targets", "targets/none", "targets/link", "targets/up/secret", "outside"]
)
def test_what_is_not_published_is_not_there(bench, path):
    assert bench.puller.pull(path, 0, 10) is None


@pytest.mark.parametrize(
    "path", ["../outside", "/etc/passwd", "targets/../../outside", "targets/./big", ".hidden", "a//b", "", "a\0b", "é"]
)
def test_a_path_that_leads_elsewhere_is_no_message(path):
    with pytest.raises(WireError, match=r"CAMPAIGN\.path"):
        decode([encode(CampaignQuestion(path, 0, 10)), b""], (CampaignQuestion,))
    assert CampaignFiles(Path("/"), Path("/tmp")).part(path, 0, 10) is None


def test_more_than_a_message_holds_comes_in_parts(bench):
    answer, data = bench.exchange.ask(CampaignQuestion("targets/big", 0, 1 << 40), b"", 10)
    assert (answer.size_bytes, len(data)) == (len(BIG), 256 * 1024)


def test_a_report_is_kept_under_the_name_of_the_key_that_brought_it(bench, tmp_path):
    report = json.dumps({"vehicle": "somebody-else", "active": []}).encode()
    bench.exchange.ask(Result(hashlib.sha256(report).digest()), report, 10)
    (kept,) = read_reports(tmp_path / "reports")
    assert (kept["vehicle"], kept["report"]["vehicle"]) == (VEHICLE, "somebody-else")
    assert kept["received_wall_ns"] > 0


@pytest.mark.parametrize("report", [b"[]", b"no json", b"\xff", b"{" * 5000])
def test_a_report_that_is_none_is_refused_and_the_session_goes_on(bench, report):
    with pytest.raises(ExchangeError, match="malformed"):
        bench.exchange.ask(Result(hashlib.sha256(report).digest()), report, 10)
    assert bench.puller.pull("metadata/timestamp.json", 0, 10).data == b"{}"
    assert bench.uploader.delivery.statistics.sessions == 1


def test_only_what_receivers_answer_a_question_with_ends_it():
    exchange = Exchange()
    exchange._question, exchange._is_sent = (CampaignQuestion("metadata/x", 0, 1), b""), True
    assert not exchange.on_message(Nack("unsupported", ""), b""), "no receiver sends that: the session ends"
    assert exchange.on_message(Nack("storage", ""), b"")


def test_a_file_that_the_receiver_cannot_read_ends_the_question_and_not_the_session(bench, monkeypatch):
    def unreadable(path, offset, length):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(bench.receiver.reception._campaigns, "part", unreadable)
    with pytest.raises(FetchError, match=r"answered storage: the receiver cannot"):
        bench.puller.pull("metadata/timestamp.json", 0, 10)
    assert bench.uploader.delivery.statistics.sessions == 1, "clips go on in the same session"


def test_a_receiver_without_a_repository_says_so(tmp_path):
    bench = UplinkBench(tmp_path, None, VEHICLE)
    try:
        with pytest.raises(FetchError) as refused:
            bench.puller.pull("metadata/timestamp.json", 0, 10)
    finally:
        bench.close()
    assert refused.value.reason == "unsupported"


def test_without_a_connection_a_question_ends_by_itself():
    with pytest.raises(ExchangeError, match="no connection"):
        Exchange().ask(CampaignQuestion("metadata/x", 0, 1), b"", 0.01)


def test_leaving_lets_a_waiting_question_go():
    exchange = Exchange()
    exchange.close()
    with pytest.raises(ExchangeError, match="leaving"):
        exchange.ask(CampaignQuestion("metadata/x", 0, 1), b"", 60)


def test_answers_to_earlier_questions_are_dropped():
    exchange = Exchange()
    assert exchange.on_message(CampaignPart("metadata/x", 0, 1, "part"), b"x")
    assert not exchange.on_message(Nack("storage", ""), b"")
    with pytest.raises(ExchangeError):
        exchange.ask(CampaignQuestion("metadata/x", 0, 1), b"", 0.01)
