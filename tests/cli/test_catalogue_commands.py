"""`shadowrig catalogue`: an empty answer says that it is one, and an erasure of nobody is refused."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
import yaml

from runtime.cli import main
from runtime.cli.catalogue import CLIP_KINDS
from runtime.config import load_receiver_config
from runtime.recording.manifest import ClipManifest
from runtime.uplink.keys import enroll, new_keys, revoke
from runtime.uplink.storage.asking import has_vehicle
from runtime.uplink.storage.database import Database
from runtime.uplink.store import ClipStore, StoreLimits

SPAN = ("--from", "2026-11-20T08:00Z", "--to", "2026-11-20T09:00Z", "--reason", "request-4711")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    new_keys(tmp_path / "keys", "receiver")
    enroll(tmp_path / "keys", "car-1", new_keys(tmp_path / "car-1", "vehicle").public)
    path = tmp_path / "receiver.yaml"
    path.write_text(yaml.safe_dump({"bind": "tcp://127.0.0.1:*", "directory": "clips"}))
    store = ClipStore(tmp_path / "clips", StoreLimits())
    store.recover(0)
    store.close()  # as a receiver leaves it
    return path


def catalogue(config: Path, *arguments: str) -> int:
    return main(["catalogue", *arguments, "--config", str(config)])


def test_an_erasure_for_a_vehicle_that_nobody_knows_is_refused_unless_forced(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("car-l", "Car 1/../x"):
        assert catalogue(config, "erase", "--vehicle", name, *SPAN) == 2
        assert f"{name} was never enrolled" in capsys.readouterr().err
    assert catalogue(config, "log", "--json") == 0
    assert json.loads(capsys.readouterr().out) == [], "nothing was ordered"
    assert catalogue(config, "erase", "--vehicle", "car-l", *SPAN, "--force") == 0
    assert "nothing stored; what the vehicle still has of that time will be deleted unsent" in capsys.readouterr().out
    assert catalogue(config, "erase", "--vehicle", "car-l", *SPAN) == 2, "an order for nobody makes nobody known"


def test_an_enrolled_and_a_revoked_vehicle_can_be_erased_before_anything_came(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert catalogue(config, "erase", "--vehicle", "car-1", *SPAN) == 0
    revoke(load_receiver_config(config).keys_directory, "car-1")
    assert catalogue(config, "erase", "--vehicle", "car-1", *SPAN) == 0
    assert capsys.readouterr().out.count("nothing stored;") == 2


def test_a_vehicle_whose_clips_are_all_gone_is_still_known(config: Path, tmp_path: Path) -> None:
    database = Database(tmp_path / "clips" / "catalogue.sqlite")
    with database.writing() as connection:
        connection.exec_driver_sql(
            "INSERT INTO tombstones (vehicle, n, reason, wall_ns) VALUES ('car-2', 1, 'spool full', 5)"
        )
    assert has_vehicle(database, "car-2")
    assert not has_vehicle(database, "car-3")
    database.close()
    assert catalogue(config, "erase", "--vehicle", "car-2", *SPAN) == 0


@pytest.mark.parametrize("question", ["query", "log"])
def test_an_empty_answer_says_so_and_whether_the_vehicle_is_known(
    config: Path, capsys: pytest.CaptureFixture[str], question: str
) -> None:
    assert catalogue(config, question, "--vehicle", "nosuch", "--json") == 0
    told = capsys.readouterr()
    assert json.loads(told.out) == []
    assert "nosuch was never enrolled here and has sent nothing" in told.err
    assert catalogue(config, question, "--vehicle", "car-1") == 0
    told = capsys.readouterr()
    assert (told.out, "fits" in told.err, "never" in told.err) == ("", True, False)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (
            ("erase", "--vehicle", "car-1", "--from", "2026-11-20", "--to", "9999-12-31", "--reason", "x"),
            "1678 to 2261",
        ),
        (("query", "--to", "2300-01-01"), "1678 to 2261"),
        (("query", "--from", "0001-01-01"), "1678 to 2261"),
        (("query", "--from", "2026-11-20T08:00"), "has no offset from UTC"),
        (("query", "--limit", "-1"), "a limit of -1 clips"),
        (("query", "--after", "car-1", "99999999999999999999"), "no whole number"),
        (("fetch", "--vehicle", "car-1", "--number", "99999999999999999999", "--out", "x"), "no whole number"),
        (("fetch", "--vehicle", "car-1", "--number", "9223372036854775807", "--out", "x"), "no clip 922"),
        (("log", "--after", "99999999999999999999"), "no whole number"),
        (("log", "--limit", "-1"), "a limit of -1 entries"),
        (("log", "--limit", "10001"), "a limit of 10001 entries"),
    ],
)
def test_what_no_catalogue_can_hold_is_refused_by_name(
    config: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], complaint: str
) -> None:
    with contextlib.suppress(SystemExit):  # argparse ends so
        assert catalogue(config, *arguments) in (1, 2)
    told = capsys.readouterr().err
    assert complaint in told
    assert "SQLite" not in told


def test_the_log_shows_its_newest_entries_and_says_that_there_are_more(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(5):
        assert catalogue(config, "query") == 0

    def log(*arguments: str) -> tuple[list[int], str]:
        capsys.readouterr()
        assert catalogue(config, "log", *arguments, "--json", "-") == 0
        told = capsys.readouterr()
        return [entry["id"] for entry in json.loads(told.out)], told.err

    assert log() == ([1, 2, 3, 4, 5], "")
    assert log("--limit", "2") == ([4, 5], "there may be earlier ones: --after 0 begins with the oldest\n")
    assert log("--limit", "2", "--after", "0") == ([1, 2], "there may be more: --after 2\n")
    assert log("--limit", "2", "--after", "2") == ([3, 4], "there may be more: --after 4\n")
    assert log("--limit", "2", "--after", "4") == ([5], "")


def test_only_kinds_that_clips_have_can_be_asked_for(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        catalogue(config, "query", "--kind", "nonsense")
    assert "'event', 'crash', 'pull'" in capsys.readouterr().err
    assert ClipManifest.model_json_schema()["properties"]["kind"]["enum"] == list(CLIP_KINDS)
