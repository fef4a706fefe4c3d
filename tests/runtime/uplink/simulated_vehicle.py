"""One vehicle of the simulation: the real `Delivery` on a real spool, and its link in both directions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from faulty_disk import SimulatedKill
from simulated_network import Fate, Network

from runtime.clock import ManualClock
from runtime.formats.pull_files import PullAnswer, PullFolder
from runtime.messages import Priority
from runtime.spool import Spool
from runtime.uplink.delivery import Delivery, SessionError
from runtime.uplink.delivery_limits import DeliveryLimits
from runtime.uplink.policy import Permissions
from runtime.uplink.wire import encode

LIMITS = DeliveryLimits(reply_timeout_s=2.0, refused_retry_s=3.0, refresh_s=0.2, keep_alive_s=5.0)
#: Clip `n` shows a thousand nanoseconds of its own, from here times `n`.
CLIP_NS = 1000


class SimulatedVehicle:
    """What it holds, what was sealed, and what may be gone for a reason."""

    def __init__(
        self, name: str, directory: Path, fate: Fate, clock: ManualClock, on_connection: Callable[[str], None]
    ) -> None:
        self.name = name
        self.content: dict[int, bytes] = {}
        self.entombed: set[int] = set()
        self.erased: list[tuple[int, int]] = []
        self.reset_links = 0
        self._directory = directory
        self._fate = fate
        self._clock = clock
        self._on_connection = on_connection
        self._up, self._down = Network(fate, invents=True), Network(fate, invents=False)
        self.boot()

    @property
    def up(self) -> list[list[bytes]]:
        """Messages to the receiver."""
        return self._up.queue

    @property
    def down(self) -> list[list[bytes]]:
        """Messages to the vehicle."""
        return self._down.queue

    @property
    def late_messages(self) -> int:
        """That came after what was sent behind them, in any session."""
        return self._up.came_late + self._down.came_late

    def boot(self) -> None:
        self.spool = Spool.open(self._directory, 64 << 20, clock=self._clock)
        self.recorder = PullFolder(self._directory)
        self.delivery = Delivery(self.spool, LIMITS, "simulation", pulls=PullFolder(self._directory))
        self.connect()

    def restart(self) -> None:
        self.spool.close()
        self.boot()

    def connect(self) -> None:
        self.reset_links += 1
        self._up.reset()
        self._down.reset()
        self._on_connection(self.name)
        self.delivery.begin_session(self._clock.now_ns())

    # What people, rules and the recorder do

    def seal(self, size: int, priority: Priority = Priority.NORMAL, **metadata) -> int:
        draft = self.spool.begin(size, priority)
        content = self._fate.rng.randbytes(size)
        draft.path.write_bytes(content)
        start_ns = CLIP_NS * (max(self.content, default=0) + 1)
        times = {"start_wall_ns": start_ns, "end_wall_ns": start_ns + CLIP_NS - 1}
        clip = self.spool.seal(draft, {"size": size, **times, **metadata})
        self.content[clip.n] = content
        return clip.n

    def entomb(self, n: int) -> None:
        self.entombed.add(n)
        self.spool.tombstone(n, "evicted to make room")

    def is_erased(self, n: int) -> bool:
        return any(first <= n <= last for first, last in self.erased)

    def record(self) -> None:
        """The recorder answers what was asked: with a clip, or with a reason."""
        for request in self.recorder.requests():
            if self._fate.rng.random() < 0.5:
                n = self.seal(self._fate.rng.randint(1, 300), request.priority, pull_id=request.id)
                self.recorder.answer(PullAnswer(request.id, "sealed", n=n))
            else:
                self.recorder.answer(PullAnswer(request.id, "refused", "history has nothing of it"))

    # Time

    def sends(self) -> None:
        now_ns = self._clock.now_ns()
        while (outgoing := self.delivery.next_message(now_ns)) is not None:
            self.up.append([encode(outgoing[0]), outgoing[1]])

    def arrived_at_receiver(self) -> list[list[bytes]]:
        return self._up.arrived()

    def hears(self) -> None:
        now_ns = self._clock.now_ns()
        try:
            with self._fate.trouble(is_receiver=False):
                for frames in self._down.arrived():
                    self.delivery.on_message(frames, now_ns)
        except SessionError:
            self.connect()
        except SimulatedKill:
            self.restart()
        if self.delivery.is_overdue(now_ns):
            self.connect()

    def misfortune(self) -> None:
        """What may go wrong on the vehicle between two steps."""
        fate = self._fate
        if fate.chance(0.02):
            self.restart()
        if fate.chance(0.02):
            self.connect()
        if fate.chance(0.05):
            allowed = list(Priority)[: fate.rng.randint(0, 5)]
            reasons = {} if fate.rng.random() < 0.5 else {"campaigns": "wait for another network"}
            self.delivery.permit(Permissions(frozenset(allowed), reasons))
        if fate.chance(0.02) and (pending := self.spool.pending()):
            self.entomb(fate.rng.choice(pending).n)
        if fate.chance(0.3):
            self.record()

    def calm_down(self) -> None:
        self._up.deliver_late()
        self._down.deliver_late()
        self.delivery.permit(Permissions())

    def is_settled(self) -> bool:
        """Everything is delivered or told to be gone."""
        told = not self.spool.unreported_tombstones() and not self.recorder.answers()
        return self.spool.counts().pending == 0 and told
