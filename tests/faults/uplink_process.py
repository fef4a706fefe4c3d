"""The processes that the fault tests kill: `python uplink_process.py seal|upload|receive ARGUMENT...`.

`seal SPOOL QUOTA` seals clips whose content follows from their size as fast as it can; `upload SPOOL KEYS SERVER RATE`
delivers; `receive FOLDER KEYS BIND STATUS` receives. SIGTERM ends each of them properly.
"""

from __future__ import annotations

import random
import signal
import sys
import threading
from pathlib import Path

from runtime.messages import Priority
from runtime.spool import QuotaExceededError, Spool
from runtime.uplink.delivery import DeliveryLimits
from runtime.uplink.receiver import ReceiverSettings, run_receiver
from runtime.uplink.uploader import UploaderSettings, run_uploader


def seal(stop: threading.Event, spool_directory: str, quota_bytes: str) -> None:
    rng = random.Random()
    with Spool.open(Path(spool_directory), int(quota_bytes)) as spool:
        print("ready", flush=True)
        while not stop.is_set():
            content = rng.randbytes(rng.randint(1, 50_000))
            try:
                draft = spool.begin(len(content), rng.choice(list(Priority)))
            except QuotaExceededError:
                continue
            draft.path.write_bytes(content)
            spool.seal(draft, {"size": len(content)})


def upload(stop: threading.Event, spool_directory: str, keys: str, server: str, rate: str) -> None:
    limits = DeliveryLimits(reply_timeout_s=2.0, refresh_s=0.1, max_bytes_per_s=int(rate) or None)
    settings = UploaderSettings(
        server,
        Path(keys),
        Path(spool_directory).parent / "uploader.json",
        backoff_first_s=0.05,
        backoff_longest_s=0.2,
        limits=limits,
    )
    with Spool.open(Path(spool_directory), 1 << 30) as spool:
        print("ready", flush=True)
        run_uploader(settings, spool, stop)


def receive(stop: threading.Event, directory: str, keys: str, bind: str, status: str) -> None:
    settings = ReceiverSettings(bind, Path(directory), Path(keys), Path(status))
    run_receiver(settings, stop, on_bound=lambda address: print(address, flush=True))


if __name__ == "__main__":
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    {"seal": seal, "upload": upload, "receive": receive}[sys.argv[1]](ended, *sys.argv[2:])
