"""Hands a recovering server of a drill the files of its log, one at a time, as it asks for them.

The server runs as another user, who may have neither a key nor this program. It asks through a named pipe,
with a script of the shell as its ``restore_command``; PostgreSQL asks for one file after the other.
"""

from __future__ import annotations

import os
import select
import shlex
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final

from donjon.core.errors import DonjonError, PathNotFound
from donjon.recovery.postgres_server import Account
from donjon.recovery.postgres_wal import parse_name

#: Writes the file of this name to a path. Raises ``PathNotFound`` where the log ends.
Fetch = Callable[[str, Path], None]

_LINE_LIMIT: Final = 64  # a name, and the end of the line
_ROUND_MS: Final = 200
# Over 125: PostgreSQL ends the recovery with an error instead of taking it for the end of the log.
_SCRIPT: Final = """\
#!/bin/sh
cd {folder} || exit 200
printf '%s\\n' "$1" >ask || exit 200
read -r answer <answer || exit 200
case "$answer" in
    ok) exec mv "wal/$1" "data/$2" ;;
    end) exit 1 ;;
    *) exit 200 ;;
esac
"""


class LogFeed:
    """The pipes and the thread behind them, in the folder of a drill server. Use it in a ``with``.

    ``served`` are the names of the files handed out, ``failure`` is why the last one was not.
    """

    def __init__(self, folder: Path, fetch: Fetch, runs_as: Account) -> None:
        self.served: list[str] = []
        self.failure: DonjonError | None = None
        self._folder = folder
        self._fetch = fetch
        self._runs_as = runs_as
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="donjon-log-feed", daemon=True)
        self._pipes: list[int] = []

    @property
    def restore_command(self) -> str:
        """For the settings of the server, whose working directory is ``data``."""
        return f'/bin/sh {shlex.quote(str(self._folder / "fetch"))} "%f" "%p"'

    def __enter__(self) -> LogFeed:
        wal, script = self._folder / "wal", self._folder / "fetch"
        wal.mkdir(mode=0o700)
        script.write_text(_SCRIPT.format(folder=shlex.quote(str(self._folder))))
        for name in ("ask", "answer"):
            os.mkfifo(self._folder / name, 0o600)
            self._runs_as.own(self._folder / name)
            # Open for both, so that neither end ever waits for somebody to open the other one.
            self._pipes.append(os.open(self._folder / name, os.O_RDWR | os.O_CLOEXEC))
        for path in (wal, script):
            self._runs_as.own(path)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        for pipe in self._pipes:
            os.close(pipe)

    def _serve(self) -> None:
        ask, answer = self._pipes
        poll = select.poll()
        poll.register(ask, select.POLLIN)
        line = b""
        while not self._ended.is_set():
            if not poll.poll(_ROUND_MS):
                continue
            line += os.read(ask, _LINE_LIMIT)
            if line.endswith(b"\n") or len(line) >= _LINE_LIMIT:
                os.write(answer, self._answer(line.decode(errors="replace").strip()) + b"\n")
                line = b""

    def _answer(self, name: str) -> bytes:
        try:
            parse_name(name)
            out = self._folder / "wal" / name
            self._fetch(name, out)
            self._runs_as.own(out)
        except PathNotFound:
            return b"end"
        except DonjonError as error:
            self.failure = error
            return b"failed"
        except Exception as error:
            self.failure = DonjonError(f"{name}: {error!r}")
            return b"failed"
        self.served.append(name)
        return b"ok"
