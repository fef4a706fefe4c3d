"""Range pulls as files: what the fleet asks the vehicle to send, and what the vehicle answers.

    <spool>/pulls/requests/<id>.json   left by the uploader, read by the recorder
    <spool>/pulls/answers/<id>.json    left by the recorder; the uploader reports it home
    <spool>/pulls/reported/<id>.json   the same once the receiver has it: a request that comes twice is answered once

A request asks for some cameras (none named: all) from `start_ns` to `end_ns`, on the clock of capture times or of wall
times. An answer is `{"id", "state": "sealed" | "refused", "reason", "n"}`: sealed names the clip's number in the
spool's ledger, refused says why there will be none. The recorder writes the answer first and then removes the
request, so a recorder that dies between the two finds both and has nothing left to do.

Every file is replaced as a whole and durable. Requests come from outside: their number is bounded, together with that
of answers which the receiver does not have, and a file that is none of ours is set aside as `.bad` instead of being
read again and again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from runtime.formats.durable_files import make_directory_durably, remove_durably, rename_durably, write_durably
from runtime.messages import NANOSECONDS_PER_MILLISECOND, NANOSECONDS_PER_SECOND, Priority

PULLS_FOLDER = "pulls"
MAX_CAMERAS = 32
MAX_WAITING_REQUESTS = 64
MAX_REPORTED = 1000
MAX_FILE_BYTES = 16 * 1024
MAX_REASON_LENGTH = 500
CLOCKS = ("capture", "wall")
ANSWER_STATES = ("sealed", "refused")
PULL_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
#: Also a file name in an export: no "/", and no dot or dash in front, so neither a way up nor an option.
CAMERA_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")


def instant_text(time_ns: int, clock: str) -> str:
    """An instant as people read it: UTC to the millisecond on the clock of wall times, else seconds of capture time."""
    if clock != "wall" or not 0 <= time_ns < 1 << 63:
        return f"{time_ns / NANOSECONDS_PER_SECOND:.3f} s ({clock} time)"
    moment = datetime.fromtimestamp(time_ns // NANOSECONDS_PER_SECOND, timezone.utc)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{time_ns % NANOSECONDS_PER_SECOND // NANOSECONDS_PER_MILLISECOND:03d}Z"


class PullFileError(ValueError):
    """A request or answer that is none; the text names the file, the value and what is expected."""


@dataclass(frozen=True, slots=True)
class PullRequest:
    """Send what there is of `cameras` (none: all) from `start_ns` to `end_ns` on `clock`."""

    id: str
    cameras: tuple[str, ...]
    start_ns: int
    end_ns: int
    clock: str = "capture"
    priority: Priority = Priority.HIGH

    def __post_init__(self) -> None:
        """Raises PullFileError for an id, a list, a clock or a window that cannot be."""
        if PULL_ID.fullmatch(self.id) is None:
            raise PullFileError(f"pull id {self.id!r:.80} must be up to 64 lower-case letters, digits and -")
        if len(self.cameras) > MAX_CAMERAS or any(not CAMERA_NAME.fullmatch(c) for c in self.cameras):
            raise PullFileError(f"pull {self.id}: cameras {self.cameras!r:.80}: at most {MAX_CAMERAS} names of cameras")
        if self.clock not in CLOCKS:
            raise PullFileError(f"pull {self.id}: clock {self.clock!r:.40} must be one of {', '.join(CLOCKS)}")
        if not 0 <= self.start_ns < self.end_ns:
            window = f"{instant_text(self.start_ns, self.clock)} to {instant_text(self.end_ns, self.clock)}"
            raise PullFileError(f"pull {self.id}: {window} is no window: its end must come after its start")

    def to_json(self) -> dict[str, Any]:
        """As it stands in a file."""
        return {**asdict(self), "cameras": list(self.cameras), "priority": self.priority.value}


@dataclass(frozen=True, slots=True)
class PullAnswer:
    """What became of a request. `n` is the sealed clip's number, 0 when it was refused."""

    id: str
    state: str
    reason: str = ""
    n: int = 0

    def __post_init__(self) -> None:
        """Raises PullFileError for an answer that contradicts itself."""
        if PULL_ID.fullmatch(self.id) is None or self.state not in ANSWER_STATES:
            raise PullFileError(f"answer to pull {self.id!r:.80}: state {self.state!r:.40} must be sealed or refused")
        if (self.n > 0) != (self.state == "sealed") or self.n < 0:
            raise PullFileError(f"answer to pull {self.id}: {self.state} with clip number {self.n}")
        if self.state == "refused" and not self.reason:
            raise PullFileError(f"answer to pull {self.id}: refused without a reason: say why")

    def to_json(self) -> dict[str, Any]:
        """As it stands in a file."""
        return {**asdict(self), "reason": self.reason[:MAX_REASON_LENGTH]}


def request_from_json(value: object) -> PullRequest:
    """A request from its JSON. Raises PullFileError."""
    record = _object(value, "request", ("id", "cameras", "start_ns", "end_ns"), ("clock", "priority"))
    cameras = record["cameras"]
    if not isinstance(cameras, list) or any(type(camera) is not str for camera in cameras):
        raise PullFileError(f"pull request: cameras {cameras!r:.80} must be a list of names")
    window = _integer(record, "start_ns"), _integer(record, "end_ns")
    try:
        priority = Priority(record.get("priority", Priority.HIGH.value))
    except ValueError as error:
        raise PullFileError(f"pull request: {error}: use one of {', '.join(p.value for p in Priority)}") from error
    return PullRequest(str(record["id"]), tuple(cameras), *window, str(record.get("clock", "capture")), priority)


def answer_from_json(value: object) -> PullAnswer:
    """An answer from its JSON. Raises PullFileError."""
    record = _object(value, "answer", ("id", "state"), ("reason", "n"))
    n = _integer(record, "n") if record.get("n") is not None else 0
    return PullAnswer(str(record["id"]), str(record["state"]), str(record.get("reason") or ""), n)


class PullFolder:
    """The three folders below `<spool>/pulls`; used by the uploader and the recorder at the same time."""

    def __init__(self, spool_directory: Path) -> None:
        """Make the folders. Raises OSError."""
        root = spool_directory / PULLS_FOLDER
        self._requests, self._answers, self._reported = root / "requests", root / "answers", root / "reported"
        for folder in (self._requests, self._answers, self._reported):
            make_directory_durably(folder)

    def ask(self, request: PullRequest) -> bool:
        """Leave a request; False when it, or its answer, is here already.

        OSError when too many wait for the recorder, or their answers for the receiver.
        """
        name = _name(request.id)
        if any((folder / name).exists() for folder in (self._requests, self._answers, self._reported)):
            return False
        waiting = len(_files(self._requests)) + len(_files(self._answers))
        if waiting >= MAX_WAITING_REQUESTS:
            raise OSError(f"{waiting} pull requests wait already, or their answers do: ask again later")
        write_durably(self._requests / name, json.dumps(request.to_json()).encode())
        return True

    def requests(self) -> list[PullRequest]:
        """What waits for an answer, oldest first. A file that is no request is set aside."""
        return [request_from_json(record) for record in _records(self._requests, request_from_json)]

    def answer(self, answer: PullAnswer) -> None:
        """Answer a request and take it away; answering twice changes nothing."""
        name = _name(answer.id)
        if not any((folder / name).exists() for folder in (self._answers, self._reported)):
            write_durably(self._answers / name, json.dumps(answer.to_json()).encode())
        remove_durably(self._requests / name)

    def answers(self) -> list[PullAnswer]:
        """Answers that the receiver does not have yet, oldest first."""
        return [answer_from_json(record) for record in _records(self._answers, answer_from_json)]

    def mark_reported(self, pull_id: str) -> None:
        """The receiver has this answer. The oldest of too many reported ones are forgotten."""
        source = self._answers / _name(pull_id)
        if source.exists():
            rename_durably(source, self._reported / source.name)
        for path in _files(self._reported)[:-MAX_REPORTED]:
            remove_durably(path)


def _name(pull_id: str) -> str:
    if PULL_ID.fullmatch(pull_id) is None:
        raise PullFileError(f"pull id {pull_id!r:.80} must be up to 64 lower-case letters, digits and -")
    return f"{pull_id}.json"


def _files(folder: Path) -> list[Path]:
    """Whole files, oldest first; "." is a write in progress."""
    found = []
    for path in folder.glob("*.json"):
        try:
            found.append((path.stat().st_mtime_ns, path.name, path))
        except FileNotFoundError:
            continue  # the other process took it meanwhile
    return [path for _, name, path in sorted(found) if not name.startswith(".")]


def _records(folder: Path, check: Any) -> list[Mapping[str, Any]]:
    found = []
    for path in _files(folder):
        try:
            with path.open("rb") as stream:
                record = json.loads(stream.read(MAX_FILE_BYTES))
            if check(record).id != path.stem:
                raise PullFileError(f"{path} holds a record of another id")
            found.append(record)
        except FileNotFoundError:
            continue
        except (ValueError, RecursionError):
            path.replace(path.with_suffix(".bad"))
    return found


def _object(value: object, what: str, needed: tuple[str, ...], optional: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(value, dict) or not set(needed) <= set(value) <= {*needed, *optional}:
        raise PullFileError(f"pull {what} {value!r:.120} must be an object of {', '.join(needed)}")
    return value


def _integer(record: Mapping[str, Any], name: str) -> int:
    if type(record[name]) is not int or not 0 <= record[name] < 1 << 63:
        raise PullFileError(f"pull file: {name} is {record[name]!r:.40}, must be an integer of nanoseconds or a number")
    return int(record[name])
