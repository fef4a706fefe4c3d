"""Which clips go over which network and when: the policy, the kernel's facts, and an uploader that keeps to it."""

from __future__ import annotations

import random
import threading
from dataclasses import replace
from datetime import datetime, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from live_receiver import PATIENCE_S, wait_for

from runtime.clock import SystemClock
from runtime.config import load_config
from runtime.config.receiver_config import ReceiverConfig
from runtime.formats.documents import DocumentError
from runtime.messages import Priority
from runtime.processes.receiver_process import settings_of
from runtime.processes.uplink_policy import delivery_policy
from runtime.processes.uploader_process import uploader_settings
from runtime.spool import Spool
from runtime.uplink import uploader as uploader_module
from runtime.uplink.exchange import Exchange, ExchangeError
from runtime.uplink.keys import load_keys
from runtime.uplink.network import ends_of, interface_of, route_to
from runtime.uplink.policy import DeliveryPolicy, HoursOfDay, Permissions, Way
from runtime.uplink.storage.limits import StoreLimits
from runtime.uplink.uploader import Uploader, UploaderSettings
from runtime.uplink.wire import CampaignQuestion

SECOND_NS = 1_000_000_000
HOME = ("wlan*", "eth*")


def wall_ns(hour: int, minute: int = 0, month: int = 11) -> int:
    return int(datetime(2026, month, 21, hour, minute, tzinfo=timezone.utc).timestamp()) * SECOND_NS


def test_without_a_policy_everything_goes_anywhere_at_any_time():
    assert DeliveryPolicy().permissions(None, wall_ns(3)) == Permissions()


def test_clips_wait_for_a_network_that_is_not_metered():
    policy = DeliveryPolicy({Priority.NORMAL: Way(metered=False)}, metered_interfaces=("wwan*",))
    over_mobile = policy.permissions("wwan0", wall_ns(12))
    assert over_mobile.priorities == {Priority.SAFETY, Priority.HIGH}
    assert over_mobile.reasons["normal"] == "waits for a network that is not metered, wwan0 is"
    assert over_mobile.reasons["low"] == "waits for the classes above it"
    assert policy.permissions("wlan0", wall_ns(12)).priorities == set(Priority)


def test_a_network_that_cannot_be_told_counts_as_metered_and_as_no_interface():
    metered = DeliveryPolicy({Priority.SAFETY: Way(metered=False)})
    assert not metered.permissions(None, 0).priorities
    named = DeliveryPolicy({Priority.SAFETY: Way(interfaces=("wlan*",))})
    assert not named.permissions(None, 0).priorities
    assert DeliveryPolicy({Priority.SAFETY: Way(interfaces=("*",))}).permissions(None, 0).priorities


def test_hours_may_span_midnight_and_follow_the_zone():
    night = (HoursOfDay(22 * 60, 6 * 60),)
    policy = DeliveryPolicy({Priority.LOW: Way(hours=night)}, zone=ZoneInfo("Europe/Berlin"))
    for hour, month, may in [(20, 11, False), (21, 11, True), (20, 7, True), (4, 11, True), (5, 11, False)]:
        allowed = policy.permissions("eth0", wall_ns(hour, month=month)).priorities
        assert (Priority.LOW in allowed) is may, (hour, month)


def test_equal_ends_are_the_whole_day():
    assert all(HoursOfDay(60, 60).holds(minute) for minute in range(0, 1440, 7))


WAYS = st.builds(
    Way,
    st.lists(st.sampled_from(["*", "wlan*", "wwan0", "eth?"]), min_size=1, max_size=2).map(tuple),
    st.booleans(),
    st.lists(st.builds(HoursOfDay, st.integers(0, 1439), st.integers(0, 1439)), max_size=2).map(tuple),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(st.sampled_from(Priority), WAYS),
    st.sampled_from([None, "wlan0", "wwan0", "eth1", "lo"]),
    st.integers(0, 1 << 62),
)
def test_a_lower_class_never_goes_where_a_higher_one_may_not(ways, interface, wall):
    permissions = DeliveryPolicy(ways, metered_interfaces=("wwan*",)).permissions(interface, wall)
    allowed = [priority in permissions.priorities for priority in Priority]
    assert allowed == sorted(allowed, reverse=True)
    assert {priority.value for priority in Priority} - {p.value for p in permissions.priorities} <= {
        *permissions.reasons
    }


def test_the_kernel_names_the_interface_of_an_address():
    assert interface_of("127.0.0.1") == "lo"
    assert interface_of("::ffff:127.0.0.1") == "lo"
    assert interface_of(route_to("127.0.0.1")) == "lo"
    assert interface_of("203.0.113.7") is None
    assert interface_of("no address") is None
    assert interface_of(None) is None
    assert route_to("no address") is None
    assert ends_of(10_000) is None


@pytest.fixture
def car(tmp_path, receiver, keys):
    """An uploader in a thread that is given its policy by the test."""
    spool = Spool.open(tmp_path / "spool", 64 << 20)
    stop = threading.Event()
    threads = []
    figures: dict = {}

    def start(policy: DeliveryPolicy) -> tuple[Spool, Uploader, dict]:
        settings = UploaderSettings(receiver.address, keys[0], backoff_first_s=0.05, policy=policy)
        own = load_keys(keys[0], "vehicle")
        clock = SystemClock()
        created = Uploader(spool, settings, own, receiver.own.public, clock, random.Random(1), figures.update)
        threads.append(threading.Thread(target=created.run, args=(stop,)))
        threads[0].start()
        return spool, created, figures

    yield start
    stop.set()
    for thread in threads:
        thread.join(PATIENCE_S)
    spool.close()


def seal(spool: Spool, priority: Priority) -> int:
    draft = spool.begin(10, priority)
    draft.path.write_bytes(b"content")
    return spool.seal(draft, {}).n


def test_an_uploader_holds_back_what_its_network_is_not_for(car):
    policy = DeliveryPolicy({Priority.LOW: Way(metered=False)}, metered_interfaces=("lo",))
    spool, _, figures = car(policy)
    low, safety = seal(spool, Priority.LOW), seal(spool, Priority.SAFETY)
    wait_for(lambda: spool.clip(safety).state.value == "delivered", "the safety clip")
    wait_for(lambda: figures.get("interface") == "lo" and "low" in figures.get("waiting", {}), "the reason in status")
    assert spool.clip(low).state.value == "pending"
    assert figures["waiting"]["low"] == "waits for a network that is not metered, lo is"


def test_a_session_moves_to_the_interface_that_becomes_the_way(car, monkeypatch):
    monkeypatch.setattr(uploader_module, "ROUTE_PERIOD_S", 0.1)
    _, _, figures = car(DeliveryPolicy())
    wait_for(lambda: figures.get("interface") == "lo", "the connection")
    way = ["wlan0"]
    monkeypatch.setattr(uploader_module, "interface_of", lambda address: way[0])
    wait_for(lambda: figures.get("interface") == "wlan0", "a session over the other interface")
    assert figures["sessions"] >= 2


def test_campaign_files_wait_for_their_network_and_say_so():
    exchange = Exchange()
    exchange.hold_back("waits for its hours of the day")
    with pytest.raises(ExchangeError, match="campaign files waits for its hours"):
        exchange.ask(CampaignQuestion("metadata/x", 0, 1), b"", 60)
    exchange.hold_back("")
    with pytest.raises(ExchangeError, match="no connection"):
        exchange.ask(CampaignQuestion("metadata/x", 0, 1), b"", 0.01)


CONFIG = """
vehicle: {{id: car}}
drive: .
uplink:
  policy:
    metered_interfaces: [wwan*]
    timezone: {zone}
    low: {{interfaces: [wlan*, eth*], metered: false, hours: ["{hours}"]}}
"""


def test_the_configured_policy_is_the_policy(tmp_path):
    path = tmp_path / "rig.yaml"
    path.write_text(CONFIG.format(zone="Europe/Berlin", hours="22:00-06:30"))
    policy = delivery_policy(load_config(path).uplink.policy)
    assert policy.ways[Priority.LOW] == Way(HOME, False, (HoursOfDay(1320, 390),))
    assert policy.ways[Priority.SAFETY] == Way()
    assert policy.metered_interfaces == ("wwan*",)
    assert str(policy.zone) == "Europe/Berlin"


@pytest.mark.parametrize(("lines", "cap"), [("", None), ("  bandwidth_bytes_per_s: 250 kB\n", 250_000)])
def test_the_configured_bandwidth_is_the_cap_of_the_uploader(tmp_path, lines, cap):
    path = tmp_path / "rig.yaml"
    server = "  server: tcp://127.0.0.1:5588\n  retry_min_s: 3\n  retry_max_s: 40\n"
    path.write_text(CONFIG.format(zone="UTC", hours="22:00-06:30") + server + lines)
    settings = uploader_settings(load_config(path), tmp_path / "keys")
    assert settings.limits.max_bytes_per_s == cap
    assert (settings.server, settings.keys_directory) == ("tcp://127.0.0.1:5588", tmp_path / "keys")
    assert (settings.backoff_first_s, settings.backoff_longest_s) == (3, 40)
    assert settings.policy.metered_interfaces == ("wwan*",)


def test_what_the_configuration_sets_has_one_default(tmp_path):
    path = tmp_path / "rig.yaml"
    path.write_text("vehicle: {id: car}\ndrive: .\nuplink: {server: tcp://127.0.0.1:5588}\n")
    configured = uploader_settings(load_config(path), tmp_path / "keys")
    plain = UploaderSettings(configured.server, configured.keys_directory, software=configured.software)
    assert replace(configured, policy=plain.policy) == plain  # the policy says the same, way by way
    receiver = ReceiverConfig(bind="tcp://127.0.0.1:5588", directory=tmp_path)
    assert settings_of(receiver).limits == StoreLimits()


@pytest.mark.parametrize(
    ("zone", "hours", "part"),
    [("Mars/Phobos", "22:00-06:00", "time zone"), ("UTC", "25:00-06:00", "span of the day"), ("UTC", "x", "span")],
)
def test_a_policy_that_cannot_be_is_refused_with_its_line(tmp_path, zone, hours, part):
    path = tmp_path / "rig.yaml"
    path.write_text(CONFIG.format(zone=zone, hours=hours))
    with pytest.raises(DocumentError, match=part) as refused:
        load_config(path)
    assert [problem.line for problem in refused.value.problems] in ([7], [8])
