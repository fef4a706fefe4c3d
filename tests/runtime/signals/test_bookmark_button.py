"""A press of the bookmark button reaches rules whatever brings it and however short it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cantools
import pytest

from runtime.composition import open_signals
from runtime.drives import open_drive
from runtime.drives.can_decoding import CanSignalSource, build_decoder
from runtime.formats.zeromq_wire import decode_signals, encode_signals
from runtime.messages import SignalSample
from triggers import RuleEngine, load_rules

MILLISECOND = 1_000_000
SECOND = 1_000_000_000
DBC = """\
VERSION ""
BO_ 900 WHEEL_BUTTONS: 8 XXX
 SG_ BOOKMARK : 0|1@1+ (1,0) [0|1] "" XXX
"""
#: Presses of 4 ms, the first at once after the start, the last long after the one before it.
PRESSES_NS = (310 * MILLISECOND, 910 * MILLISECOND, 90 * SECOND + 10 * MILLISECOND)


def _edges() -> list[tuple[int, int]]:
    return [edge for at_ns in PRESSES_NS for edge in ((at_ns, 1), (at_ns + 4 * MILLISECOND, 0))]


def _over_zeromq(folder: Path) -> Sequence[SignalSample]:
    sent = [SignalSample("vehicle.bookmark", time_ns, bool(value)) for time_ns, value in _edges()]
    return decode_signals(encode_signals(sent, 0))


def _over_can(folder: Path) -> Sequence[SignalSample]:
    place = CanSignalSource(bus="can0", message="WHEEL_BUTTONS", signal="BOOKMARK")
    decoder, _ = build_decoder(cantools.database.load_string(DBC), {"vehicle.bookmark": place}, default_bus="can0")
    frames = [decoder.decode("can0", 900, bytes([value] + [0] * 7), time_ns) for time_ns, value in _edges()]
    return [sample for frame in frames for sample in frame]


def _from_a_table(folder: Path) -> Sequence[SignalSample]:
    (folder / "vehicle.csv").write_text(
        "mono_ns,bookmark\n" + "".join(f"{time_ns},{value}\n" for time_ns, value in _edges())
    )
    (folder / "drive.yaml").write_text("name: d\nsignals: {vehicle: vehicle.csv}\n")
    return list(open_drive(folder).signal_samples())


@pytest.mark.parametrize("source", [_over_zeromq, _over_can, _from_a_table])
def test_every_press_fires_once(source: Callable[[Path], Sequence[SignalSample]], tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(
        "rules:\n  - {name: bookmark, description: Marked., when: rising(vehicle.bookmark), cooldown_s: 0.1}\n"
    )
    engine = RuleEngine(load_rules([rules]), seed=0)
    table, samples, fired_ns = open_signals({}), list(source(tmp_path)), []
    for time_ns in range(0, 91 * SECOND, 50 * MILLISECOND):
        while samples and samples[0].time_ns <= time_ns:
            assert table.offer(samples.pop(0))
        fired_ns += [firing.time_ns for firing in engine.evaluate(None, table.at(time_ns), time_ns, time_ns)]
    assert fired_ns == [350 * MILLISECOND, 950 * MILLISECOND, 90 * SECOND + 50 * MILLISECOND]
