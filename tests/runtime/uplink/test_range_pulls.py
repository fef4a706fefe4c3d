"""`shadowrig pull` to a clip in the catalogue, over real encrypted sockets; and what becomes of pulls that go wrong."""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from pathlib import Path

import pytest
import yaml
from live_receiver import HELLO, PATIENCE_S, VEHICLE, RunningReceiver, ask, heard, wait_for

from runtime.cli import main
from runtime.clock import SystemClock
from runtime.formats.pull_files import PullAnswer, PullFolder, PullRequest
from runtime.messages import Priority
from runtime.spool import Spool
from runtime.uplink import receiver as receiver_module
from runtime.uplink import reception
from runtime.uplink.keys import load_keys
from runtime.uplink.pull_book import MAX_PENDING_A_VEHICLE, PullBook, TooManyPullsError
from runtime.uplink.reception import Reception
from runtime.uplink.sockets import vehicle_socket
from runtime.uplink.storage.database import Database
from runtime.uplink.uploader import Uploader, UploaderSettings
from runtime.uplink.wire import Nack, Pull, PullResult, Welcome, encode

HOUR_NS = 3600 * 1_000_000_000
REQUEST = PullRequest("a1", ("front",), 100, 200)


@pytest.fixture
def database(tmp_path):
    (tmp_path / "receiver").mkdir()
    opened = Database(tmp_path / "receiver" / "catalogue.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def book(database):
    return PullBook(database)


@pytest.fixture
def running(tmp_path, keys, book):
    receiver = RunningReceiver(tmp_path / "receiver", keys[1], pulls=book)
    yield receiver
    receiver.end()
    assert receiver.error is None


@pytest.fixture
def config(tmp_path, keys) -> Path:
    facts = {"bind": "tcp://127.0.0.1:5588", "directory": str(tmp_path / "receiver"), "keys": str(keys[1])}
    path = tmp_path / "receiver.yaml"
    path.write_text(yaml.safe_dump(facts))
    return path


class Vehicle:
    """A spool, an uploader in a thread, and a recorder that answers when the test says so."""

    def __init__(self, folder: Path, address: str, keys: Path, receiver_key: bytes) -> None:
        self.spool = Spool.open(folder, 64 << 20)
        self.recorder = PullFolder(folder)
        self.stop = threading.Event()
        settings = UploaderSettings(address, keys, backoff_first_s=0.05)
        self.uploader = Uploader(
            self.spool,
            settings,
            load_keys(keys, "vehicle"),
            receiver_key,
            SystemClock(),
            random.Random(1),
            lambda figures: None,
            pulls=PullFolder(folder),
        )
        self.thread = threading.Thread(target=self.uploader.run, args=(self.stop,), daemon=True)
        self.thread.start()

    def end(self) -> None:
        self.stop.set()
        self.thread.join(PATIENCE_S)
        self.spool.close()


@pytest.fixture
def car(tmp_path, running, keys):
    vehicle = Vehicle(tmp_path / "spool", running.address, keys[0], running.own.public)
    yield vehicle
    vehicle.end()


def asked_for(car: Vehicle) -> PullRequest:
    wait_for(car.recorder.requests, "the request to reach the recorder")
    (request,) = car.recorder.requests()
    return request


def test_a_range_is_asked_for_sealed_and_delivered(car, running, book, config, capsys):
    arguments = ["--camera", "front", "--from", "2026-11-21T09:30:00+01:00", "--to", "+15s"]
    assert main(["pull", VEHICLE, "--config", str(config), *arguments, "--json"]) == 0
    asked = json.loads(capsys.readouterr().out)[0]
    request = asked_for(car)
    assert (request.id, request.cameras, request.clock) == (asked["id"], ("front",), "wall")
    assert request.end_ns - request.start_ns == 15 * 1_000_000_000
    assert request.start_ns == 1795249800 * 1_000_000_000
    draft = car.spool.begin(1000, Priority.HIGH)
    draft.path.write_bytes(b"the pulled seconds")
    clip = car.spool.seal(draft, {"kind": "pull", "pull_id": request.id})
    car.recorder.answer(PullAnswer(request.id, "sealed", n=clip.n))
    wait_for(lambda: book.find(request.id).state == "sealed", "the RESULT")
    assert book.find(request.id).n == clip.n
    wait_for(lambda: car.spool.counts().delivered == 1, "the clip")
    wait_for(lambda: not car.recorder.answers(), "the echo")
    assert running.receiver.store.catalogue.clips(Path(), VEHICLE)[0].key.n == clip.n
    assert car.uploader.delivery.statistics.pulls_answered == 1


def test_a_vehicle_that_has_nothing_of_it_says_why(car, book, config, capsys):
    stop_waiting = threading.Thread(
        target=lambda: car.recorder.answer(PullAnswer(asked_for(car).id, "refused", "history begins 09:31:02"))
    )
    stop_waiting.start()
    arguments = ["pull", VEHICLE, "--config", str(config), "--from", "1000", "--to", "2000", "--clock", "capture"]
    assert main([*arguments, "--wait", "10s"]) == 1
    stop_waiting.join()
    assert "refused history begins 09:31:02" in capsys.readouterr().out
    assert main(["pull", "--list", "--config", str(config)]) == 0
    assert "refused" in capsys.readouterr().out


def test_a_vehicle_without_a_recorder_refuses(tmp_path, running, keys, book):
    with Spool.open(tmp_path / "spool", 64 << 20) as spool:
        uploader = Uploader(
            spool,
            UploaderSettings(running.address, keys[0]),
            load_keys(keys[0], "vehicle"),
            running.own.public,
            SystemClock(),
            random.Random(1),
            lambda figures: None,
        )
        stop = threading.Event()
        thread = threading.Thread(target=uploader.run, args=(stop,))
        thread.start()
        book.ask(VEHICLE, REQUEST, 0, SystemClock().wall_ns() + HOUR_NS)
        wait_for(lambda: book.find("a1").state == "refused", "the refusal")
        stop.set()
        thread.join(PATIENCE_S)
    assert "no range pulls" in book.find("a1").reason


def test_a_request_is_repeated_until_it_is_answered_and_then_no_more(
    context, running, own, book, monkeypatch, tmp_path
):
    monkeypatch.setattr(reception, "PULL_REPEAT_S", 0.1)
    book.ask(VEHICLE, REQUEST, 0, SystemClock().wall_ns() + HOUR_NS)
    socket = vehicle_socket(context, own, running.own.public)
    socket.connect(running.address)
    assert isinstance(ask(socket, HELLO), Welcome)
    assert [heard(socket), heard(socket)] == [Pull("a1", ("front",), 100, 200, "capture", "high")] * 2
    result = PullResult("a1", "sealed", "", 7)
    assert ask(socket, [encode(result), b""]) in (result, Pull("a1", ("front",), 100, 200, "capture", "high"))
    wait_for(lambda: book.find("a1").n == 7, "the record")
    while heard(socket, 2500) is not None:
        pass  # what was under way; then silence for longer than the receiver's period
    assert isinstance(ask(socket, [encode(PullResult("a1", "refused", "changed my mind", 0)), b""]), PullResult)
    assert book.find("a1").n == 7, "the first answer stands"


def test_a_vehicle_answers_for_itself_alone(context, running, own, book):
    book.ask("car-2", REQUEST, 0, SystemClock().wall_ns() + HOUR_NS)
    socket = vehicle_socket(context, own, running.own.public)
    socket.connect(running.address)
    assert ask(socket, [encode(PullResult("a1", "refused", "not mine", 0)), b""]) == PullResult(
        "a1", "refused", "not mine", 0
    ), "echoed, so that it lets go"
    assert book.find("a1").state == "pending"
    contradiction = ask(socket, [encode(PullResult("a1", "sealed", "", 0)), b""])
    assert isinstance(contradiction, Nack)
    assert contradiction.code == "malformed"


def test_old_requests_expire_and_cancelled_ones_are_not_asked(book, config, keys, capsys):
    book.ask(VEHICLE, REQUEST, 0, 1000)
    assert book.waiting([VEHICLE], 10, 999) == [(VEHICLE, REQUEST)]
    assert book.waiting(["car-2"], 10, 999) == []
    assert book.waiting([VEHICLE], 10, 1000) == []
    assert book.find("a1").state == "expired"
    book.ask(VEHICLE, PullRequest("b2", (), 1, 2), 0, 10**19 // 2)
    assert main(["pull", "--config", str(config), "--cancel", "b2"]) == 0
    assert book.find("b2").state == "cancelled"
    assert main(["pull", "--config", str(config), "--cancel", "b2"]) == 1
    assert "no pull b2 waits" in capsys.readouterr().err


def test_what_waits_of_one_vehicle_is_bounded(book):
    for index in range(MAX_PENDING_A_VEHICLE):
        book.ask(VEHICLE, PullRequest(f"p{index}", (), 1, 2), index, HOUR_NS)
    with pytest.raises(TooManyPullsError, match=f"{MAX_PENDING_A_VEHICLE} pulls"):
        book.ask(VEHICLE, REQUEST, 0, HOUR_NS)
    book.ask("car-2", REQUEST, 0, HOUR_NS)


def asked_in_turn(book, vehicles: list[str], rounds: int) -> list[tuple[str, str]]:
    """What a receiver asks in so many rounds of two seconds."""
    receiver = Reception(None, 1 << 20, pulls=book)
    asked = []
    for at in range(rounds):
        asked += [(vehicle, pull.id) for vehicle, pull, _ in receiver.pulls_due(vehicles, at * 2 * 10**9)]
    return asked


def test_pulls_that_one_vehicle_leaves_unanswered_keep_no_other_from_being_asked(book):
    for index in range(MAX_PENDING_A_VEHICLE):
        book.ask("silent", PullRequest(f"p{index}", (), 1, 2), index, HOUR_NS)
    book.ask(VEHICLE, PullRequest("wanted", (), 1, 2), 100, HOUR_NS)
    (*_, last) = first = asked_in_turn(book, ["silent", VEHICLE], 1)
    assert last == (VEHICLE, "wanted")
    assert len(first) == 33, "half of the round for each"
    later = asked_in_turn(book, ["silent", VEHICLE], 3)
    assert len(set(later)) == len(later) == MAX_PENDING_A_VEHICLE + 1, "each once within half a minute"


def test_every_vehicle_has_its_turn_whatever_its_name(book):
    names = [f"car-{index:03d}" for index in range(200)]
    for name in names:
        book.ask(name, PullRequest(f"of-{name}", (), 1, 2), 5, HOUR_NS)
    assert [vehicle for vehicle, _ in asked_in_turn(book, names, 4)] == names, "64 in each round"
    often = Counter(asked_in_turn(book, names, 17))
    assert set(often.values()) == {1, 2}, "again after half a minute"


def test_a_vehicle_that_has_left_is_asked_no_more(context, running, own, book, monkeypatch):
    monkeypatch.setattr(reception, "PULL_REPEAT_S", 0.0)
    monkeypatch.setattr(receiver_module, "PULL_PERIOD_S", 0.05)
    book.ask(VEHICLE, REQUEST, 0, SystemClock().wall_ns() + HOUR_NS)
    socket = vehicle_socket(context, own, running.own.public)
    socket.connect(running.address)
    assert isinstance(ask(socket, HELLO), Welcome)
    socket.close(0)
    wait_for(lambda: running.receiver.dropped["vehicle left"], "a message that reaches nobody")
    wait_for(lambda: not running.receiver._routes.vehicles, "the route to be forgotten")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["car-9", "--from", "1", "--to", "2"], "not enrolled"),
        ([VEHICLE], "--from and --to"),
        ([], "name a vehicle"),
        ([VEHICLE, "--from", "yesterday", "--to", "2"], "is no time"),
        ([VEHICLE, "--from", "2026-11-21T09:30:00", "--to", "+1s"], "no offset from UTC"),
        ([VEHICLE, "--from", "2026-11-21T09:30:00Z", "--to", "+1s", "--clock", "capture"], "no capture time"),
        ([VEHICLE, "--from", "5", "--to", "5"], "no window"),
        ([VEHICLE, "--from", "5", "--to", "+x"], "duration"),
        ([VEHICLE, "--from", "5", "--to", "6", "--wait", "soon"], "duration"),
        ([VEHICLE, "--from", "5", "--to", "6", "--expires", "never"], "duration"),
        ([VEHICLE, "--from", "5", "--to", "6", "--camera", "../x"], "names of cameras"),
        ([VEHICLE, "--from", "5", "--to", "9999999999999999999"], "beyond the year 2262"),
        ([VEHICLE, "--from", "5", "--to", "6", "--expires", "1000000d"], "beyond the year 2262"),
    ],
)
def test_a_request_that_cannot_be_is_told_so(book, config, capsys, arguments, part):
    assert main(["pull", *arguments, "--config", str(config)]) == 2
    assert part in capsys.readouterr().err
    assert book.listed() == []


def test_the_list_says_what_was_asked_of_whom_when_and_how_long_it_stays_open(book, config, capsys):
    assert main(["pull", "--list", "--config", str(config)]) == 0
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "nothing has been asked of any vehicle\n")
    now_ns = SystemClock().wall_ns()
    start_ns = 1795249800_250_000_000
    asked = PullRequest("b2", ("front", "rear"), start_ns, start_ns + 15 * 1_000_000_000, "wall", Priority.LOW)
    book.ask(VEHICLE, asked, now_ns - 3 * HOUR_NS, 1795336200 * 1_000_000_000)
    book.ask(VEHICLE, REQUEST, now_ns, now_ns + HOUR_NS)
    assert main(["pull", "--list", "--config", str(config)]) == 0
    newest, older = capsys.readouterr().out.splitlines()
    expected = f"b2  {VEHICLE}  15 s from 2026-11-21T08:30:00.250Z of front, rear, low priority, asked 3 h ago"
    assert older == f"{expected}, open until 2026-11-22T08:30:00Z: pending"
    assert "1e-07 s from 100 ns of its capture clock of front" in newest


def test_who_waits_in_vain_is_told_how_long_the_question_stays_open(book, config, capsys):
    arguments = ["pull", VEHICLE, "--config", str(config), "--from", "1000", "--to", "2000", "--wait", "0.1s"]
    assert main([*arguments, "--json"]) == 1
    told = capsys.readouterr()
    (asked,) = json.loads(told.out)
    assert asked["state"] == "pending"
    assert "no answer within 0.1s; it stays open until 20" in told.err


@pytest.mark.parametrize(
    ("start_s", "end", "part"),
    [
        (
            -3600,
            "+2h",
            "2 h may be more than a clip may hold (recorder.max_clip_s of the vehicle, 55 s unless set): ask",
        ),
        (86_400 * 10, "+5s", "--from lies 10 d ahead"),
        (-20, "+5s", ""),
    ],
)
def test_what_is_hardly_meant_is_asked_with_a_hint(book, config, capsys, start_s, end, part):
    start_ns = SystemClock().wall_ns() + start_s * 1_000_000_000
    assert main(["pull", VEHICLE, "--config", str(config), "--from", str(start_ns), "--to", end]) == 0
    told = capsys.readouterr().err
    assert part in told
    assert bool(told) == bool(part)
    assert len(book.listed()) == 1
