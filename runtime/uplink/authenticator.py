"""The receiver's doorkeeper: a ZAP handler (ZeroMQ RFC 27) that admits enrolled CURVE keys and nobody else.

Why not pyzmq's ThreadAuthenticator: it logs and goes on when its key folder cannot be read, it admits NULL peers,
and its thread's death goes unnoticed. This one answers 200 for exactly one case: our domain, mechanism CURVE, a key
in the enrolled table. The User-Id that it returns is the key itself, so that a receiver finds out on every single
message whether that key is still enrolled; a name would survive revocation and re-enrolment.

Fails closed: the receiver's socket has the domain set and ZAP_ENFORCE_DOMAIN on, so libzmq refuses every handshake
when no handler is bound, and leaves it unanswered (to the handshake timeout) when the handler hangs. The receiver
calls `raise_if_dead` on every turn of its loop, and stops when the handler has died or has not turned for
HANG_LIMIT_S: one that hangs lets nobody in, but neither would it ever again. Ending it takes STOP_TIMEOUT_S at most.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence

import zmq
from zmq.utils import z85

from runtime.uplink.beside import Heartbeat
from runtime.uplink.keys import EnrolledVehicles

ZAP_ENDPOINT = "inproc://zeromq.zap.01"
ZAP_VERSION = b"1.0"
ZAP_REQUEST_FRAMES = 7  # version, request id, domain, address, identity, mechanism, CURVE key
POLL_MS = 200
START_TIMEOUT_S = 5.0
STOP_TIMEOUT_S = 2.0
#: A handshake is answered in less than a millisecond.
HANG_LIMIT_S = 10.0
#: After a pause of the whole process the handler gets this long to show that it lives.
HANG_GRACE_S = 1.0


class AuthenticatorError(RuntimeError):
    """The authenticator could not start, has died or hangs: the receiver must not go on."""


class ZapAuthenticator:
    """Runs in its own thread, in the same context as the socket it guards; start it before that socket binds.

    Asked of an enrolled key only: `is_barred` by its vehicle, `refusal_of` by the key, "" when it may connect.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        domain: str,
        enrolled: EnrolledVehicles,
        is_barred: Callable[[str], bool] = lambda vehicle: False,
        refusal_of: Callable[[str], str] = lambda key: "",
    ) -> None:
        if not domain or domain == "*":
            raise AuthenticatorError(f"ZAP domain {domain!r} would let strangers in: give it a name")
        self.admitted = 0
        self.refused: Counter[str] = Counter()
        self._domain = domain.encode()
        self._enrolled = enrolled
        self._is_barred = is_barred
        self._refusal_of = refusal_of
        self._context = context
        self._stop = threading.Event()
        self._bound = threading.Event()
        self._heart = Heartbeat()
        self._failure: BaseException | None = None
        self._socket: zmq.Socket[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name="zap", daemon=True)

    def start(self) -> None:
        """Bind the ZAP endpoint. Raises AuthenticatorError when that fails, e.g. when another handler holds it."""
        self._thread.start()
        if not self._bound.wait(START_TIMEOUT_S) or self._failure:
            raise AuthenticatorError(f"the authenticator did not start: {self._failure!r}") from self._failure

    def stop(self) -> None:
        """End the thread, or leave it behind where it hangs. Afterwards every handshake is refused.

        What can hang is `judge`, never a call on the socket: closing that from here is safe then, and without it the
        context could not end. Should the thread ever wake up, it finds its socket closed, and ends.
        """
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(STOP_TIMEOUT_S)
        if self._thread.is_alive() and self._socket is not None:
            self._socket.close(0)

    def raise_if_dead(self, now_ns: int) -> None:
        """Raise AuthenticatorError unless the handler is at work; `now_ns` is monotonic."""
        if not self._thread.is_alive():
            raise AuthenticatorError(f"the authenticator has died: {self._failure!r}") from self._failure
        quiet_s = self._heart.quiet_s(now_ns, HANG_LIMIT_S, HANG_GRACE_S)
        if quiet_s:
            raise AuthenticatorError(f"the authenticator hangs: it has answered nobody for {quiet_s:.0f} s")

    def _run(self) -> None:
        socket = self._socket = self._context.socket(zmq.ROUTER)
        try:
            socket.setsockopt(zmq.LINGER, 0)
            socket.bind(ZAP_ENDPOINT)
            self._bound.set()
            while not self._stop.is_set():
                self._heart.beat()
                if socket.poll(POLL_MS):
                    self._answer(socket, socket.recv_multipart())
        except BaseException as failure:  # kept for the receiver, which stops: nobody else can handle it
            self._failure = failure
        finally:
            socket.close(0)
            self._bound.set()

    def _answer(self, socket: zmq.Socket[bytes], frames: Sequence[bytes]) -> None:
        split = frames.index(b"") if b"" in frames else len(frames)
        envelope, request = list(frames[: split + 1]), frames[split + 1 :]
        if len(request) < 2:
            self.refused["malformed request"] += 1
            return
        user_id, refusal = self.judge(request)
        if refusal:
            self.refused[refusal] += 1
            verdict = [b"400", refusal.encode(), b""]
        else:
            self.admitted += 1  # before the answer: `Routes` relies on it
            verdict = [b"200", b"OK", user_id]
        socket.send_multipart([*envelope, ZAP_VERSION, request[1], *verdict, b""])

    def judge(self, request: Sequence[bytes]) -> tuple[bytes, str]:
        """The key of an admitted peer, or the reason for refusing."""
        if len(request) != ZAP_REQUEST_FRAMES or request[0] != ZAP_VERSION:
            return b"", "malformed request"
        _, _, domain, _, _, mechanism, key = request
        if domain != self._domain:
            return b"", "foreign domain"
        if mechanism != b"CURVE" or len(key) != 32:
            return b"", "mechanism is not CURVE"
        text = z85.encode(key)
        vehicle = self._enrolled.vehicle_of(text)
        if vehicle is None:
            return b"", "key is not enrolled"
        if self._is_barred(vehicle):
            return b"", "barred for a while"
        refusal = self._refusal_of(text.decode())
        return (b"", refusal) if refusal else (text, "")
