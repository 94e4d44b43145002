"""MLflow's pages over the store: a server that never outlives its caller."""

from __future__ import annotations

import atexit
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from harness.config import home
from harness.errors import without_secrets
from harness.tracking.config import TrackingConfig
from harness.tracking.evaluations import VIEW, VIEW_TAG
from harness.tracking.storage import QUIET, TrackingError, ensure_schema, open_experiment, reported

#: A server that is alive may be slow to start on a busy machine.
_START_S, _STOP_S = 300.0, 10.0


def serve_ui(config: TrackingConfig, *, port: int | None = None, open_browser: bool = False) -> UiServer:
    """Starts `mlflow server` on the store and waits until it answers; use it in `with`, or call `stop`.

    From here on SIGTERM ends this process by `SystemExit(143)`, so that the server never outlives it.

    Args:
        config: its `server` section says where to listen; a free port is taken where the configured one is in use.
        port: this port and no other.
        open_browser: opens the page of the experiment.

    Raises:
        TrackingError: if the store is a server already, `port` is in use, or the server does not come up.
    """
    if not config.is_database:
        raise TrackingError(
            f"'tracking.uri' is not a database but {without_secrets(config.uri)}: open it in a browser."
        )
    ensure_schema(config)
    host = config.server.host
    server = UiServer(
        config, host, _port(host, config.server.port if port is None else port, required=port is not None)
    )
    with server.stopped_on_error(), reported("Opening the tracking store", config):
        client, experiment = open_experiment(config)  # while the server starts
        view = f"?viewStateShareKey={VIEW}" if VIEW_TAG in client.get_experiment(experiment).tags else ""
        server.wait_until_healthy()
    server.url = f"{server.address}/#/experiments/{experiment}/runs{view}"
    if open_browser:
        webbrowser.open(server.url)
    return server


def _port(host: str, wanted: int, *, required: bool) -> int:
    """`wanted` if it can be listened on, else a free one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for candidate in (wanted, 0):
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, candidate))
            except OSError as error:
                if candidate and not required:
                    continue
                raise TrackingError(f"Cannot listen on {host}:{candidate} ({error.strerror}); give another.") from None
            return int(probe.getsockname()[1])
    raise TrackingError(f"No port is free on {host}.")


class UiServer:
    """A running `mlflow server`; made by `serve_ui`.

    Attributes:
        address: `http://host:port`, also a tracking URI.
        url: the page of the experiment.
        pid: of the server, which leads a process group of its own.
    """

    def __init__(self, config: TrackingConfig, host: str, port: int) -> None:
        name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        self.address = self.url = f"http://{f'[{name}]' if ':' in name else name}:{port}"
        self._log = home() / "mlflow" / f"ui-{port}.log"
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._stopped = False
        self._restore = _exit_on_sigterm()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                _command(config, host, port),
                env=_environment(config),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        atexit.register(self.stop)
        self.pid = self._process.pid

    @contextmanager
    def stopped_on_error(self) -> Iterator[None]:
        """Leaves no server behind when what is done next fails."""
        try:
            yield
        except BaseException:
            self.stop()
            raise

    def wait_until_healthy(self) -> None:
        """Returns when the server answers.

        Raises:
            TrackingError: if it ends or stays silent, with the end of its log.
        """
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # never through a proxy
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise TrackingError(f"The server did not start (code {self._process.returncode}): {self._tail()}")
            with suppress(urllib.error.URLError, OSError), opener.open(f"{self.address}/health", timeout=2):
                return
            time.sleep(0.1)
        raise TrackingError(f"The server did not answer within {_START_S:g} s: {self._tail()}")

    def wait(self) -> None:
        """Blocks until Ctrl-C, then stops the server.

        Raises:
            TrackingError: if the server ends by itself.
        """
        try:
            code = self._process.wait()
        except KeyboardInterrupt:
            return self.stop()
        self.stop()
        raise TrackingError(f"The server ended with code {code}: {self._tail()}")

    def stop(self) -> None:
        """Ends the server with all its workers; further calls do nothing."""
        if self._stopped:
            return  # its number may belong to somebody else by now
        self._stopped = True
        atexit.unregister(self.stop)
        self._signal_group(signal.SIGTERM)
        deadline = time.monotonic() + _STOP_S
        while self._alive() and time.monotonic() < deadline:
            time.sleep(0.05)
        self._signal_group(signal.SIGKILL)
        self._process.wait()
        self._restore()

    def __enter__(self) -> UiServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _alive(self) -> bool:
        self._process.poll()  # reaps it; the group lives as long as any worker does
        return self._signal_group(0)

    def _signal_group(self, number: int) -> bool:
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return False
        return True

    def _tail(self) -> str:
        lines = self._log.read_text("utf-8", errors="replace").splitlines()[-15:]
        return without_secrets("\n".join([f"see {self._log}", *lines]))


def _exit_on_sigterm() -> Callable[[], None]:
    """Makes SIGTERM unwind the stack; returns what undoes it. Only the main thread may set handlers."""
    if threading.current_thread() is not threading.main_thread():
        return lambda: None

    def leave(*_: object) -> None:
        raise SystemExit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, leave)

    def undo() -> None:
        if signal.getsignal(signal.SIGTERM) is leave:
            signal.signal(signal.SIGTERM, before)

    return undo


def _command(config: TrackingConfig, host: str, port: int) -> list[str]:
    server = config.server
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port)]
    command += ["--workers", str(server.workers)]
    if server.allowed_hosts:
        command += ["--allowed-hosts", ",".join(server.allowed_hosts)]
    if server.cors_origins:
        command += ["--cors-allowed-origins", ",".join(server.cors_origins)]
    if server.auth != "none":
        command += ["--app-name", server.auth]
    return command


def _environment(config: TrackingConfig) -> dict[str, str]:
    """The store travels in the environment: a command line, with the database's password, is public.

    On this machine clients write files themselves; for others the server takes them in.
    """
    local = config.server.host in ("127.0.0.1", "localhost", "::1")
    root = "MLFLOW_DEFAULT_ARTIFACT_ROOT" if local else "MLFLOW_ARTIFACTS_DESTINATION"
    # The working directory may hold a folder called mlflow: keep it off the import path.
    return {
        **os.environ,
        **QUIET,
        "PYTHONSAFEPATH": "1",
        "MLFLOW_BACKEND_STORE_URI": config.uri,
        root: str(config.artifact_root),
    }
