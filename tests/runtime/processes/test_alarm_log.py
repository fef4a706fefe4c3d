"""Alarms reach people: each once in the log, whoever raised it, and the newest in the status and in the doctor."""

from __future__ import annotations

import logging
import os
import sqlite3
from pathlib import Path

import pytest
from live_processes import Command, Daemon

from runtime.health.status import write_status
from runtime.processes.alarm_log import LISTED_ALARMS, AlarmLog, newest_alarm
from runtime.spool import Spool
from runtime.spool.accounts import ALARMS_AT_ONCE

QUOTA_BYTES = 64 << 20


def seal(spool: Spool) -> int:
    draft = spool.begin(100)
    draft.path.write_bytes(os.urandom(100))
    return spool.seal(draft, {}).n


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    texts = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    caplog.clear()
    return texts


def test_each_alarm_is_logged_once_by_whoever_looks_first_and_not_again_after_a_start(tmp_path, caplog):
    with Spool.open(tmp_path, QUOTA_BYTES) as recorder, Spool.open(tmp_path, QUOTA_BYTES) as uploader:
        logs = AlarmLog(recorder), AlarmLog(uploader)
        recorder.tombstone(seal(recorder), "its hash is wrong")
        uploader.tombstone(seal(recorder), "it is\nunreadable")
        for log in logs:
            log.step()
        assert told(caplog) == ["spool alarm: clip 1: its hash is wrong", "spool alarm: clip 2: it is?unreadable"]
        assert [alarm["text"] for alarm in logs[1].newest] == ["clip 2: it is?unreadable", "clip 1: its hash is wrong"]
        assert all(alarm["wall_ns"] > 10**18 for alarm in logs[1].newest)
        recorder.tombstone(seal(recorder), "late")
        logs[1].step()
        assert told(caplog) == ["spool alarm: clip 3: late"]
    with Spool.open(tmp_path, QUOTA_BYTES) as spool:
        again = AlarmLog(spool)
        again.step()
        assert told(caplog) == []
        assert len(again.newest) == 3


def test_many_alarms_are_told_in_parts_and_the_status_lists_the_newest_few(tmp_path, caplog):
    with Spool.open(tmp_path, QUOTA_BYTES) as spool:
        with sqlite3.connect(spool.folder.ledger) as connection:
            rows = [(n, f"alarm {n}") for n in range(ALARMS_AT_ONCE + 5)]
            connection.executemany("INSERT INTO alarms (wall_ns, text) VALUES (?, ?)", rows)
        connection.close()
        log = AlarmLog(spool)
        log.step()
        assert told(caplog) == [f"spool alarm: alarm {n}" for n in range(ALARMS_AT_ONCE)]
        log.step()
        assert len(told(caplog)) == 5
        log.step()
        assert told(caplog) == []
        assert [alarm["wall_ns"] for alarm in log.newest] == [ALARMS_AT_ONCE + 4 - n for n in range(LISTED_ALARMS)]


def test_a_ledger_that_is_gone_is_said_once_and_what_was_listed_stays(tmp_path, caplog):
    with Spool.open(tmp_path, QUOTA_BYTES) as spool:
        spool.tombstone(seal(spool), "known")
        log = AlarmLog(spool)
        log.step()
        told(caplog)
        spool.folder.ledger.unlink()
        log.step()
        log.step()
        (text,) = told(caplog)
        assert "cannot be told" in text
        assert len(log.newest) == 1


def test_the_doctor_shows_the_newest_alarm_of_the_recorders_status(tmp_path):
    assert "no recorder has run" in newest_alarm(tmp_path)
    path = tmp_path / "recorder.json"
    write_status(path, {"spool": {"alarms": 0, "newest_alarms": []}}, 1)
    assert newest_alarm(tmp_path) == "none"
    newest = [{"wall_ns": 1_790_000_000 * 10**9, "text": "clip 7: evicted"}]
    write_status(path, {"spool": {"alarms": 3, "newest_alarms": newest}}, 1)
    assert newest_alarm(tmp_path) == "3 alarms so far; the newest, 2026-09-21 14:13:20 UTC: clip 7: evicted"
    write_status(path, {"spool": {"alarms": 3}}, 1)
    with pytest.raises(ValueError, match="says nothing of alarms"):
        newest_alarm(tmp_path)


def test_a_clip_that_vanished_while_nobody_ran_is_told_by_the_recorders_log_and_status(
    vehicle: Daemon, commands: list[Command]
) -> None:
    directory: Path = vehicle.folder / "state" / "spool"
    with Spool.open(directory, QUOTA_BYTES) as spool:
        seal(spool)
        (lost,) = [clip.path for clip in spool.pending()]
    lost.unlink()
    commands.append(vehicle.start("recorder"))
    status = vehicle.wait_for("recorder", lambda status: status["spool"]["newest_alarms"], "the alarm in the status")
    (alarm,) = status["spool"]["newest_alarms"]
    assert "clip 1: the file disappeared" in alarm["text"]
    assert commands[0].stop() == 0
    assert commands[0].output.count(f"WARNING shadowrig: spool alarm: {alarm['text']}") == 1
