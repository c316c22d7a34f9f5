"""Servers on free ports of the loopback interface."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(server: subprocess.Popen[bytes], port: int, deadline: float) -> None:
    """Return when ``server`` takes connections.

    Raises ``RuntimeError`` if it ends or if ``time.monotonic()`` passes ``deadline`` first.
    """
    while server.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    message = f"{server.args!r} did not start (exit code {server.poll()})"
    raise RuntimeError(message)
