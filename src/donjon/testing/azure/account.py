"""A storage account of Azure on this machine: Azurite behind our WORM front.

Both are fakes. Azurite (https://github.com/Azure/Azurite, from npm) keeps bytes and knows neither versions
nor locks; ``AzureFront`` keeps versions and enforces the documented locks.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from donjon.core.clock import Clock
from donjon.testing.azure.front import AzureFront
from donjon.testing.front import Upstream, serving
from donjon.testing.servers.ports import free_port, wait_for_port

#: The account that every Azurite has; its key is public (https://learn.microsoft.com/azure/storage/common/
#: storage-connect-azurite).
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
#: Where tools/azurite.sh installs it, below the folder that the tests run in.
_INSTALLED = "node_modules/.bin/azurite-blob"
_START_TIMEOUT_S = 30.0


@contextlib.contextmanager
def azurite() -> Iterator[int]:
    """Run Azurite in memory until the body ends; gives its port.

    The program is the one in ``node_modules`` here, or else on the PATH. Raises ``RuntimeError`` if it is
    missing or does not start: a suite that needs it must fail, not be skipped.
    """
    here = Path(_INSTALLED)
    program = str(here) if here.exists() else shutil.which("azurite-blob")
    if program is None:
        message = "Azurite is missing; install it with tools/azurite.sh"
        raise RuntimeError(message)
    port = free_port()
    command = [program, "--blobHost", "127.0.0.1", "--blobPort", str(port), "--inMemoryPersistence"]
    command += ["--skipApiVersionCheck", "--silent", "--disableTelemetry"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603
    try:
        wait_for_port(server, port, time.monotonic() + _START_TIMEOUT_S)
        yield port
    finally:
        server.kill()
        server.wait()


@contextlib.contextmanager
def azure(port: int, clock: Clock) -> Iterator[tuple[AzureFront, str]]:
    """A front before the Azurite at ``port``, and a connection string that may do everything."""
    front = AzureFront(Upstream(port), clock, ACCOUNT, KEY)
    with serving(front) as address:
        yield (
            front,
            (
                f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};"
                f"BlobEndpoint={address}/{ACCOUNT};"
            ),
        )
