"""What holds for all tests."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from donjon.testing.seaweedfs import SeaweedFs, seaweedfs

# A shell starts what it puts in the background with Ctrl-C ignored, and every process started from there
# inherits that. The tests press it, wherever they were started.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFs]:
    """One S3 server for all tests, which make buckets of their own; its credential is in the environment."""
    with pytest.MonkeyPatch.context() as patch, seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as server:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        yield server
