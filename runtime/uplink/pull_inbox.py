"""The vehicle's end of range pulls: a PULL becomes a file for the recorder, the recorder's answer becomes a RESULT.

The receiver repeats a PULL until it has the RESULT, and the seam remembers what was answered, so lost, repeated and
late messages change nothing. A request that cannot be written down now (disk full, too many wait) is left alone: it
comes again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from runtime.formats.pull_files import PullAnswer, PullFileError, PullRequest
from runtime.messages import Priority
from runtime.uplink.notices import Notices
from runtime.uplink.wire import Pull, PullResult

MAX_REFUSED_KEPT = 64


class PullSeam(Protocol):
    """Where requests go and answers come from; `runtime.formats.pull_files.PullFolder` is one."""

    def ask(self, request: PullRequest) -> bool: ...
    def answers(self) -> Sequence[PullAnswer]: ...
    def mark_reported(self, pull_id: str) -> None: ...


class NoPulls:
    """The seam of a vehicle without a recorder behind it: every request is refused with that reason."""

    def __init__(self) -> None:
        self._answers: dict[str, PullAnswer] = {}

    def ask(self, request: PullRequest) -> bool:
        """Refuse."""
        if request.id in self._answers or len(self._answers) >= MAX_REFUSED_KEPT:
            return False
        self._answers[request.id] = PullAnswer(request.id, "refused", "this vehicle takes no range pulls")
        return True

    def answers(self) -> Sequence[PullAnswer]:
        """The refusals that the receiver does not have yet."""
        return list(self._answers.values())

    def mark_reported(self, pull_id: str) -> None:
        """Forget one."""
        self._answers.pop(pull_id, None)


class PullInbox:
    """Takes PULLs in; `results` tells what became of them."""

    def __init__(self, seam: PullSeam) -> None:
        self.taken = 0
        self.postponed = 0
        self.results: Notices[str] = Notices(self._unreported, seam.mark_reported)
        self._seam = seam

    def take(self, message: Pull) -> None:
        """Leave the request for the recorder."""
        window = message.start_ns, message.end_ns, message.clock
        try:
            request = PullRequest(message.id, message.cameras, *window, Priority(message.priority))
            self.taken += self._seam.ask(request)
        except (OSError, PullFileError):  # no room for the file, or a window that ends before it starts
            self.postponed += 1

    def _unreported(self, limit: int) -> Mapping[str, PullResult]:
        answers = self._seam.answers()[:limit]
        return {answer.id: PullResult(answer.id, answer.state, answer.reason, answer.n) for answer in answers}
