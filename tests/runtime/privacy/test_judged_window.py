"""What a runtime records while its clip is judged and cut does not enter the clip: nobody looked at it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from runtime.formats.mcap_files import McapTopicReader
from runtime.messages import SignalSample
from runtime.privacy.policy import PrivacyPolicy, PrivacyRules
from runtime.recording.clip_plan import ClipPlan
from runtime.recording.clip_sink import FolderClipSink
from runtime.recording.history_reader import HistoryReader
from runtime.recording.history_writer import HistoryWriter
from runtime.recording.readiness import STALL_NS
from runtime.recording.recorder import Recorder
from runtime.recording.sealing_policy import ClipWindow, SealingRefusal, SignalHistory, Treatment
from runtime.recording.verify import verify_clip
from tests.runtime.privacy.private_history import north_of, zones_file
from tests.runtime.recording.recorded_rig import PERIOD_NS, SECOND_NS, START_NS, encode_camera, firing, session

SPEED_MPS = 20.0
NAMES = ("vehicle.latitude_deg", "vehicle.longitude_deg")


@dataclass
class WhileItDrives:
    """The real policy, over a runtime that goes on recording as soon as it has decided."""

    policy: PrivacyPolicy
    drive_on: Callable[[], None]

    def admit(self, plan: ClipPlan, window: ClipWindow, history: SignalHistory) -> Treatment | SealingRefusal:
        verdict = self.policy.admit(plan, window, history)
        self.drive_on()
        return verdict


def test_seconds_that_arrive_after_the_verdict_stay_out(tmp_path: Path) -> None:
    packets = encode_camera("front_main", 200)
    where = north_of(0, SPEED_MPS)
    writer = HistoryWriter(tmp_path / "history", 60.0, 256_000_000, session())

    def drive(start_s: float, end_s: float) -> None:
        for packet in packets[round(start_s * 20) : round(end_s * 20)]:
            place = where((packet.time_ns - START_NS) / SECOND_NS)
            assert place is not None
            writer.packet(packet)
            writer.signals([SignalSample(*one) for one in zip(NAMES, [packet.time_ns] * 2, place, strict=True)])

    zones = zones_file(tmp_path / "zones.yaml", 200)  # entered at 7.5 s
    rules = PrivacyRules(zone_files=(zones,), zone_margin_m=0.0)
    policy = WhileItDrives(PrivacyPolicy(rules), lambda: drive(6.5, 9.0))
    drive(0.0, 6.0)
    writer.firing(firing(5.9, pre_s=3.0, post_s=3.0))
    drive(6.0, 6.5)
    recorder = Recorder(tmp_path / "history", FolderClipSink(tmp_path / "clips"), policy=policy)
    (sealed,) = recorder.step(START_NS + 9 * SECOND_NS + STALL_NS)
    writer.close()
    with McapTopicReader(sealed.path, strict=True) as reader:
        times = reader.time_range_ns
    assert times is not None
    assert START_NS + 6 * SECOND_NS < times[1] < START_NS + round(6.5 * SECOND_NS)
    assert verify_clip(sealed.path).problems == []


def test_a_newest_second_with_late_records_only_does_not_hide_the_one_before(tmp_path: Path) -> None:
    writer = HistoryWriter(tmp_path, 60.0, 256_000_000, session())
    packets = encode_camera("front_main", 41)
    for packet in packets[:40]:
        writer.packet(packet)
    writer.close()
    again = HistoryWriter(tmp_path, 60.0, 256_000_000, session("second"))
    again.packet(packets[30])  # opens a segment of its own
    again.close()
    reader = HistoryReader(tmp_path)
    assert reader.last_time_ns(START_NS, START_NS + 9 * SECOND_NS) == START_NS + 39 * PERIOD_NS
