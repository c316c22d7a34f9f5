"""AWS on this machine without any rights: moto, in an environment of its own (tools/side-venv.sh).

What its KMS enforces was tried: the encryption context, and that a seal is as KMS made it. It ignores who
asks, and every policy: ``donjon.testing.aws.ministack`` is for those.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from donjon.testing.servers.ports import free_port, wait_for_answer

#: Where tools/side-venv.sh installs it, below the folder that the tests run in.
_INSTALLED = Path(".tools/moto/bin/moto_server")
_START_TIMEOUT_S = 60.0


@contextlib.contextmanager
def moto(folder: Path) -> Iterator[str]:
    """Run a server that logs into ``folder`` until the body ends; its endpoint.

    Raises ``RuntimeError`` if it is missing or does not start: a suite that needs it must fail, not be
    skipped.
    """
    if not _INSTALLED.exists():
        message = "moto is missing; install it with: tools/side-venv.sh python3 moto"
        raise RuntimeError(message)
    port = free_port()
    log = folder / "log"
    with log.open("ab") as out:
        process = subprocess.Popen(  # noqa: S603 - a fixed command
            [str(_INSTALLED.absolute()), "-H", "127.0.0.1", "-p", str(port)],
            stdout=out,
            stderr=out,
            cwd=folder,
            # Hundreds of images with snapshots would make each listing of snapshots slow.
            env=os.environ | {"MOTO_EC2_LOAD_DEFAULT_AMIS": "false"},
        )
    try:
        endpoint = f"http://127.0.0.1:{port}"
        wait_for_answer(process, f"{endpoint}/moto-api/", time.monotonic() + _START_TIMEOUT_S, log)
        yield endpoint
    finally:
        process.kill()
        process.wait()
