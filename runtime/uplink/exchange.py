"""Questions beside the clips: another thread of the uploader asks the receiver for a campaign file, or reports.

One question at a time, on the same connection as the clips: the asking thread waits in `ask`, the uploader's loop
takes the question with `next_message` and brings the answer with `on_message`. A question that a reset connection
took with it is sent again in the next session, until its time is over; the answer of an earlier question is none.

A receiver that cannot read a file, or keep a report, answers NACK: that ends the question, not the session. Its NACK
about a file looks like one about the answer to a pull (no number, no hash): while such an answer is told, `Delivery`
takes it for that, and a question that it was about ends with its time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from runtime.uplink.transfer import Outgoing
from runtime.uplink.wire import CampaignPart, CampaignQuestion, Message, Nack, Result

Answer = tuple[CampaignPart | Result, bytes]


class ExchangeError(Exception):
    """There is no answer; the text says why."""


class Exchange:
    """Between one asking thread and the uploader's loop."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._question: Outgoing | None = None
        self._is_sent = False
        self._answer: Answer | ExchangeError | None = None
        self._is_closed = False
        self._held_back = ""

    # The asking thread

    def ask(self, message: CampaignQuestion | Result, payload: bytes, timeout_s: float) -> Answer:
        """The answer to one question. Raises ExchangeError, at the latest after `timeout_s`."""
        with self._changed:
            if self._held_back and isinstance(message, CampaignQuestion):
                raise ExchangeError(f"campaign files {self._held_back}")
            self._question, self._is_sent, self._answer = (message, payload), False, None
            arrived = self._changed.wait_for(lambda: self._answer is not None or self._is_closed, timeout_s)
            answer, was_sent = self._answer, self._is_sent
            self._question = self._answer = None
        if isinstance(answer, ExchangeError):
            raise answer
        if answer is None:
            ending = "the uploader is leaving" if arrived else f"no answer within {timeout_s:g} s"
            raise ExchangeError(ending if was_sent or arrived else "there is no connection to the receiver")
        return answer

    def close(self) -> None:
        """Let go of a thread that waits: there will be no more answers."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    # The uploader's loop

    def begin_session(self) -> None:
        """A new connection: what the old one took with it must be asked again."""
        with self._changed:
            self._is_sent = False

    def hold_back(self, reason: str) -> None:
        """Ask for no campaign files for this reason; "" lets them go. Reports are small and go anyway."""
        with self._changed:
            self._held_back = reason

    def next_message(self) -> Outgoing | None:
        """The question, if one waits to be sent."""
        with self._changed:
            if self._question is None or self._is_sent:
                return None
            self._is_sent = True
            return self._question

    def on_message(self, message: Message, payload: bytes) -> bool:
        """True when this was a message for the exchange."""
        with self._changed:
            asked = self._question[0] if self._question is not None and self._is_sent else None
            if isinstance(message, Nack) and asked is not None and _is_about(message, asked):
                self._settle(ExchangeError(f"the receiver answered {message.code}: {message.detail}"))
                return True
            if not isinstance(message, CampaignPart | Result):
                return False
            if asked is not None and _ANSWERS[type(asked)](asked, message):
                self._settle((message, payload))
            return True  # the answer to an earlier question is dropped

    def _settle(self, answer: Answer | ExchangeError) -> None:
        self._answer = answer
        self._question = None
        self._changed.notify_all()


def _is_about(nack: Nack, asked: Message) -> bool:
    """The receiver cannot read a file, which it names no hash of, or not keep this report; no clip has number 0."""
    if isinstance(asked, Result):
        return nack.sha256 == asked.sha256 and nack.code in ("bad_report", "malformed", "storage")
    return nack.n == 0 and not nack.sha256 and nack.code == "storage"


def _is_part_of(asked: Any, answer: Any) -> bool:
    return isinstance(answer, CampaignPart) and (answer.path, answer.offset) == (asked.path, asked.offset)


def _is_receipt_of(asked: Any, answer: Any) -> bool:
    return isinstance(answer, Result) and answer.sha256 == asked.sha256


_ANSWERS: dict[type[Any], Callable[[Any, Any], bool]] = {CampaignQuestion: _is_part_of, Result: _is_receipt_of}
