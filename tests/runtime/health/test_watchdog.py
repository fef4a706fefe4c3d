"""systemd hears from us over a real socket, and only progress pets the watchdog."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from systemd_ear import all_heard

from runtime.health.watchdog import ProgressWatchdog, SystemdNotifier

SECOND_NS = 1_000_000_000


@pytest.fixture
def service_manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(5)
        yield manager


def heard(manager: socket.socket) -> str:
    return manager.recv(4096).decode()


def test_messages_arrive_in_systemds_form(service_manager):
    notifier = SystemdNotifier(service_manager.getsockname())
    notifier.ready("8 cameras")
    assert heard(service_manager) == "READY=1\nSTATUS=8 cameras"
    notifier.status("two\nlines")
    assert heard(service_manager) == "STATUS=two lines"
    notifier.pet()
    assert heard(service_manager) == "WATCHDOG=1"
    notifier.stopping()
    assert heard(service_manager) == "STOPPING=1"
    notifier.extend(2.5)
    assert heard(service_manager) == "EXTEND_TIMEOUT_USEC=2500000"


def test_abstract_addresses_work():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0shadowrig-test-watchdog")
        manager.settimeout(5)
        SystemdNotifier("@shadowrig-test-watchdog").ready()
        assert heard(manager) == "READY=1"


def test_without_a_service_manager_nothing_happens():
    notifier = SystemdNotifier.from_environment({})
    notifier.ready()
    assert not notifier.is_active
    assert notifier.refused == 0


def test_a_dead_service_manager_is_counted_and_never_raises(tmp_path):
    notifier = SystemdNotifier(str(tmp_path / "nobody"))
    notifier.pet()
    assert notifier.refused == 1


def test_a_watchdog_meant_for_another_process_is_not_ours():
    environment = {"NOTIFY_SOCKET": "", "WATCHDOG_USEC": "15000000", "WATCHDOG_PID": "17"}
    assert SystemdNotifier.from_environment(environment, process_id=17).watchdog_s == 15
    assert SystemdNotifier.from_environment(environment, process_id=18).watchdog_s is None


def test_the_watchdog_is_petted_while_every_worker_makes_progress(service_manager):
    notifier = SystemdNotifier(service_manager.getsockname())
    watchdog = ProgressWatchdog(notifier, ["tick", "history"], timeout_s=10, started_ns=0)
    for second in range(0, 40, 5):
        watchdog.progress("tick", second * SECOND_NS)
        watchdog.progress("history", second * SECOND_NS)
        assert watchdog.check(second * SECOND_NS) == ()
    assert all_heard(service_manager) == ["WATCHDOG=1"] * 8


def test_one_hanging_worker_stops_the_petting_however_busy_the_other_is(service_manager):
    notifier = SystemdNotifier(service_manager.getsockname())
    watchdog = ProgressWatchdog(notifier, ["tick", "history"], timeout_s=10, started_ns=0)
    watchdog.progress("tick", 20 * SECOND_NS)
    assert watchdog.check(20 * SECOND_NS) == ("history",)
    assert all_heard(service_manager) == ["STATUS=no progress: history"]


def test_a_worker_that_never_starts_is_a_hang():
    watchdog = ProgressWatchdog(SystemdNotifier(None), ["tick"], timeout_s=10, started_ns=0)
    assert watchdog.stalled(9 * SECOND_NS) == ()
    assert watchdog.stalled(11 * SECOND_NS) == ("tick",)


def test_progress_of_an_unknown_worker_is_an_error():
    watchdog = ProgressWatchdog(SystemdNotifier(None), ["tick"], timeout_s=10, started_ns=0)
    with pytest.raises(ValueError, match="knows tick"):
        watchdog.progress("tok", 0)
