"""Real servers for the tests of the receiver's storage, started by them and gone with them, on loopback only.

`PostgresServer`: initdb and postgres from the PATH, in a folder of its own, as a user who is not root (PostgreSQL
refuses root), with fsync on as in production. `ObjectServer`: moto's S3 server in a process of its own.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

PATIENCE_S = 60.0
ROOM_BYTES = 256 << 20
DEBIAN_BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin")) if Path("/usr/lib/postgresql").exists() else []
PROXIES = {"http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def postgresql_binaries() -> Path | None:
    """The folder of initdb and postgres."""
    found = shutil.which("initdb")
    if found is not None and (Path(found).parent / "postgres").exists():
        return Path(found).parent
    return DEBIAN_BINARIES[-1] if DEBIAN_BINARIES else None


class PostgresServer:
    """One PostgreSQL cluster; each test has a database of its own in it."""

    def __init__(self, *settings: str) -> None:
        binaries = postgresql_binaries()
        if binaries is None:
            pytest.skip("no PostgreSQL on this machine: install it to run this test (apt install postgresql)")
        memory = Path("/dev/shm")  # a busy disk would make every commit wait; that it asks for fsync is what matters
        is_roomy = memory.is_dir() and shutil.disk_usage(memory).free > ROOM_BYTES
        self.directory = Path(tempfile.mkdtemp(prefix="shadowrig-postgres-", dir=memory if is_roomy else None))
        self._as_user: dict[str, Any] = {"env": {"PATH": os.environ["PATH"], "LANG": "C"}, "cwd": self.directory}
        if os.getuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(self.directory, nobody.pw_uid, nobody.pw_gid)
            self._as_user |= {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        data = self.directory / "data"
        made = [binaries / "initdb", "-D", data, "-U", "shadowrig", "--auth=trust", "--no-sync", "-E", "UTF8"]
        subprocess.run([*made, "--locale=C"], check=True, capture_output=True, **self._as_user)
        self._binaries, self._settings, self._count = binaries, settings, 0
        self.port = free_port()
        self.start()

    def start(self) -> None:
        options = ["listen_addresses=127.0.0.1", f"port={self.port}", "unix_socket_directories=", *self._settings]
        arguments = [part for option in options for part in ("-c", option)]
        log = (self.directory / "log").open("ab")
        command = [self._binaries / "postgres", "-D", self.directory / "data", *arguments]
        self.process = subprocess.Popen(command, stdout=log, stderr=log, **self._as_user)
        log.close()
        wait_for_port(self.port, self.process)
        self._wait_for_an_answer()

    def _wait_for_an_answer(self) -> None:
        """It listens a moment before it lets anybody in."""
        import psycopg

        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                psycopg.connect(self.url(), connect_timeout=5).close()
                return
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, "PostgreSQL does not answer"
                time.sleep(0.05)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait(PATIENCE_S)

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://shadowrig@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """The URL of an empty database."""
        import psycopg

        self._count += 1
        name = f"fleet_{self._count}"
        with psycopg.connect(self.url(), autocommit=True, connect_timeout=5) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self.url(name)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(PATIENCE_S)
        shutil.rmtree(self.directory, ignore_errors=True)


class ObjectServer:
    """An S3-compatible server; each test has a bucket of its own."""

    def __init__(self, **settings: str) -> None:
        pytest.importorskip("moto", reason="moto's S3 server is not installed: pip install 'shadowrig[dev]'")
        pytest.importorskip("flask", reason="moto's server needs flask: pip install 'shadowrig[dev]'")
        self.port, self._count = free_port(), 0
        environment = {name: value for name, value in os.environ.items() if name not in PROXIES} | settings
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
        wait_for_port(self.port, self.process)

    @property
    def options(self) -> dict[str, Any]:
        return {
            "endpoint": f"http://127.0.0.1:{self.port}", "region": "us-east-1", "virtual_hosted_style_request": False,
            "access_key_id": "test", "secret_access_key": "test",
        }  # fmt: skip

    def new_bucket(self) -> str:
        """The URL of an empty place in a bucket."""
        self._count += 1
        request = urllib.request.Request(f"{self.options['endpoint']}/clips-{self._count}", method="PUT")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        opener.open(request, timeout=PATIENCE_S).close()
        return f"s3://clips-{self._count}/europe"

    def stop(self, how: int = signal.SIGSTOP) -> None:
        self.process.send_signal(how)

    def end(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE_S)


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
            return
        except OSError:
            assert process.poll() is None, f"the server at port {port} ended with {process.returncode}"
            assert time.monotonic() < deadline, f"nobody listens at port {port} after {PATIENCE_S} s"
            time.sleep(0.02)
