"""Answers what the fleet asks for afterwards: some cameras, from t1 to t2, of something that the vehicle still holds.

Requests and answers are files below the spool (`runtime.formats.pull_files`): the uploader leaves one, the recorder
seals a clip of kind `pull` with the request's id in its metadata, or says why it does not. Every request gets exactly
one answer, whatever dies between the steps: the clip of request `x` is called `pull-x`, so a recorder that starts again
finds it in the sink and answers with its number.

What the vehicle holds is history, and sealed clips in the spool that are still there. History is taken where it has
the whole range; else the one of both that has most of it, in seconds of every camera that is asked for (all: the rig's)
and of the signals. The clip's manifest says how much is missing. Clips are looked at once a step, and only for requests
that are answered in it: on a vehicle long offline there are thousands. A range whose
end lies ahead is waited for, as long as it fits into history together with what is there; one that lies further ahead,
is longer than a clip may be, or of which nothing is held, is refused with the figures that a person needs to ask again.
A request that waits, for its end or behind a clip that takes long, says what it needs of history (`history_needs`).

Capture times begin anew with every start of the machine: a request on that clock is answered from clips of runs that
are still known on this one. Wall time is turned into capture time by what was recorded beside it, so a clock that was
set in between leads to the seconds which said that time when they were recorded; of a clip its ends (`kept_clips`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from runtime.formats.pull_files import PullAnswer, PullFolder, PullRequest, instant_text
from runtime.messages import NANOSECONDS_PER_SECOND, CaptureWindow, Firing
from runtime.recording.clip_file import open_clip, read_manifest
from runtime.recording.clip_plan import ClipPlan, pull_clip_id
from runtime.recording.clip_sink import ClipSink, SealedClip
from runtime.recording.clip_writer import EmptyClipError
from runtime.recording.firing_files import PULL_RULE, WaitingFiring
from runtime.recording.history_needs import drop_all_needs, drop_need, leave_need, need_of
from runtime.recording.history_reader import HistoryReader
from runtime.recording.kept_clips import ClipTimes, overlap_ns, times_of, wall_offset_ns, why_none_serves
from runtime.recording.manifest import ClipManifest
from runtime.recording.readiness import RETRY_NS, Sessions, readiness
from runtime.recording.record_source import ClipSource
from runtime.recording.sealing import CutOrder, Sealer
from runtime.recording.sealing_policy import SealedBefore, SealingRefusedError
from runtime.recording.sessions import Session, SessionState, with_runs_of

#: How long a request is tried again when the disk refuses; then the fleet is told.
MAX_RETRIES = 12


@dataclass(slots=True)
class PullStatus:
    """What became of requests, for metrics."""

    sealed: int = 0
    refused: int = 0
    waiting: int = 0
    unanswered: int = 0  # attempts to leave an answer that found no room on the disk
    last_error: str = ""


class PullRefusedError(Exception):
    """There will be no clip; the text goes to the fleet."""


class PullDesk:
    """Belongs to the recorder's thread."""

    def __init__(
        self, folder: PullFolder, reader: HistoryReader, sealer: Sealer, sink: ClipSink, max_pull_ns: int
    ) -> None:
        self.status = PullStatus()
        self._folder = folder
        self._reader = reader
        self._sealer = sealer
        self._sink = sink
        self._max_pull_ns = max_pull_ns
        self._retries: dict[str, tuple[int, int]] = {}  # request -> attempts, when to try again
        self._needing: set[str] = set()  # requests whose seconds are asked to be kept
        drop_all_needs(reader.layout)
        self._kept: list[SealedClip] | None = None  # of this step

    def step(self, sessions: Sessions, now_ns: int) -> list[SealedClip]:
        """Answer every request that can be answered now; the clips that were sealed for them."""
        sealed: list[SealedClip] = []
        self._kept = None
        for request in self._folder.requests():
            if now_ns < self._retries.get(request.id, (0, 0))[1]:
                continue
            try:
                self._serve(request, sessions, now_ns, sealed)
            except OSError as error:  # the answer finds no room on the disk
                self.status.unanswered += 1
                self.status.last_error = f"pull {request.id} is not answered yet: {error}"
                self._retries[request.id] = (self._retries.get(request.id, (0, 0))[0], now_ns + RETRY_NS)
        waiting = {request.id for request in self._folder.requests()}
        self.status.waiting = len(waiting)
        for answered in self._needing - waiting:
            drop_need(self._reader.layout, answered)
        self._needing &= waiting
        return sealed

    def awaits(self, request_id: str) -> bool:
        """Whether this request waits for its clip."""
        return any(request.id == request_id for request in self._folder.requests())

    def note_needs(self, sessions: Sessions) -> None:
        """Ask history to keep what waiting requests need of it. OSError when there is no room to say so."""
        for request in self._folder.requests():
            if request.id in self._needing or request.end_ns - request.start_ns > self._max_pull_ns:
                continue
            order = self._from_history(request, sessions)
            if order is not None:
                need = need_of(order.plan.start_ns, order.plan.end_ns, request.priority)
                leave_need(self._reader.layout, request.id, need)
                self._needing.add(request.id)

    def _serve(self, request: PullRequest, sessions: Sessions, now_ns: int, sealed: list[SealedClip]) -> None:
        clip = self._sink.find(pull_clip_id(request.id))  # sealed by a recorder that was killed before it answered
        if clip is None:
            clip = self._attempt(request, sessions, now_ns)
            sealed += [] if clip is None else [clip]
        if clip is not None:
            self._folder.answer(PullAnswer(request.id, "sealed", n=clip.number))
            self._retries.pop(request.id, None)
            self.status.sealed += 1

    def _attempt(self, request: PullRequest, sessions: Sessions, now_ns: int) -> SealedClip | None:
        """The sealed clip; None when it has to wait, or was refused."""
        try:
            with self._order(request, self._runs_by_now(sessions), now_ns) as order:
                if order is None:
                    return None
                sealed = self._sealer.seal(order, lambda plan, size_bytes: None)
            if isinstance(sealed, SealedClip):
                return sealed
            raise SealingRefusedError(sealed)
        except PullRefusedError as error:
            self._refuse(request, str(error))
        except EmptyClipError as error:
            clips = why_none_serves(request, self._clips(), sessions)
            self._refuse(request, f"{error}; {clips}" if clips else str(error))
        except SealingRefusedError as error:
            self.status.last_error = f"pull {request.id}: {error}"
            self._refuse_or_retry(request, error.refusal.told, now_ns, is_final=error.refusal.is_final)
        except (OSError, ValueError) as error:  # of the disk, or of what history or the sealed clip says
            self.status.last_error = f"pull {request.id}: {error}"
            self._refuse_or_retry(request, str(error), now_ns, is_final=False)
        return None

    def _refuse_or_retry(self, request: PullRequest, reason: str, now_ns: int, is_final: bool) -> None:
        attempts = self._retries.get(request.id, (0, 0))[0] + 1
        if is_final or attempts >= MAX_RETRIES:
            self._refuse(request, reason)
        else:
            self._retries[request.id] = (attempts, now_ns + RETRY_NS)

    def _refuse(self, request: PullRequest, reason: str) -> None:
        self._folder.answer(PullAnswer(request.id, "refused", reason))
        self._retries.pop(request.id, None)
        self.status.refused += 1

    # What holds it

    def _runs_by_now(self, sessions: Sessions) -> Sessions:
        """With the runs that began to record since they were listed: clips that take long may have been cut since."""
        newest_ns = self._reader.newest_start_ns()
        newest = None if newest_ns is None else self._reader.session_at(newest_ns)
        return sessions if newest is None else with_runs_of(self._reader.layout, sessions, [newest])

    @contextmanager
    def _order(self, request: PullRequest, sessions: Sessions, now_ns: int) -> Iterator[CutOrder | None]:
        """What to cut from what; None while its end is to come. PullRefusedError."""
        length_ns = request.end_ns - request.start_ns
        if length_ns > self._max_pull_ns:
            limit_s = self._max_pull_ns / NANOSECONDS_PER_SECOND
            raise PullRefusedError(f"{length_ns / 1e9:g} s are more than a clip may hold ({limit_s:g} s): ask in parts")
        self._check_cameras(request, sessions)
        in_history = self._from_history(request, sessions)
        due, ended_early = True, None
        if in_history is not None:
            due, ended_early = readiness(self._reader, in_history.plan, sessions, now_ns)
            if not due and not self._why_too_late(in_history.plan, sessions, due):
                yield None
                return
        clip = self._better_clip(request, sessions, 0 if in_history is None else self._held_ns(in_history))
        if clip is not None:
            with open_clip(clip.path) as reader:
                manifest = read_manifest(reader)
                source = ClipSource(reader, SealedBefore(manifest.start_ns, manifest.privacy, clip.number))
                yield _order_from_clip(request, manifest, source)
            return
        if in_history is None:
            raise PullRefusedError(self._nothing(request, sessions))
        if why := self._why_too_late(in_history.plan, sessions, due):
            raise PullRefusedError(why)
        yield replace(in_history, ended_early=ended_early)

    def _from_history(self, request: PullRequest, sessions: Sessions) -> CutOrder | None:
        """An order over history, which may hold all of the range, some, or (yet) nothing; None without any run."""
        start_ns, end_ns = request.start_ns, request.end_ns
        if request.clock == "wall":
            offset_ns = self._reader.wall_offset_ns(start_ns)
            if offset_ns is None:
                return None
            start_ns, end_ns = start_ns - offset_ns, end_ns - offset_ns
        oldest_ns = self._reader.oldest_start_ns()
        if oldest_ns is None or end_ns < oldest_ns:
            return None
        session = sessions.get(self._reader.session_at(start_ns) or "")
        if session is None:
            return None
        provenance = session.provenance_at(start_ns)
        wall_ns = end_ns + (self._reader.wall_offset_ns(None) or 0)
        plan = _plan(request, session.record.session, start_ns, end_ns, wall_ns, provenance.software_version)
        return CutOrder(plan, self._reader, provenance, [provenance.rules_sha256], None)

    def _held_ns(self, order: CutOrder) -> int:
        """How much of the range history has or will have."""
        return self._reader.held_ns(order.plan.start_ns, order.plan.end_ns)

    def _why_too_late(self, plan: ClipPlan, sessions: Sessions, due: bool) -> str:
        """Why the range will never be in history; empty where it is, or may come."""
        newest_ns = self._reader.newest_start_ns() or 0
        alive_s = [run.record.history_s for run in sessions.values() if run.state is SessionState.ALIVE]
        reach_ns = round(max(alive_s, default=0.0) * NANOSECONDS_PER_SECOND)
        if not due and plan.end_ns - newest_ns > reach_ns:
            ahead_s = (plan.end_ns - newest_ns) / NANOSECONDS_PER_SECOND
            return f"its end lies {ahead_s:.0f} s ahead, further than history reaches: ask later"
        if due and plan.start_ns > newest_ns + NANOSECONDS_PER_SECOND:
            return "it lies after the last second that was recorded"
        return ""

    def _check_cameras(self, request: PullRequest, sessions: Sessions) -> None:
        """Of cameras that nobody here has heard of there will be nothing, whenever they are asked for."""
        named, known = set(request.cameras), {camera for run in sessions.values() for camera in _rig([run])}
        if not named or not known or named & known:
            return
        if not any(named & set(clip.metadata.get("cameras", ())) for clip in self._clips()):
            rig = ", ".join(_rig(sessions.values()))
            raise PullRefusedError(f"this vehicle has no camera {', '.join(request.cameras)} ({rig})")

    def _better_clip(self, request: PullRequest, sessions: Sessions, held_ns: int) -> SealedClip | None:
        """The kept clip with most of the range, if it has more than history does; of equals one whose clock stood."""
        if held_ns >= request.end_ns - request.start_ns:
            return None
        seen = {camera for clip in self._clips() for camera in clip.metadata.get("cameras", ())}
        wanted = set(request.cameras or _rig(sessions.values()) or seen)
        best: SealedClip | None = None
        most_ns = held_ns * (len(wanted) + 1)  # and the signals
        for clip in sorted(self._clips(), key=lambda clip: not times_of(clip).is_steady):
            cameras = wanted & set(clip.metadata.get("cameras", ()))
            clip_ns = overlap_ns(request, clip, sessions) * (len(cameras) + 1)
            if clip_ns > most_ns:
                best, most_ns = clip, clip_ns
        return best

    def _clips(self) -> list[SealedClip]:
        if self._kept is None:
            self._kept = self._sink.kept()
        return self._kept

    def _nothing(self, request: PullRequest, sessions: Sessions) -> str:
        hindrance = why_none_serves(request, self._clips(), sessions)
        nothing = "nothing can be cut of it" if hindrance else "nothing is held of it"
        oldest_ns, newest_ns = self._reader.oldest_start_ns(), self._reader.newest_start_ns()
        if oldest_ns is None or newest_ns is None:
            return f"{nothing}: history is empty, and {hindrance or 'no clip in the spool has it'}"
        offset_ns = (self._reader.wall_offset_ns(None) or 0) if request.clock == "wall" else 0
        first, last = (instant_text(time_ns + offset_ns, request.clock) for time_ns in (oldest_ns, newest_ns))
        reach = f"{first} to {last}"
        return f"{nothing}: history has {reach}, and {hindrance or 'no clip in the spool has those cameras then'}"


def _plan(
    request: PullRequest, session: str, start_ns: int, end_ns: int, wall_ns: int, software_version: str
) -> ClipPlan:
    """The request in place of a firing, at the end of its range."""
    window = CaptureWindow((end_ns - start_ns) / NANOSECONDS_PER_SECOND, 0.0, request.cameras)
    firing = Firing(
        rule=PULL_RULE, rule_version=software_version, sequence=0, time_ns=end_ns, wall_ns=wall_ns,
        operands={"request": request.id}, priority=request.priority, capture=window,
    )  # fmt: skip
    return ClipPlan(start_ns, end_ns, (WaitingFiring(Path(f"{request.id}.json"), session, firing),))


def _rig(runs: Iterable[Session]) -> tuple[str, ...]:
    """The cameras of the newest of these runs."""
    newest = max(runs, key=lambda run: run.record.started_wall_ns, default=None)
    return () if newest is None else tuple(newest.record.provenance.cameras)


def _order_from_clip(request: PullRequest, manifest: ClipManifest, source: ClipSource) -> CutOrder:
    times = ClipTimes(manifest.start_ns, manifest.end_ns, manifest.start_wall_ns, manifest.end_wall_ns)
    offset_ns = wall_offset_ns(request, times)
    shift_ns = offset_ns if request.clock == "wall" else 0
    start_ns, end_ns = request.start_ns - shift_ns, request.end_ns - shift_ns
    session = manifest.firings[0].session if manifest.firings else ""
    plan = _plan(request, session, start_ns, end_ns, end_ns + offset_ns, manifest.provenance.software_version)
    missing = f"the clip {manifest.clip_id}, which it was cut from, ends there" if manifest.end_ns < end_ns else None
    return CutOrder(plan, source, manifest.provenance, [manifest.provenance.rules_sha256], missing)
