"""A refusal that names nothing: whose it is, where a question and answers to pulls are both out."""

from __future__ import annotations

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from runtime.formats.pull_files import PullAnswer, PullFolder
from runtime.spool import Spool
from runtime.uplink.delivery import Delivery
from runtime.uplink.delivery_limits import DeliveryLimits
from runtime.uplink.exchange import Exchange, ExchangeError
from runtime.uplink.wire import (
    PROTOCOL_VERSION,
    CampaignPart,
    CampaignQuestion,
    Message,
    Nack,
    PullResult,
    Result,
    Welcome,
    encode,
)

QUESTION = CampaignQuestion("metadata/timestamp.json", 0, 10)
REPORT = b'{"active": []}'
PATIENCE_S = 10.0
SECOND_NS = 1_000_000_000


class Vehicle:
    """A delivery whose every message the test sees, and answers."""

    def __init__(self, folder, asking: ThreadPoolExecutor) -> None:
        self.spool = Spool.open(folder, 64 << 20)
        self.recorder = PullFolder(folder)
        self.exchange = Exchange()
        self.delivery = Delivery(self.spool, DeliveryLimits(), "test", self.exchange, PullFolder(folder))
        self.delivery.begin_session(0)
        self.says(0)
        self.hears(Welcome(PROTOCOL_VERSION, 1 << 20, 1 << 18, 1 << 30))
        self._asking = asking

    def ask(self, message: CampaignQuestion | Result, payload: bytes = b"") -> Future:
        """A question of another thread; it is out when this returns."""
        asked = self._asking.submit(self.exchange.ask, message, payload, PATIENCE_S)
        with self.exchange._changed:
            assert self.exchange._changed.wait_for(lambda: self.exchange._question is not None, PATIENCE_S)
        return asked

    def refuse_a_pull(self) -> None:
        """The recorder has nothing of what was asked for."""
        self.recorder.answer(PullAnswer("pull-1", "refused", "history has nothing of it"))

    def says(self, seconds: float) -> list[Message]:
        now_ns = int(seconds * SECOND_NS)
        said = []
        while (outgoing := self.delivery.next_message(now_ns)) is not None:
            said.append(outgoing[0])
        return said

    def hears(self, message: Message, payload: bytes = b"") -> None:
        self.delivery.on_message([encode(message), payload], 0)


@pytest.fixture
def vehicle(tmp_path):
    with ThreadPoolExecutor() as asking:
        created = Vehicle(tmp_path / "spool", asking)
        yield created
        created.exchange.close()
    created.spool.close()


def kinds(messages: list[Message]) -> set[type]:
    return {type(message) for message in messages}


def test_the_refusal_of_a_pulls_answer_does_not_end_the_question_that_waits_beside_it(vehicle):
    vehicle.refuse_a_pull()
    asked = vehicle.ask(QUESTION)
    assert kinds(vehicle.says(1)) == {PullResult, CampaignQuestion}
    vehicle.hears(Nack("storage", "later"))
    assert vehicle.delivery.statistics.notices_refused == 1
    vehicle.hears(CampaignPart(QUESTION.path, 0, 2, "part"), b"{}")
    assert asked.result(PATIENCE_S)[1] == b"{}"
    assert PullResult not in kinds(vehicle.says(50))
    assert PullResult in kinds(vehicle.says(70)), "told again after a minute"


def test_the_refusal_of_a_pulls_answer_does_not_end_a_report(vehicle):
    vehicle.refuse_a_pull()
    report = Result(hashlib.sha256(REPORT).digest())
    asked = vehicle.ask(report, REPORT)
    assert kinds(vehicle.says(1)) == {PullResult, Result}
    vehicle.hears(Nack("storage", "later"))
    assert vehicle.delivery.statistics.notices_refused == 1
    vehicle.hears(report)
    assert asked.result(PATIENCE_S)[0] == report


def refused(vehicle: Vehicle, asked: Future, nack: Nack) -> str:
    vehicle.hears(nack)
    with pytest.raises(ExchangeError) as error:
        asked.result(PATIENCE_S)
    return str(error.value)


def test_without_a_pulls_answer_a_refused_question_ends_at_once(vehicle):
    asked = vehicle.ask(QUESTION)
    assert kinds(vehicle.says(1)) == {CampaignQuestion}
    assert "storage" in refused(vehicle, asked, Nack("storage", "later"))


def test_a_refused_report_ends_at_once_beside_a_pulls_answer(vehicle):
    vehicle.refuse_a_pull()
    report = Result(hashlib.sha256(REPORT).digest())
    asked = vehicle.ask(report, REPORT)
    assert kinds(vehicle.says(1)) == {PullResult, Result}
    assert "bad_report" in refused(vehicle, asked, Nack("bad_report", "no", sha256=report.sha256))
    assert vehicle.delivery.statistics.notices_refused == 0
