"""From a plan to a sealed clip: asks the policy, asks for room, cuts, seals. What asked for the clip is not known here.

    order = CutOrder(plan, source, provenance, ...)      a firing's, from history; or a pull's, from either source
    sealer.seal(order, note)                             the sealed clip, or why there is none

Where the sink has room for less only (`ShrinkToError`), the plan is cut down and the manifest says so. `note` is called
when the clip is written and before it is sealed: what it leaves behind tells a recorder that was killed in between.
What is known before the first byte (whose clip it is, what the policy judged and does) goes with the reservation, so
that half a clip which a power cut leaves can be told from others, and sealed where that is lawful.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from runtime.formats.mcap_files import McapFileError
from runtime.messages import NANOSECONDS_PER_SECOND, ClipVariant
from runtime.recording.clip_plan import ClipPlan
from runtime.recording.clip_sink import ClipSink, OpenClip, SealedClip
from runtime.recording.clip_writer import ClipCut
from runtime.recording.delivery_metadata import delivery_metadata, known_beforehand
from runtime.recording.provenance import Provenance
from runtime.recording.readiness import Sessions
from runtime.recording.record_source import RecordSource
from runtime.recording.sealing_policy import SealingPolicy, SealingRefusal, Treatment
from runtime.recording.shrinking import ShrinkToError, extent_of, shrink
from runtime.recording.thumbnails import ThumbnailSettings

#: A sink that keeps asking for less is taken at its word this often: who grows beyond what was reserved is halved each
#: time, down to one camera and then to a few seconds. Sixteen cameras and the longest clip take eleven attempts.
MAX_SHRINKS = 16
#: A policy may have a clip begin later, and again where the seconds that it named went meanwhile.
MAX_LATER_STARTS = 4
#: What a clip takes beside its records: manifest and index, and where it is locked the lock's header and its tags.
_OVERHEAD_BYTES, _OVERHEAD_SHARE = 32 * 1024, 1024
#: Of that the manifest names each firing, twice.
_FIRING_BYTES = 2 * 1024

#: Called with the plan as it was cut and the clip's bytes.
Note = Callable[[ClipPlan, int], None]


@dataclass(frozen=True, slots=True)
class CutOrder:
    """What to cut, and from what."""

    plan: ClipPlan
    source: RecordSource
    provenance: Provenance  # at the first firing
    rules_in_force: Sequence[str]  # the rules' fingerprint at each firing
    ended_early: str | None  # why the post-roll is short
    not_before_ns: int = 0  # what was captured earlier stays out: so the policy has it


def firing_order(plan: ClipPlan, source: RecordSource, sessions: Sessions, ended_early: str | None) -> CutOrder:
    """What to cut for firings, all of runs that are known: with what ran, and by which rules, at each of them."""
    ran = [sessions[waiting.session].provenance_at(waiting.firing.time_ns) for waiting in plan.firings]
    return CutOrder(plan, source, ran[0], [provenance.rules_sha256 for provenance in ran], ended_early)


class Sealer:
    """Seals into one sink under one policy."""

    def __init__(self, sink: ClipSink, policy: SealingPolicy, thumbnails: ThumbnailSettings) -> None:
        self._sink = sink
        self._policy = policy
        self._thumbnails = thumbnails

    def judge(self, order: CutOrder) -> SealingRefusal | None:
        """What the policy has against a clip, or what kept it from judging; None when the clip may be sealed."""
        try:
            _, _, verdict = self._admitted(order)
        except (McapFileError, OSError) as error:
            return SealingRefusal("unreadable", str(error), is_final=False)
        return verdict if isinstance(verdict, SealingRefusal) else None

    def seal(self, order: CutOrder, note: Note) -> SealedClip | SealingRefusal:
        """The sealed clip, or the policy's refusal.

        Raises OSError (no room, or the disk failed: try again), McapFileError (a record cannot be read), EmptyClipError
        (nothing is held of it), and SealingRefusedError (the policy refuses what it saw in the middle).
        """
        for _ in range(MAX_SHRINKS):
            order, cut, treatment = self._admitted(order)
            if isinstance(treatment, SealingRefusal):
                return treatment
            known_by = {
                **known_beforehand(order.plan, cut.window, cut.cameras, order.provenance),
                **treatment.metadata(),
                "verdict": dict(treatment.verdict()),
            }
            sealed = order.source.sealed_before
            cut_from = None if sealed is None else sealed.number or None
            extent = replace(extent_of(order.plan, cut.cameras), known_by=known_by, cut_from=cut_from)
            try:
                draft = self._sink.begin(self._expected_bytes(order, cut), order.plan.priority, extent)
                return self._write(order.plan, cut, treatment, draft, note, known_by)
            except ShrinkToError as limit:
                order = replace(order, plan=shrink(order.plan, extent, limit))
        raise OSError(f"clip {order.plan.clip_id}: the sink asked for less {MAX_SHRINKS} times")

    def _admitted(self, order: CutOrder) -> tuple[CutOrder, ClipCut, Treatment | SealingRefusal]:
        """The order as the policy will have it begin, its cut, and what is done to it, or why there is none."""
        for _ in range(MAX_LATER_STARTS):
            cut = self._cut(order)
            verdict = self._policy.admit(order.plan, cut.window, order.source)
            later_ns = verdict.admitted_from_ns if isinstance(verdict, SealingRefusal) else None
            if later_ns is None or later_ns <= order.not_before_ns:
                break
            order = replace(order, not_before_ns=later_ns)
        return order, cut, verdict

    def _write(
        self,
        plan: ClipPlan,
        cut: ClipCut,
        treatment: Treatment,
        draft: OpenClip,
        note: Note,
        known_by: Mapping[str, Any],
    ) -> SealedClip:
        try:
            output = draft.open()
            manifest = cut.write(output, treatment, known_by)
            size_bytes = output.tell()
            note(plan, size_bytes)
            return draft.seal({**delivery_metadata(manifest, size_bytes), **treatment.metadata()})
        except BaseException:
            draft.discard()
            raise

    def _cut(self, order: CutOrder) -> ClipCut:
        return ClipCut(
            order.source,
            order.plan,
            order.provenance,
            order.ended_early,
            order.rules_in_force,
            self._thumbnails,
            order.not_before_ns,
        )

    def _expected_bytes(self, order: CutOrder, cut: ClipCut) -> int:
        """What the seconds from its first frame on weigh, which may lie a GOP before the window, and what is added.

        An upper bound of what the clip will, unless it had to shrink or blurred frames grew.
        """
        plan, start_ns, end_ns = order.plan, cut.window.start_ns, order.plan.window_ns[1]
        expected = order.source.bytes_between(start_ns, end_ns)
        if plan.shrunk is not None:
            rig = max(1, len(order.source.cameras(start_ns, end_ns)))
            expected = expected * max(1, len(cut.cameras)) // rig
        if plan.variant is ClipVariant.THUMBNAILS:
            duration_s = (end_ns - start_ns) / NANOSECONDS_PER_SECOND
            expected = min(expected, self._thumbnails.expected_bytes(len(cut.cameras), duration_s))
        return expected + expected // _OVERHEAD_SHARE + _OVERHEAD_BYTES + _FIRING_BYTES * len(plan.firings)
