"""Servers on free ports of the loopback interface."""

from __future__ import annotations

import contextlib
import secrets
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from urllib.request import urlopen

#: Below those that the kernel gives to outgoing connections (net.ipv4.ip_local_port_range), any of which may
#: take a port between the look at it and the start of the server that is to have it.
_PORTS = range(15_000, 32_000)
#: Those that this process was given, each with a name that no other process can take meanwhile: two that
#: start servers at once would find the same port free. The kernel forgets the names when the process ends.
_given: dict[int, socket.socket] = {}


def free_port() -> int:
    """A port that nobody listens on at this moment, and that no living process was given before."""
    while True:
        port = secrets.choice(_PORTS)
        if port in _given:
            continue
        claim = socket.socket(socket.AF_UNIX)
        with contextlib.suppress(OSError), socket.socket() as probe:
            claim.bind(f"\0donjon-port-{port}")  # abstract: a name without a file
            probe.bind(("127.0.0.1", port))
            _given[port] = claim
            return port
        claim.close()


def wait_for_port(
    server: subprocess.Popen[bytes], port: int, deadline: float, log: Path | None = None
) -> None:
    """Return when ``server`` takes connections.

    Raises ``RuntimeError``, with the end of ``log``, if it ends or if ``time.monotonic()`` passes
    ``deadline`` first.
    """
    _wait(server, lambda: socket.create_connection(("127.0.0.1", port), timeout=1).close(), deadline, log)


def wait_for_answer(
    server: subprocess.Popen[bytes], url: str, deadline: float, log: Path | None = None
) -> None:
    """Return when ``server`` answers a GET of ``url``; raises as ``wait_for_port`` does."""
    _wait(server, lambda: urlopen(url, timeout=5).close(), deadline, log)  # noqa: S310


def _wait(
    server: subprocess.Popen[bytes], reach: Callable[[], None], deadline: float, log: Path | None
) -> None:
    while server.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            reach()
            return
        time.sleep(0.02)
    told = f": {log.read_text(errors='replace')[-4000:]}" if log else ""
    message = f"{server.args!r} did not start (exit code {server.poll()}){told}"
    raise RuntimeError(message)
