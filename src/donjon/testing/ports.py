"""Servers on free ports of the loopback interface."""

from __future__ import annotations

import contextlib
import secrets
import socket
import subprocess
import time

#: Below those that the kernel gives to outgoing connections (net.ipv4.ip_local_port_range), any of which may
#: take a port between the look at it and the start of the server that is to have it.
_PORTS = range(15_000, 32_000)
_given: set[int] = set()


def free_port() -> int:
    """A port that nobody listens on at this moment, and that this process was not given before."""
    while True:
        port = secrets.choice(_PORTS)
        if port in _given:
            continue
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            _given.add(port)
            return port


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
