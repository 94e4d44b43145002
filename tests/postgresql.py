"""A real PostgreSQL for tests: Debian's programs, a data folder of its own, a free port, stopped by its process id."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Cluster:
    """A running server; `sockets` is where its administrator `postgres` enters without a password."""

    programs: Path
    sockets: Path
    port: int

    def call(self, program: str, *arguments: str) -> str:
        """What one of PostgreSQL's programs prints."""
        command = [self.programs / program, "-h", self.sockets, "-p", str(self.port), "-U", "postgres", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout

    def query(self, database: str, text: str) -> str:
        """The answer to a query, bare."""
        return self.call("psql", "-d", database, "-At", "-c", text).strip()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Over TCP it asks for passwords, as a server that others reach does."""
    found = shutil.which("initdb")
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin")) or ([Path(found).parent] if found else [])
    if not installed:
        pytest.skip("needs a PostgreSQL server: apt-get install postgresql")
    # It refuses to run as root, and its sockets' paths must be short.
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    if as_user:
        shutil.chown(folder, "postgres")
    folder.chmod(0o755)
    one = Cluster(installed[-1], folder, free_port())
    data = folder / "data"
    access = ["--auth-local=trust", "--auth-host=scram-sha-256"]
    initdb = [*as_user, str(one.programs / "initdb"), "-D", str(data), "-U", "postgres", "-E", "UTF8", *access]
    subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL)
    settings = ["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
    postgres = [*as_user, str(one.programs / "postgres"), "-D", str(data), "-p", str(one.port), "-k", str(folder)]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen([*postgres, *settings], stderr=log)
    try:
        _wait(one, server)
        yield one
    finally:
        with (data / "postmaster.pid").open() as stream:
            os.kill(int(stream.readline()), signal.SIGINT)  # ends connections, then itself
        server.wait(60)
        shutil.rmtree(folder)


def _wait(one: Cluster, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    ready = [str(one.programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(one.port)]
    while subprocess.run(ready, check=False).returncode != 0:
        assert server.poll() is None, "PostgreSQL did not start"
        assert time.monotonic() < deadline
        time.sleep(0.1)
