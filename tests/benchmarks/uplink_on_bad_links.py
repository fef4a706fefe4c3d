"""What delivery costs where links are bad: waste per disconnect, goodput, dead links, processor time.

    python -m tests.benchmarks.uplink_on_bad_links [--megabytes 24] [--outage-s 90] [--json FILE]

Vehicle and receiver are processes on loopback with `tests/faults/impaired_link.py` between them; the plain copy goes
through the same relay under the same conditions, right after. Both sides pay for the relay, which is one Python thread.
The uploader has its configuration's own times. Exits with 1 and says which budget is not kept.

- waste: bytes sent again because of each single disconnect; of the dearest at most one window and one chunk.
- goodput: a clip's bytes a second through delivery (hash, fsync and receipt included), over those of a TCP copy.
- dead link: from the moment when nothing passes any more until the uploader says so; and from the moment when
  everything passes again until the receiver has more of the clip.
- processor: the uploader's own time at a cap of 10 Mbit/s.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from runtime.config.rig_config import UplinkConfig
from tests.budgets import Facts, beyond, hold_to_budgets, processor_s
from tests.faults.fault_bench import Bench, in_bench
from tests.faults.impaired_link import Conditions, ImpairedLink
from tests.faults.waste_meter import MOST_WASTE_BYTES, WasteMeter

LEAST_GOODPUT = 0.90
MOST_SEEN_S, MOST_PROGRESS_S = 20.0, 35.0
MOST_PROCESSOR_SHARE = 0.05
MOBILE = Conditions(delay_s=0.025, bytes_per_s=2_500_000, loss=0.0005)
TEN_MBIT_BYTES_PER_S = 1_250_000
DISCONNECTS = 4
PROCESSOR_S = 12.0
READ_BYTES = 1 << 16
MOST_WAIT_S = 600.0


def product_times() -> dict[str, float]:
    """What `uplink:` has by default."""
    defaults = UplinkConfig()
    return {
        "reply_timeout_s": 15.0,
        "backoff_first_s": defaults.retry_min_s,
        "backoff_longest_s": defaults.retry_max_s,
    }


def waste(bench: Bench, size: int) -> Facts:
    """Cut the link again and again while one clip goes home; what the dearest of the cuts cost."""
    receiver = bench.start_receiver()
    with bench.open_spool() as spool, ImpairedLink(bench.receiver_port, MOBILE) as link:
        meter = WasteMeter(bench, link)
        bench.seal(spool, size)
        uploader = bench.start_uploader(link.address, **product_times())
        for part in range(1, DISCONNECTS + 1):
            bench.wait(lambda part=part: bench.durable_bytes() > part * size // (DISCONNECTS + 2), "some of it")
            meter.reset()
        bench.wait_for_delivery(spool)
        uploader.stop()
    receiver.stop()
    bench.check_both_ends()
    return {
        "most_waste_of_a_disconnect_bytes": meter.most_bytes,
        "least_waste_of_a_disconnect_bytes": min(meter.wasted_bytes),
        "waste_not_measured_bytes": bench.uploader_status()["bytes_sent"] - size - sum(meter.wasted_bytes),
    }


def goodput(bench: Bench, size: int) -> Facts:
    """The same bytes over the same link, delivered and merely copied."""
    receiver = bench.start_receiver()
    with bench.open_spool() as spool, ImpairedLink(bench.receiver_port, MOBILE) as link:
        bench.seal(spool, 1)
        uploader = bench.start_uploader(link.address, **product_times())
        bench.wait_for_delivery(spool)  # connected: what is measured is a link in use
        began_s = time.monotonic()
        bench.seal(spool, size)
        bench.wait_for_delivery(spool)
        delivered_s = time.monotonic() - began_s
        uploader.stop()
    receiver.stop()
    bench.check_both_ends()
    copied_s = plain_copy_s(size)
    return {
        "delivered_bytes_per_s": size / delivered_s,
        "copied_bytes_per_s": size / copied_s,
        "goodput_over_copy": copied_s / delivered_s,
    }


def plain_copy_s(size: int) -> float:
    """Seconds until a plain TCP receiver has all bytes and has said so."""

    def take() -> None:
        end, _ = server.accept()
        with end:
            left = size
            while left and (data := end.recv(READ_BYTES)):
                left -= len(data)
            end.sendall(b"!")

    with socket.create_server(("127.0.0.1", 0)) as server, ImpairedLink(server.getsockname()[1], MOBILE) as link:
        taker = threading.Thread(target=take)
        taker.start()
        with socket.create_connection(("127.0.0.1", link.port)) as sender:
            began_s = time.monotonic()
            sender.sendall(os.urandom(size))
            sender.recv(1)
            took_s = time.monotonic() - began_s
        taker.join()
    return took_s


def dead_link(bench: Bench, outage_s: float) -> Facts:
    """Nothing passes for a while; when is it seen, and when do bytes move again."""
    bench.start_receiver()
    with bench.open_spool() as spool, ImpairedLink(bench.receiver_port) as link:
        bench.seal(spool, 64 << 20)
        bench.start_uploader(link.address, rate_bytes_per_s=TEN_MBIT_BYTES_PER_S, **product_times())
        bench.wait(lambda: bench.durable_bytes() > 0, "some of it")
        link.black_hole()
        began_s = time.monotonic()
        bench.wait(lambda: bench.uploader_status().get("last_error"), "the dead link to be seen")
        seen_s = time.monotonic() - began_s
        time.sleep(max(0.0, outage_s - seen_s))
        held = bench.durable_bytes()
        link.heal()
        began_s = time.monotonic()
        bench.wait(lambda: bench.durable_bytes() > held, "progress")
        return {"seen_s": seen_s, "progress_s": time.monotonic() - began_s}


def processor(bench: Bench) -> Facts:
    """The uploader's processor time while it is busy at 10 Mbit/s."""
    bench.start_receiver()
    with bench.open_spool() as spool:
        bench.seal(spool, 100 << 20)
        uploader = bench.start_uploader(rate_bytes_per_s=TEN_MBIT_BYTES_PER_S, **product_times())
        bench.wait(lambda: bench.durable_bytes() > 0, "some of it")
        held, began, began_s = bench.durable_bytes(), processor_s(uploader.process.pid), time.monotonic()
        time.sleep(PROCESSOR_S)
        passed_s = time.monotonic() - began_s
        share = (processor_s(uploader.process.pid) - began) / passed_s
        return {"uploader_core_share": share, "at_mbit_per_s": (bench.durable_bytes() - held) * 8 / passed_s / 1e6}


def violations(facts: Facts) -> Iterator[str]:
    """Budgets that are not kept."""
    most = {
        "most_waste_of_a_disconnect_bytes": MOST_WASTE_BYTES,
        "waste_not_measured_bytes": 0,
        "seen_s": MOST_SEEN_S,
        "progress_s": MOST_PROGRESS_S,
        "uploader_core_share": MOST_PROCESSOR_SHARE,
    }
    yield from beyond(facts, most)
    if facts["goodput_over_copy"] < LEAST_GOODPUT:
        yield f"goodput is {facts['goodput_over_copy']:.3f} of a plain copy, less than {LEAST_GOODPUT}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Delivery over bad links against its budgets.")
    parser.add_argument("--megabytes", type=float, default=24.0, help="of the clip that is sent")
    parser.add_argument("--outage-s", type=float, default=90.0, help="how long nothing passes")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    size = round(options.megabytes * 1e6)
    measures = (
        lambda: in_bench(lambda bench: waste(bench, size), MOST_WAIT_S),
        lambda: in_bench(lambda bench: goodput(bench, size), MOST_WAIT_S),
        lambda: in_bench(processor, MOST_WAIT_S),
        lambda: in_bench(lambda bench: dead_link(bench, options.outage_s), MOST_WAIT_S),
    )
    return hold_to_budgets(measures, violations, options.json)


if __name__ == "__main__":
    sys.exit(main())
