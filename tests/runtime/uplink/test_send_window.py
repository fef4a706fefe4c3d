"""The send window follows the link: wide on a fast one, a second or two of bytes on a slow one."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.uplink.window import SMALLEST_BYTES, SMALLEST_CHUNK_BYTES, SendWindow

SECOND_NS = 1_000_000_000
CREDIT_BYTES = 8 << 20


def converse(bytes_per_s: float, round_trip_s: float, seconds: float) -> SendWindow:
    """A link that carries chunks one after the other, and acknowledges each after a round trip."""
    window = SendWindow()
    on_the_way: deque[tuple[int, int, int]] = deque()  # arrives, sent, size
    now_ns = free_ns = under_way = 0
    while now_ns < seconds * SECOND_NS:
        while under_way + window.chunk_bytes <= window.size_bytes:
            size = window.chunk_bytes
            free_ns = max(free_ns, now_ns) + int(size / bytes_per_s * SECOND_NS)
            on_the_way.append((free_ns + int(round_trip_s * SECOND_NS), now_ns, size))
            under_way += size
        arrives_ns, sent_ns, size = on_the_way.popleft()
        now_ns = max(now_ns, arrives_ns)
        under_way -= size
        window.on_ack(size, sent_ns, now_ns, CREDIT_BYTES)
    return window


def test_on_a_fast_link_it_is_the_whole_credit_within_a_second():
    window = converse(100e6, 0.01, 1.0)
    assert window.size_bytes == CREDIT_BYTES
    assert window.chunk_bytes >= 256 * 1024


def test_on_a_long_link_it_still_fills_the_pipe():
    assert converse(20e6, 0.3, 20.0).size_bytes >= 20e6 * 0.3


@pytest.mark.parametrize("bytes_per_s", [8_000, 125_000, 1_250_000])
def test_on_a_slow_link_no_more_than_a_few_seconds_lie_in_front_of_an_urgent_clip(bytes_per_s):
    window = converse(bytes_per_s, 0.05, 60.0)
    assert window.size_bytes <= max(SMALLEST_BYTES, 3 * bytes_per_s)
    assert window.chunk_bytes <= max(SMALLEST_CHUNK_BYTES, bytes_per_s)
    assert window.size_bytes >= min(SMALLEST_BYTES, bytes_per_s), "and it is used"


def test_a_new_session_trusts_half():
    window = converse(100e6, 0.01, 1.0)
    window.begin_session()
    assert window.size_bytes == CREDIT_BYTES // 2


def test_after_a_session_that_acknowledged_nothing_a_new_one_trusts_nothing():
    window = converse(100e6, 0.01, 1.0)
    window.begin_session()
    window.begin_session()
    assert window.size_bytes == SMALLEST_BYTES
    assert window.delay_ns == 0


def test_late_acknowledgements_of_one_window_halve_it_once():
    window = converse(100e6, 0.01, 1.0)
    for _ in range(10):
        window.on_ack(1000, 0, 5 * SECOND_NS, CREDIT_BYTES)
    assert window.size_bytes == CREDIT_BYTES // 2


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(1, 1 << 20), st.integers(0, 1 << 40), st.integers(0, 1 << 40)), max_size=50))
def test_it_never_leaves_its_bounds(acknowledgements):
    window = SendWindow()
    for size, sent_ns, delay_ns in acknowledgements:
        window.on_ack(size, sent_ns, sent_ns + delay_ns, CREDIT_BYTES)
        assert SMALLEST_BYTES <= window.size_bytes <= CREDIT_BYTES
        assert window.chunk_bytes >= SMALLEST_CHUNK_BYTES
