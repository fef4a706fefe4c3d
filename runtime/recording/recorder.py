"""Turns firings into sealed clips. Runs in a process of its own, beside the runtime, and talks to it only by files.

One `step`: take note of runtimes that crashed; read the waiting firings; plan clips (overlapping firings merge); cut
and seal every clip whose post-roll has arrived, or never will. Time is an argument: replay drives it by recorded time.

What holds whatever happens:
- a firing's file goes only after its clip is sealed, so a recorder that is killed starts again where it was. An intent
  file is written before sealing: after a crash between sealing and removing the firings, the sink is asked whether it
  holds the clip, and the firings are removed instead of answered twice;
- a disk that refuses (full, quota, fsync error), or a record that cannot be read, costs a retry every `RETRY_NS` while
  history still has the window; after that the firing is given up, counted, and its reason kept in the status;
- every clip passes the sealing policy (`sealing_policy`); what it refuses is given up, counted by its reason and told
  to the rule. Of merged firings those that are refused by themselves are given up alone;
- the runtime is told what became of every firing (`answers`) before the firing's file goes;
- what the fleet asks for (`pull_desk`) passes the same policy and is answered, too;
- the most urgent clip is cut first, and a firing that came while one was cut is looked at before the next. The seconds
  of what waits stay beyond the end of history while there is room (`history_needs`); `watch` helps while a clip is cut;
- a runtime that is gone (ended or crashed) ends the wait for post-roll: the clip holds what there is and says why.
  A recorder that leaves does not: the firings wait for the next one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from runtime.formats.mcap_files import McapFileError
from runtime.formats.pull_files import PullFolder
from runtime.messages import CUT_MARGIN_S, NANOSECONDS_PER_SECOND
from runtime.recording.admission import admitted_parts
from runtime.recording.answers import DISK, HISTORY, PRIVACY, Answer, leave_answers, lost_answers, sealed_answers
from runtime.recording.clip_plan import ClipPlan, plan_clips
from runtime.recording.clip_sink import ClipSink, SealedClip
from runtime.recording.clip_writer import EmptyClipError
from runtime.recording.crash_notes import leave_crash_firings
from runtime.recording.firing_files import FiringFileError, WaitingFiring, read_firing, set_aside
from runtime.recording.history_reader import HistoryReader
from runtime.recording.intents import Intent, IntentFileError, intent_path, leave_intent, read_intent
from runtime.recording.layout import HistoryLayout
from runtime.recording.pull_desk import PullDesk, PullStatus
from runtime.recording.readiness import RETRY_NS, STALL_NS, Sessions, readiness
from runtime.recording.recorder_status import RecorderSettings, RecorderStatus
from runtime.recording.sealing import CutOrder, Sealer, firing_order
from runtime.recording.sealing_policy import OpenPolicy, SealingPolicy, SealingRefusal, SealingRefusedError
from runtime.recording.sessions import SessionState, list_sessions, with_runs_of


class Recorder:
    """One recorder for one history directory. `step` and `finish` belong to one thread."""

    def __init__(
        self,
        history: Path | str,
        sink: ClipSink,
        settings: RecorderSettings | None = None,
        policy: SealingPolicy | None = None,
        pulls: PullFolder | None = None,
    ) -> None:
        """`policy` decides over every clip; None: all are sealed as they are. `pulls`: where the fleet's wishes lie."""
        self.status = RecorderStatus()
        self._layout = HistoryLayout(history)
        self._layout.create()
        self._reader = HistoryReader(history)
        self._sink = sink
        self._settings = settings or RecorderSettings()
        self._sealer = Sealer(sink, policy or OpenPolicy(), self._settings.thumbnails)
        max_pull_ns = round(self._settings.max_clip_s * NANOSECONDS_PER_SECOND)
        self._pulls = None if pulls is None else PullDesk(pulls, self._reader, self._sealer, sink, max_pull_ns)
        self._known: dict[Path, WaitingFiring] = {}
        self._retry_at_ns: dict[str, int] = {}
        self._settle_intents()

    def step(self, now_ns: int) -> list[SealedClip]:
        """Seal every clip that is due, or some when firings come meanwhile; `now_ns` is on the clock of capture."""
        sessions, waiting = self._look()
        sealed: list[SealedClip] = []
        for plan in self._plans(waiting, sessions):
            if now_ns < self._retry_at_ns.get(plan.clip_id, now_ns):
                continue
            due, ended_early = self._readiness(plan, sessions, now_ns)
            if due:
                sealed += self._seal(plan, sessions, ended_early, now_ns)
                if not self._known.keys() >= set(self._layout.list_firings()):
                    break
        if self._pulls is not None:
            for clip in self._pulls.step(sessions, now_ns):
                self._count(clip)
                sealed.append(clip)
        self.status.waiting = len(self._layout.list_firings())
        return sealed

    def finish(self, now_ns: int) -> list[SealedClip]:
        """Seal what will get no more, also what was refused a moment ago. The others get their post-roll meanwhile."""
        sessions, waiting = self._look()
        clips: list[SealedClip] = []
        for plan in self._plans(waiting, sessions):
            due, ended_early = self._readiness(plan, sessions, now_ns)
            if due:
                clips += self._seal(plan, sessions, ended_early, now_ns)
        self.status.waiting = len(self._layout.list_firings())
        return clips

    def awaits(self, known_by: Mapping[str, Any]) -> bool:
        """Whether a clip that was begun as this one (`known_beforehand`) may still be cut: what it is for waits."""
        if (pull_id := known_by.get("pull_id")) is not None:
            return self._pulls is not None and self._pulls.awaits(str(pull_id))
        times_ns = known_by.get("firing_times_ns")
        return any(times_ns is None or waiting.firing.time_ns in times_ns for waiting in self._known.values())

    def awaits_runtime(self) -> bool:
        """Whether a firing waits for more from a run that still lives; which may be about to leave, too."""
        waiting = self._waiting()  # before the runs are listed: one may have started and fired in between
        alive = {run.record.session for run in list_sessions(self._layout) if run.state is SessionState.ALIVE}
        return any(firing.session in alive for firing in waiting)

    def watch(self) -> Sessions:
        """Take note of crashes and of what pulls need; the runs that are known. Cheap: a clip may take long."""
        sessions = {session.record.session: session for session in list_sessions(self._layout)}
        try:
            leave_crash_firings(self._layout, self._reader, sessions.values(), self._settings.crash_pre_s)
        except (McapFileError, OSError) as error:  # tmpfs is full: the crash is found again at the next step
            self.status.crashes_not_noted += 1
            self.status.last_error = f"a crash is not noted yet: {error}"
        try:
            if self._pulls is not None:
                self._pulls.note_needs(sessions)
        except (McapFileError, OSError) as error:
            self.status.last_error = f"what pulls need of history is not noted yet: {error}"
        return sessions

    @property
    def pulls(self) -> PullStatus:
        """What became of the fleet's wishes."""
        return PullStatus() if self._pulls is None else self._pulls.status

    # What is due

    def _look(self) -> tuple[Sessions, list[WaitingFiring]]:
        """The runs, and the firings of them that wait. One whose run is not known, even now, is given up by itself."""
        sessions = self.watch()
        waiting = self._waiting()
        sessions = with_runs_of(self._layout, sessions, [firing.session for firing in waiting])
        for orphan in (firing for firing in waiting if firing.session not in sessions):
            alone = ClipPlan(orphan.start_ns, orphan.end_ns, (orphan,))
            self._give_up(alone, HISTORY, "the session file of the runtime that fired is gone")
        return sessions, [firing for firing in waiting if firing.session in sessions]

    def _plans(self, waiting: Sequence[WaitingFiring], sessions: Sessions) -> list[ClipPlan]:
        """Clips of the waiting firings, urgent ones first. History limits the merging: no clip is longer than it."""
        plans = plan_clips(waiting, self._max_clip_ns(sessions))
        return sorted(plans, key=lambda plan: plan.priority.rank)

    def _readiness(self, plan: ClipPlan, sessions: Sessions, now_ns: int) -> tuple[bool, str | None]:
        """As `readiness`. History that cannot be looked at is for the cut to find out, which is tried again."""
        try:
            return readiness(self._reader, plan, sessions, now_ns)
        except (McapFileError, OSError) as error:
            self.status.last_error = f"clip {plan.clip_id}: {error}"
            return now_ns >= plan.end_ns + STALL_NS, None

    def _max_clip_ns(self, sessions: Sessions) -> int:
        alive_s = [session.record.history_s for session in sessions.values() if session.state is SessionState.ALIVE]
        longest_s = min([self._settings.max_clip_s, *(history_s - CUT_MARGIN_S for history_s in alive_s)])
        return round(longest_s * NANOSECONDS_PER_SECOND)

    def _waiting(self) -> list[WaitingFiring]:
        paths = self._layout.list_firings()
        listed = set(paths)
        self._known = {path: firing for path, firing in self._known.items() if path in listed}
        for path in paths:
            if path not in self._known:
                self._read(path)
        return list(self._known.values())

    def _read(self, path: Path) -> None:
        try:
            self._known[path] = read_firing(path)
        except FiringFileError as error:
            self.status.bad_firings += 1
            self.status.last_error = str(error)
            with suppress(OSError):  # else it is looked at again, and counted again
                set_aside(path)
        except OSError as error:
            self.status.last_error = f"a firing cannot be read: {error}"

    # Sealing

    def _seal(self, plan: ClipPlan, sessions: Sessions, ended_early: str | None, now_ns: int) -> list[SealedClip]:
        """What was sealed: the clip, or several where the policy refuses some of its firings; nothing: none could."""
        sealed: list[SealedClip] = []
        orders = deque([firing_order(plan, self._reader, sessions, ended_early)])
        while orders:
            order = orders.popleft()
            clip = self._attempt(order, now_ns)
            if isinstance(clip, SealingRefusal):
                orders.extend(self._obey(clip, order, sessions, now_ns))
            elif clip is not None:
                sealed.append(clip)
        return sealed

    def _attempt(self, order: CutOrder, now_ns: int) -> SealedClip | SealingRefusal | None:
        """One clip, or what the policy has against it; None: refused by the disk, or by history."""
        answers: list[Answer] = []

        def note(cut: ClipPlan, size_bytes: int) -> None:
            answers.extend(sealed_answers(cut, size_bytes))
            leave_intent(self._layout, Intent(cut.clip_id, [firing.path.name for firing in cut.firings], answers))

        try:
            clip = self._sealer.seal(order, note)
        except SealingRefusedError as error:
            return error.refusal
        except (ValueError, OSError) as error:  # a ValueError: a record that cannot be read, or that no clip can hold
            self._refuse(order.plan, error, now_ns)
            return None
        if isinstance(clip, SealedClip):
            self._tidy(order.plan, answers)
            self._count(clip)
        return clip

    def _count(self, clip: SealedClip) -> None:
        self.status.sealed += 1
        self.status.sealed_bytes += clip.size_bytes
        self.status.shrunk += clip.metadata.get("shrunk") is not None

    def _obey(self, refusal: SealingRefusal, order: CutOrder, sessions: Sessions, now_ns: int) -> list[CutOrder]:
        """No clip of the whole plan; of merged firings, what to cut of those that are not refused by themselves."""

        def judge(alone: ClipPlan) -> SealingRefusal | None:
            return self._sealer.judge(firing_order(alone, self._reader, sessions, None))

        try:
            parts, refused = admitted_parts(order.plan, refusal, judge, self._reader, self._max_clip_ns(sessions))
        except (ValueError, OSError) as error:  # of history
            self._refuse(order.plan, error, now_ns)
            return []
        for part, why in refused:
            self._refuse(part, SealingRefusedError(why), now_ns)
        ends = [self._readiness(part, sessions, now_ns)[1] for part in parts]  # one may have all of its post-roll
        return [firing_order(part, self._reader, sessions, end) for part, end in zip(parts, ends, strict=True)]

    def _tidy(self, plan: ClipPlan, answers: Sequence[Answer]) -> None:
        """After sealing, or giving up: the firings are answered."""
        self._answer(answers)
        for firing in plan.firings:
            firing.path.unlink(missing_ok=True)
        intent_path(self._layout, plan.clip_id).unlink(missing_ok=True)
        self._retry_at_ns.pop(plan.clip_id, None)

    def _refuse(self, plan: ClipPlan, error: Exception, now_ns: int) -> None:
        """Give up what can never be sealed; anything else is tried again while history has the seconds."""
        if isinstance(error, EmptyClipError):
            self._give_up(plan, HISTORY, str(error))
            return
        self.status.refused += 1
        refusal = error.refusal if isinstance(error, SealingRefusedError) else None
        is_past = self._reader.is_past(*plan.window_ns)
        if refusal is not None and (refusal.is_final or is_past):
            self._give_up(plan, PRIVACY, str(error), refusal.reason)
        elif is_past:
            loss = HISTORY if isinstance(error, ValueError) else DISK
            self._give_up(plan, loss, f"refused until history had nothing left of it: {error}")
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

    # After a crash, of the recorder or of the runtime

    def _settle_intents(self) -> None:
        """Finish what a killed recorder had sealed but not yet tidied up."""
        for path in self._layout.intents.glob("*.json"):
            try:
                intent = read_intent(path)
            except IntentFileError as error:  # its firings still wait: they are answered then
                self.status.last_error = str(error)
            else:
                if self._sink.holds(intent.clip_id):
                    self._answer(intent.answers)
                    for name in intent.firings:
                        (self._layout.firings / name).unlink(missing_ok=True)
            path.unlink()
