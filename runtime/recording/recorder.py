"""Turns firings into sealed clips. Runs in a process of its own, beside the runtime, and talks to it only by files.

One `step`: take note of runtimes that crashed; read the waiting firings; plan clips (overlapping firings merge); cut
and seal every clip whose post-roll has arrived, or never will. Time is an argument: replay drives it by recorded time.

What holds whatever happens:
- a firing's file goes only after its clip is sealed, so a recorder that is killed starts again where it was. An intent
  file is written before sealing: after a crash between sealing and removing the firings, the sink is asked whether it
  holds the clip, and the firings are removed instead of answered twice;
- a disk that refuses (full, quota, fsync error) costs a retry every `RETRY_NS` as long as history still has the window;
  after that the firing is given up, counted, and its reason kept in the status;
- every clip passes the sealing policy (`sealing_policy`); what it refuses is given up, counted by its reason and told
  to the rule. Of merged firings those that are refused by themselves are given up alone;
- the runtime is told what became of every firing (`answers`) before the firing's file goes;
- a runtime that is gone (ended or crashed) ends the wait for post-roll: the clip holds what there is and says why.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from runtime.messages import NANOSECONDS_PER_SECOND
from runtime.recording.admission import admitted_parts
from runtime.recording.answers import (
    DISK,
    HISTORY,
    PRIVACY,
    Answer,
    answer_from_dict,
    leave_answers,
    lost_answers,
    sealed_answers,
)
from runtime.recording.clip_plan import ClipPlan, plan_clips
from runtime.recording.clip_sink import ClipSink, OpenClip, SealedClip
from runtime.recording.clip_writer import ClipCut, EmptyClipError
from runtime.recording.delivery_metadata import delivery_metadata
from runtime.recording.firing_files import (
    FiringFileError,
    WaitingFiring,
    crash_firing,
    read_firing,
    set_aside,
    write_firing,
)
from runtime.recording.history_reader import HistoryReader
from runtime.recording.layout import HistoryLayout, write_atomically
from runtime.recording.sealing_policy import (
    OpenPolicy,
    SealingPolicy,
    SealingRefusal,
    SealingRefusedError,
    Treatment,
)
from runtime.recording.sessions import Session, SessionState, list_sessions, note_crash

Sessions = dict[str, Session]

RETRY_NS = 5 * NANOSECONDS_PER_SECOND
#: A second is taken as complete when records of this much later have arrived: packets queue before they are written.
SETTLE_NS = 500_000_000
#: A living runtime whose history stands still for this long will not deliver the post-roll.
STALL_NS = 10 * NANOSECONDS_PER_SECOND


@dataclass(frozen=True, slots=True)
class RecorderSettings:
    """Limits of the recorder."""

    max_clip_s: float = 60.0
    crash_pre_s: float = 10.0


@dataclass(slots=True)
class RecorderStatus:
    """What the recorder did, for metrics."""

    sealed: int = 0
    sealed_bytes: int = 0
    waiting: int = 0
    refused: int = 0  # attempts that the sink or the disk refused
    lost_firings: Counter[str] = field(default_factory=Counter)  # by rule: given up for good
    policy_refused: Counter[str] = field(default_factory=Counter)  # firings without a clip, by the policy's reason
    bad_firings: int = 0
    unread_answers: int = 0  # notes that no runtime took in time, or that could not be written
    last_error: str = ""


class Recorder:
    """One recorder for one history directory. `step` and `finish` belong to one thread."""

    def __init__(
        self,
        history: Path | str,
        sink: ClipSink,
        settings: RecorderSettings | None = None,
        policy: SealingPolicy | None = None,
    ) -> None:
        """`policy` decides over every clip; None: all are sealed as they are."""
        self.status = RecorderStatus()
        self._layout = HistoryLayout(history)
        self._layout.create()
        self._reader = HistoryReader(history)
        self._sink = sink
        self._settings = settings or RecorderSettings()
        self._policy: SealingPolicy = policy or OpenPolicy()
        self._known: dict[Path, WaitingFiring] = {}
        self._retry_at_ns: dict[str, int] = {}
        self._settle_intents()

    def step(self, now_ns: int) -> list[SealedClip]:
        """Seal every clip that is due; `now_ns` is on the clock of the capture times."""
        sessions = {session.record.session: session for session in list_sessions(self._layout)}
        self._note_crashes(list(sessions.values()))
        sealed: list[SealedClip] = []
        for plan in self._plans(sessions):
            due, ended_early = self._readiness(plan, sessions, now_ns)
            if due and now_ns >= self._retry_at_ns.get(plan.clip_id, now_ns):
                sealed += self._seal(plan, sessions, ended_early, now_ns)
        self.status.waiting = len(self._layout.list_firings())
        return sealed

    def finish(self, now_ns: int) -> list[SealedClip]:
        """Seal what is in flight with what history has; firings that cannot be sealed now stay for the next start."""
        sessions = {session.record.session: session for session in list_sessions(self._layout)}
        self._note_crashes(list(sessions.values()))
        clips: list[SealedClip] = []
        for plan in self._plans(sessions):
            due, ended_early = self._readiness(plan, sessions, now_ns)
            clips += self._seal(plan, sessions, ended_early if due else "the recorder was stopped", now_ns)
        self.status.waiting = len(self._layout.list_firings())
        return clips

    # What is due

    def _plans(self, sessions: Sessions) -> list[ClipPlan]:
        """Clips of the waiting firings. A clip longer than history could never be whole: history limits the merging."""
        return plan_clips(self._waiting(), self._max_clip_ns(sessions))

    def _max_clip_ns(self, sessions: Sessions) -> int:
        lengths_s = [self._settings.max_clip_s]
        lengths_s += [session.record.history_s for session in sessions.values() if session.state is SessionState.ALIVE]
        return round(min(lengths_s) * NANOSECONDS_PER_SECOND)

    def _waiting(self) -> list[WaitingFiring]:
        paths = self._layout.list_firings()
        self._known = {path: firing for path, firing in self._known.items() if path in set(paths)}
        for path in paths:
            if path not in self._known:
                self._read(path)
        return list(self._known.values())

    def _read(self, path: Path) -> None:
        try:
            self._known[path] = read_firing(path)
        except FiringFileError as error:
            set_aside(path)
            self.status.bad_firings += 1
            self.status.last_error = str(error)

    def _readiness(self, plan: ClipPlan, sessions: Sessions, now_ns: int) -> tuple[bool, str | None]:
        """Whether to cut now, and why the post-roll is short if it is."""
        newest_ns = self._reader.newest_start_ns()
        if newest_ns is not None and newest_ns >= plan.end_ns + SETTLE_NS:
            return True, None
        session = sessions.get(plan.firings[-1].session)
        if session is None or session.state is not SessionState.ALIVE:
            return True, self._why_over(plan, session)
        stalled = now_ns > plan.end_ns + STALL_NS and (newest_ns is None or now_ns > newest_ns + STALL_NS)
        return stalled, "history stopped growing while the runtime was alive" if stalled else None

    def _why_over(self, plan: ClipPlan, session: Session | None) -> str | None:
        newest = self._reader.newest_record(plan.firings[-1].session)
        if newest is not None and newest[0] >= plan.end_ns:
            return None  # it left after the post-roll was in
        if session is None:
            return "the runtime that fired is gone"
        return "the runtime ended" if session.state is SessionState.ENDED else "the runtime crashed"

    # Sealing

    def _seal(self, plan: ClipPlan, sessions: Sessions, ended_early: str | None, now_ns: int) -> list[SealedClip]:
        """What was sealed: the clip, or several where the policy refuses some of its firings; nothing: none could."""
        if plan.firings[0].session not in sessions:
            self._give_up(plan, HISTORY, "the session file of the runtime that fired is gone")
            return []
        try:
            cut = self._cut(plan, sessions, ended_early)
            verdict = self._policy.admit(plan, cut.window, self._reader)
            if isinstance(verdict, SealingRefusal):
                return self._obey(verdict, plan, sessions, ended_early, now_ns)
            draft = self._sink.begin(self._expected_bytes(plan), plan.priority)
        except OSError as error:
            self._refuse(plan, error, now_ns)
            return []
        return self._write(plan, cut, verdict, draft, now_ns)

    def _cut(self, plan: ClipPlan, sessions: Sessions, ended_early: str | None) -> ClipCut:
        provenance = sessions[plan.firings[0].session].provenance_at(plan.firings[0].firing.time_ns)
        return ClipCut(self._reader, plan, provenance, ended_early, _rules_in_force(plan, sessions))

    def _write(
        self, plan: ClipPlan, cut: ClipCut, treatment: Treatment, draft: OpenClip, now_ns: int
    ) -> list[SealedClip]:
        try:
            manifest = cut.write(draft.path, treatment)
            size_bytes = draft.path.stat().st_size
            answers = sealed_answers(plan, size_bytes)
            self._write_intent(plan, answers)
            clip = draft.seal({**delivery_metadata(manifest, size_bytes), **treatment.metadata()})
        except (EmptyClipError, SealingRefusedError, OSError) as error:
            draft.discard()
            self._refuse(plan, error, now_ns)
            return []
        self._tidy(plan, answers)
        self.status.sealed += 1
        self.status.sealed_bytes += clip.size_bytes
        return [clip]

    def _obey(
        self, refusal: SealingRefusal, plan: ClipPlan, sessions: Sessions, ended_early: str | None, now_ns: int
    ) -> list[SealedClip]:
        """No clip of the whole plan; of merged firings, clips of those that are not refused by themselves."""

        def judge(alone: ClipPlan) -> SealingRefusal | None:
            if alone.firings[0].session not in sessions:
                return refusal
            window = self._cut(alone, sessions, ended_early).window
            verdict = self._policy.admit(alone, window, self._reader)
            return verdict if isinstance(verdict, SealingRefusal) else None

        parts, refused = admitted_parts(plan, refusal, judge, self._max_clip_ns(sessions))
        for part, why in refused:
            self._refuse(part, SealingRefusedError(why), now_ns)
        return [clip for part in parts for clip in self._seal(part, sessions, ended_early, now_ns)]

    def _write_intent(self, plan: ClipPlan, answers: Sequence[Answer]) -> None:
        names = [firing.path.name for firing in plan.firings]
        intent = {"clip_id": plan.clip_id, "firings": names, "answers": [asdict(answer) for answer in answers]}
        write_atomically(self._intent(plan), json.dumps(intent).encode())

    def _tidy(self, plan: ClipPlan, answers: Sequence[Answer]) -> None:
        """After sealing, or giving up: the firings are answered."""
        self._answer(answers)
        self._remove_firings([firing.path.name for firing in plan.firings])
        self._intent(plan).unlink(missing_ok=True)
        self._retry_at_ns.pop(plan.clip_id, None)

    def _intent(self, plan: ClipPlan) -> Path:
        return self._layout.intents / f"{plan.clip_id}.json"

    def _refuse(self, plan: ClipPlan, error: Exception, now_ns: int) -> None:
        """Give up what can never be sealed; anything else is tried again while history has the seconds."""
        if isinstance(error, EmptyClipError):
            self._give_up(plan, HISTORY, str(error))
            return
        self.status.refused += 1
        refusal = error.refusal if isinstance(error, SealingRefusedError) else None
        oldest_ns = self._reader.oldest_start_ns()
        is_past = oldest_ns is None or oldest_ns > plan.end_ns
        if refusal is not None and (refusal.is_final or is_past):
            self._give_up(plan, PRIVACY, str(error), refusal.reason)
        elif is_past:
            self._give_up(plan, DISK, f"refused until history had nothing left of it: {error}")
        else:
            self.status.last_error = f"clip {plan.clip_id}: {error}"
            self._retry_at_ns[plan.clip_id] = now_ns + RETRY_NS

    def _give_up(self, plan: ClipPlan, loss: str, detail: str, reason: str = "") -> None:
        self.status.lost_firings.update(firing.firing.rule for firing in plan.firings)
        if loss == PRIVACY:
            self.status.policy_refused[reason] += len(plan.firings)
        self.status.last_error = f"clip {plan.clip_id} given up: {detail}"
        self._tidy(plan, lost_answers(plan, loss, reason))

    def _answer(self, answers: Sequence[Answer]) -> None:
        """Tell the runtime. A note that does not fit on tmpfs costs an estimate in place of a size, never a clip."""
        try:
            self.status.unread_answers += leave_answers(self._layout, answers)
        except OSError as error:
            self.status.unread_answers += len(answers)
            self.status.last_error = f"answers to firings not written: {error}"

    def _remove_firings(self, names: list[str]) -> None:
        for name in names:
            (self._layout.firings / name).unlink(missing_ok=True)

    def _expected_bytes(self, plan: ClipPlan) -> int:
        """What the seconds of the window weigh: an upper bound of what the clip will."""
        return self._reader.bytes_between(plan.start_ns, plan.end_ns)

    # After a crash, of the recorder or of the runtime

    def _settle_intents(self) -> None:
        """Finish what a killed recorder had sealed but not yet tidied up."""
        for path in self._layout.intents.glob("*.json"):
            intent = json.loads(path.read_bytes())
            if self._sink.holds(str(intent["clip_id"])):
                self._answer([answer_from_dict(answer) for answer in intent.get("answers", [])])
                self._remove_firings([Path(name).name for name in intent["firings"]])
            path.unlink()

    def _note_crashes(self, sessions: list[Session]) -> None:
        """Leave one firing for each runtime that died without saying so, and a note so that it gets no second one."""
        for session in sessions:
            if session.state is not SessionState.CRASHED or session.crash_is_noted:
                continue
            newest = self._reader.newest_record(session.record.session)
            if newest is not None:
                version = session.record.provenance.software_version
                firing = crash_firing(newest[0], newest[1], self._settings.crash_pre_s, version)
                write_firing(self._layout, session.record.session, firing)
            note_crash(self._layout, session.record.session)


def _rules_in_force(plan: ClipPlan, sessions: Sessions) -> list[str]:
    """The fingerprint of the rules that ran at each firing; empty where its run is forgotten."""
    runs = [sessions.get(waiting.session) for waiting in plan.firings]
    return [
        "" if run is None else run.provenance_at(waiting.firing.time_ns).rules_sha256
        for run, waiting in zip(runs, plan.firings, strict=True)
    ]
