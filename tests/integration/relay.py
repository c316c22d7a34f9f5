"""A command that a server of PostgreSQL runs as its own user, carried out by this process.

The tests run as root where they can, PostgreSQL never does, and its user may not even be able to enter the
folder of this checkout. The script hands its arguments over and ends as the real command ended here.
"""

from __future__ import annotations

import os
import select
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from donjon.app.config import Settings
from donjon.app.postgres.archive import WalArchive
from donjon.app.postgres.push import push, system_of
from donjon.app.wiring import Workspace
from donjon.core.errors import DonjonError, PathNotFound
from donjon.core.events import Silent
from tests.integration.cli import Donjon

_SCRIPT = """\
#!/bin/sh
here=$PWD
cd {folder} || exit 200
{{ printf '%s\\n' "$here"; for word; do printf '%s\\n' "$word"; done; printf '.\\n'; }} >ask
read -r code <answer && exit "$code"
exit 200
"""


class Relay:
    """Runs `donjon` for one server, one call after the other. ``calls`` are (arguments, exit code)."""

    def __init__(self, folder: Path, donjon: Donjon, owner: int) -> None:
        self.calls: list[tuple[list[str], int]] = []
        self.said = b""
        #: Set, every call is answered with this exit code, and nothing is run.
        self.answer_only: int | None = None
        #: Whether each call is a process of its own, as it is in earnest.
        self.as_command = False
        self._space = Workspace(Settings(donjon.home, kit=donjon.kit))
        self._at = Path()
        self._archive: WalArchive | None = None
        self._donjon = donjon
        self._owner = owner
        self.script = folder / "donjon"
        self.script.write_text(_SCRIPT.format(folder=folder))
        self.script.chmod(0o755)
        self._pipes = []
        for name in ("ask", "answer"):
            os.mkfifo(folder / name, 0o600)
            os.chown(folder / name, owner, -1)
            self._pipes.append(os.open(folder / name, os.O_RDWR))
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        for pipe in self._pipes:
            os.close(pipe)

    def _serve(self) -> None:
        poll, text = select.poll(), b""
        poll.register(self._pipes[0], select.POLLIN)
        while not self._ended.is_set():
            if not poll.poll(100):
                continue
            text += os.read(self._pipes[0], 65_536)
            if text.endswith(b"\n.\n"):
                folder, *arguments = text.decode().splitlines()[:-1]
                text = b""
                os.write(self._pipes[1], f"{self._run(folder, arguments)}\n".encode())

    def _run(self, folder: str, arguments: list[str]) -> int:
        code = self.answer_only
        if code is None and not self.as_command:
            code = self._run_here(Path(folder), arguments)
        if code is None:
            environment = self._donjon.environment()
            done = subprocess.run(
                [self._donjon.program, *arguments],
                cwd=folder,
                env=environment,
                capture_output=True,
                check=False,
                timeout=60,
            )
            code, self.said = done.returncode, done.stderr
            written = Path(folder, arguments[-1])
            if "fetch" in arguments and written.exists():
                os.chown(written, self._owner, -1)
        self.calls.append((arguments, code))
        return code

    def _run_here(self, folder: Path, arguments: list[str]) -> int:
        """What the command does, without the time that a process takes to start."""
        if folder != self._at or self._archive is None:  # another server
            self._at, self._archive = folder, WalArchive(self._space, self._space.open_for_reading(), "shop")
        path = folder / arguments[-1]
        try:
            if "push" in arguments:
                push(self._space, "shop", path, Silent())
            else:
                self._archive.fetch(system_of(folder), arguments[-2], path)
                os.chown(path, self._owner, -1)
        except DonjonError as error:
            self.said = error.message.encode()
            return 1 if isinstance(error, PathNotFound) or "push" in arguments else 126
        return 0


@contextmanager
def relay(folder: Path, donjon: Donjon, owner: int) -> Iterator[Relay]:
    """A relay in a new folder."""
    folder.mkdir(mode=0o755)
    made = Relay(folder, donjon, owner)
    try:
        yield made
    finally:
        made.close()
