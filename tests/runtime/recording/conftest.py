"""Fixtures of the recording tests: encoded cameras, histories on disk, a sealed clip."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from recorded_rig import CAMERAS, SECOND_NS, SIZE, START_NS, Recording, encode_camera, firing, session

from runtime.messages import Firing, Packet
from runtime.recording.clip_sink import FolderClipSink
from runtime.recording.history_writer import HistoryWriter
from runtime.recording.recorder import Recorder


@pytest.fixture(scope="session")
def rig_packets() -> dict[str, list[Packet]]:
    """Fourteen seconds of eight cameras; each starts 1 ms after the one before, as rolling triggers do."""
    return {
        camera: encode_camera(camera, 280, START_NS + row * 1_000_000, seed=row) for row, camera in enumerate(CAMERAS)
    }


@pytest.fixture
def record_history(tmp_path: Path, rig_packets: dict[str, list[Packet]]) -> Iterator[Callable[..., Path]]:
    """Writes a history; `close=False` leaves it as a living runtime would."""

    def record(
        *firings: Firing,
        packets: dict[str, list[Packet]] | None = None,
        until_s: float = 14.0,
        seconds: float = 60.0,
        close: bool = True,
    ) -> Path:
        directory = tmp_path / "history"
        writer = HistoryWriter(directory, seconds, 256_000_000, session(history_s=seconds))
        writer.calibrate("front_main", *SIZE, (100, 0, 80, 0, 100, 48, 0, 0, 1))
        Recording(packets if packets is not None else rig_packets, firings, until_s).write(writer)
        if close:
            writer.close()
        else:
            living.append(writer)
        return directory

    living: list[HistoryWriter] = []
    yield record
    for writer in living:
        writer.close()


@pytest.fixture
def clip(record_history: Callable[..., Path], tmp_path: Path) -> Path:
    """A sealed clip of eight cameras: 3 s before and 2 s after a takeover at 6 s."""
    history = record_history(firing(6.0))
    sealed = Recorder(history, FolderClipSink(tmp_path / "clips")).step(START_NS + 14 * SECOND_NS)
    return sealed[0].path


@pytest.fixture(scope="session")
def _short_clip(rig_packets: dict[str, list[Packet]], tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("short")
    writer = HistoryWriter(folder / "history", 60, 256_000_000, session())
    writer.calibrate("front_main", *SIZE, (100, 0, 80, 0, 100, 48, 0, 0, 1))
    Recording(rig_packets, (firing(6.0, pre_s=1.0, post_s=1.0),)).write(writer)
    writer.close()
    sealed = Recorder(folder / "history", FolderClipSink(folder / "clips")).step(START_NS + 14 * SECOND_NS)
    return sealed[0].path.read_bytes()


@pytest.fixture
def short_clip(_short_clip: bytes, tmp_path: Path) -> Path:
    """A sealed clip of eight cameras: a second before and a second after a takeover at 6 s."""
    path = tmp_path / "short.mcap"
    path.write_bytes(_short_clip)
    return path
