"""Faults of S3 between a client and a server, in AWS's own words: the proxy ``microburst`` of PyPI."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from donjon.testing.servers.ports import wait_for_port

_START_TIMEOUT_S = 60.0


class Microburst:
    """A running proxy. Without rules it changes nothing."""

    def __init__(self, url: str) -> None:
        self.url = url

    def set(self, rules: Sequence[Mapping[str, Any]]) -> None:
        """Suffer these faults from now on, and no others; see the proxy's README for their form."""
        self._ask("POST", "rules", [{"service": "s3", **rule} for rule in rules])
        self._ask("DELETE", "fired")

    def fired(self) -> int:
        """How many requests suffered a fault since the rules were set."""
        return len(self._ask("GET", "fired?limit=1000"))

    def _ask(self, method: str, what: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = Request(  # noqa: S310 - http of this machine
            f"{self.url}/_microburst/{what}",
            data,
            {"Content-Type": "application/json"},
            method=method,
        )
        with urlopen(request, timeout=30) as answer:  # noqa: S310
            return json.loads(answer.read() or b"null")


@contextlib.contextmanager
def microburst(upstream: str, port: int) -> Iterator[Microburst]:
    """Run a proxy on a port before ``upstream`` until the body ends.

    Raises ``RuntimeError`` if it is missing or does not start.
    """
    program = Path(sys.executable).with_name("microburst")
    if not program.exists():
        message = "microburst is missing; install it with: pip install microburst"
        raise RuntimeError(message)
    command = [str(program), "--upstream", upstream, "--port", str(port), "--host", "127.0.0.1"]
    server = subprocess.Popen(  # noqa: S603 - a fixed command
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for_port(server, port, time.monotonic() + _START_TIMEOUT_S)
        yield Microburst(f"http://127.0.0.1:{port}")
    finally:
        server.kill()
        server.wait()
