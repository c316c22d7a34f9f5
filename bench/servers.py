"""A real S3 server for the tools to back up to, and what it counts of them.

SeaweedFS on the loopback interface, a fresh one for every tool and corpus. It counts the requests of all
tools alike, whatever they are, and its counting costs nothing that one tool would pay and another not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

from donjon.testing.aws.seaweedfs import SeaweedFs
from donjon.testing.servers.ports import free_port

_COUNTER = "SeaweedFS_s3_request_total{"


class Server:
    """A server that is started and stopped once."""

    def __init__(self, folder: Path) -> None:
        self._metrics = free_port()
        # Volumes of a usual size: with those of 64 MB, as tests have them, it makes a new one for each pack.
        options = (f"-metricsPort={self._metrics}", "-master.volumeSizeLimitMB=1024")
        self._server = SeaweedFs(folder, options)

    @property
    def endpoint(self) -> str:
        """Where S3 answers."""
        return self._server.endpoint

    @property
    def environment(self) -> dict[str, str]:
        """The credential, as all tools read it."""
        return self._server.environment

    def start(self) -> None:
        """Return when it answers. Raises ``RuntimeError`` if it does not start."""
        self._server.start()

    def stop(self) -> None:
        """End it."""
        self._server.kill()

    def requests(self) -> int:
        """How many requests of S3 it has answered, refusals included. Raises ``OSError``."""
        with urlopen(f"http://127.0.0.1:{self._metrics}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        return sum(int(float(line.split()[-1])) for line in lines if line.startswith(_COUNTER))

    def stored_bytes(self, bucket: str) -> int:
        """The sizes of all versions of all objects in a bucket."""
        pages = self._server.client().get_paginator("list_object_versions").paginate(Bucket=bucket)
        return sum(version["Size"] for page in pages for version in page.get("Versions", ()))


@contextmanager
def running(folder: Path) -> Iterator[Server]:
    """A server that keeps its data in ``folder`` until the body ends."""
    folder.mkdir(parents=True)
    server = Server(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
