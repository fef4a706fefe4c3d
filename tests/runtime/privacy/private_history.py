"""Histories with a vehicle that drives somewhere, and recorders with a privacy policy over them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from runtime.formats import topics
from runtime.formats.mcap_files import McapTopicReader, RawMessage
from runtime.messages import Firing, Packet, SignalSample
from runtime.privacy.policy import PrivacyPolicy, PrivacyRules
from runtime.recording.answers import Answer, read_answer
from runtime.recording.clip_sink import FolderClipSink, SealedClip
from runtime.recording.history_writer import HistoryWriter
from runtime.recording.layout import HistoryLayout
from runtime.recording.recorder import Recorder
from tests.runtime.recording.recorded_rig import SECOND_NS, START_NS, encode_camera, firing, session, tick_report

#: In the middle of the Baltic Sea. A degree of latitude is 111.2 km there, one of longitude 62.2 km.
LATITUDE_DEG, LONGITUDE_DEG = 56.01234567, 18.51234567
METRES_PER_DEGREE = 111_195.0
END_NS = START_NS + 14 * SECOND_NS
Place = tuple[float, float] | None


def north_of(start_m: float, speed_mps: float = 0.0) -> Callable[[float], Place]:
    """A drive to the north, so many metres from the usual place at second 0."""
    return lambda at_s: (LATITUDE_DEG + (start_m + speed_mps * at_s) / METRES_PER_DEGREE, LONGITUDE_DEG)


def write_history(
    directory: Path,
    where: Callable[[float], Place],
    firings: Iterable[Firing] = (),
    packets: dict[str, list[Packet]] | None = None,
    until_s: float = 14.0,
    fix_period_s: float = 0.1,
    extra: Iterable[SignalSample] = (),
) -> Path:
    """A run that ended: one camera unless `packets` has others, positions, ticks, firings."""
    packets = packets or {"front_main": encode_camera("front_main", round(until_s * 20))}
    items: list[tuple[int, str, object]] = [(p.time_ns, "packet", p) for line in packets.values() for p in line]
    for index in range(round(until_s / fix_period_s)):
        time_ns = START_NS + round(index * fix_period_s * SECOND_NS)
        place = where(index * fix_period_s)
        if place is not None:
            names = zip(("vehicle.latitude_deg", "vehicle.longitude_deg"), place, strict=True)
            items.append((time_ns, "signals", [SignalSample(name, time_ns, value) for name, value in names]))
    for index in range(round(until_s * 20)):
        items.append((START_NS + index * 50_000_000 + 1, "tick", tick_report(index, tuple(packets))))
    items += [(sample.time_ns, "signals", [sample]) for sample in extra]
    items += [(one.time_ns + 2, "firing", one) for one in firings]
    writer = HistoryWriter(directory, 60.0, 256_000_000, session())
    for _, kind, value in sorted(items, key=lambda item: item[0]):
        getattr(writer, kind)(value)
    writer.close()
    return directory


def placed_firing(at_s: float, place: tuple[float, float] = (LATITUDE_DEG, LONGITUDE_DEG), **facts: object) -> Firing:
    """A firing whose operands tell the place in every way that a rule can."""
    operands = {
        "vehicle.latitude_deg": place[0],
        "vehicle.longitude_deg": place[1],
        "vehicle.speed_mps": 12.5,
        "lat": place[0],
        "twice": 2 * place[1],
    }
    return replace(firing(at_s, **facts), operands=operands, score=place[0])  # type: ignore[arg-type]


def zones_file(path: Path, north_m: float, radius_m: float = 50.0) -> Path:
    """One circle around a place so far north of the usual one."""
    latitude_deg = LATITUDE_DEG + north_m / METRES_PER_DEGREE
    circle = {"latitude_deg": latitude_deg, "longitude_deg": LONGITUDE_DEG, "radius_m": radius_m}
    path.write_text(json.dumps({"zones": {"clinic": {"circle": circle}}}))
    return path


def recorder_with(history: Path, clips: Path, policy: PrivacyPolicy | PrivacyRules) -> Recorder:
    """A recorder over it that seals into a folder."""
    policy = policy if isinstance(policy, PrivacyPolicy) else PrivacyPolicy(policy)
    return Recorder(history, FolderClipSink(clips), policy=policy)


def seal(history: Path, clips: Path, policy: PrivacyPolicy | PrivacyRules) -> tuple[Recorder, list[SealedClip]]:
    """One step after everything is in."""
    recorder = recorder_with(history, clips, policy)
    return recorder, recorder.step(END_NS)


def answers(history: Path) -> list[Answer]:
    """What the runtime would be told."""
    return [read_answer(path) for path in HistoryLayout(history).list_answers()]


def everything_in(clip: Path) -> bytes:
    """All that a clip says, uncompressed: messages, their channels, metadata, attachments."""
    parts: list[bytes] = []
    with McapTopicReader(clip, strict=True) as reader:
        parts += [message.data for message in reader.messages() if message.channel.schema_name != topics.VIDEO_SCHEMA]
        parts += [repr(reader.channels).encode(), json.dumps(reader.metadata()).encode()]
        parts += list(reader.attachments().values())
    return b"\n".join(parts)


def video_messages(packets: Iterable[Packet]) -> list[RawMessage]:
    """Packets as messages."""
    from runtime.formats.foxglove_messages import encode_video

    return [
        RawMessage(
            topics.video_channel(packet.camera, packet.codec, packet.transcoded),
            packet.time_ns,
            packet.wall_ns,
            packet.sequence,
            encode_video(packet),
        )
        for packet in packets
    ]
