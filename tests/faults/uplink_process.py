"""The processes that the fault tests kill, starve and lie to: `python uplink_process.py ROLE JSON`.

`seal` seals clips of random content and prints each number and hash once the spool has promised it; `record` is the
recorder; `upload` delivers from a spool, `deliver` is the whole process that does; `receive` takes clips in. They are
Shadowrig's own spool, recorder, uploader and receiver, with times short enough for a test. SIGTERM ends each of them
properly. `receive` takes the doorkeeper's set-up apart on request: a receiver that is configured wrongly must keep
strangers out all the same.

Each role imports what it alone needs: the sweeps start thousands of these, and a recorder's imports cost three times
those of the others.
"""

from __future__ import annotations

import itertools
import json
import random
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from runtime.messages import Priority
from runtime.spool import QuotaExceededError, SealError, Spool

FOREVER = 1 << 60


def seal(stop: threading.Event, options: dict[str, Any]) -> None:
    """Seals until told to stop, or `count` clips; prints `sealed <n> <sha256>`, `refused` or `failed`."""
    rng = random.Random(options.get("seed"))
    with Spool.open(Path(options["spool"]), options["quota_bytes"]) as spool:
        say("ready")
        for _ in range(options.get("count", FOREVER)):
            if stop.is_set():
                return
            say(seal_one(spool, rng, options.get("largest_bytes", 50_000)))
            time.sleep(options.get("pause_s", 0))


def seal_one(spool: Spool, rng: random.Random, largest_bytes: int) -> str:
    content = rng.randbytes(rng.randint(1, largest_bytes))
    try:
        draft = spool.begin(len(content), rng.choice(list(Priority)))
    except QuotaExceededError:
        return "refused"
    except OSError as error:
        return f"failed {error}"
    try:
        draft.path.write_bytes(content)
        clip = spool.seal(draft, {"size": len(content)})
    except SealError as error:
        return f"failed {error}"
    except OSError as error:
        spool.discard(draft)
        return f"failed {error}"
    return f"sealed {clip.n} {clip.sha256}"


def upload(stop: threading.Event, options: dict[str, Any]) -> None:
    """Delivers until told to stop."""
    from runtime.uplink.delivery import DeliveryLimits
    from runtime.uplink.uploader import UploaderSettings, run_uploader

    limits = DeliveryLimits(
        reply_timeout_s=options.get("reply_timeout_s", 2.0),
        refused_retry_s=options.get("refused_retry_s", 60.0),
        refresh_s=0.1,
        max_bytes_per_s=options.get("rate_bytes_per_s"),
    )
    settings = UploaderSettings(
        options["server"], Path(options["keys"]), Path(options["status"]),
        backoff_first_s=options.get("backoff_first_s", 0.05), backoff_longest_s=options.get("backoff_longest_s", 0.2),
        limits=limits,
    )  # fmt: skip
    with Spool.open(Path(options["spool"]), options["quota_bytes"]) as spool:
        say("ready")
        run_uploader(settings, spool, stop)


def receive(stop: threading.Event, options: dict[str, Any]) -> None:
    """Receives until told to stop; prints its address."""
    from runtime.uplink.receiver import ReceiverSettings, run_receiver
    from runtime.uplink.store import StoreLimits

    if "zap" in options:
        take_doorkeeper_apart(**options["zap"])
    settings = ReceiverSettings(
        options["bind"], Path(options["directory"]), Path(options["keys"]), Path(options["status"]),
        reload_s=0.2, limits=StoreLimits(**options.get("limits", {})),
    )  # fmt: skip
    run_receiver(settings, stop, on_bound=say)


def take_doorkeeper_apart(domain: str, handler: str, after: int = 0) -> None:
    """Set it up as libzmq lets it be: any domain; a handler that hangs or dies when it is asked after `after` times."""
    from runtime.uplink import receiver, sockets
    from runtime.uplink.authenticator import ZapAuthenticator

    receiver.ZAP_DOMAIN = sockets.ZAP_DOMAIN = domain
    if handler == "at work":
        return
    answer = ZapAuthenticator._answer
    asked = itertools.count()

    def fail(*arguments: Any) -> None:
        if next(asked) < after:
            answer(*arguments)
        elif handler == "hanging":
            threading.Event().wait()
        else:
            raise RuntimeError("out of memory")

    ZapAuthenticator._answer = fail  # type: ignore[method-assign]


def record(stop: threading.Event, options: dict[str, Any]) -> None:
    """The recorder of a vehicle with this configuration, as `shadowrig run --process recorder` runs it."""
    from runtime.config.rig_config import load_config
    from runtime.processes.recorder_process import run_recorder

    config = load_config(options["config"])
    say("ready")
    run_recorder(config, stop)


def deliver(stop: threading.Event, options: dict[str, Any]) -> None:
    """The uploader of a vehicle with this configuration, as `shadowrig run --process uploader` runs it."""
    from runtime.config.rig_config import load_config
    from runtime.processes.uploader_process import run_uploader_process

    config = load_config(options["config"])
    say("ready")
    run_uploader_process(config, stop)


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    roles = {"seal": seal, "record": record, "deliver": deliver, "upload": upload, "receive": receive}
    roles[sys.argv[1]](ended, json.loads(sys.argv[2]))
