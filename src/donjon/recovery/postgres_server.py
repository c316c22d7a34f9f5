"""A server of PostgreSQL for a drill: on a socket that only its user reaches, and gone at the end."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from donjon.core.errors import IntegrityFailure, TargetFailed, UsageError
from donjon.core.events import StopCheck

_USERS: Final = ("postgres", "nobody")
_PORT: Final = "5432"  # part of the name of its socket, which is in a folder of its own
_END_S: Final = 30.0
_LOG_BYTES: Final = 4_000
# What should be at least as on the server that was backed up, as prepared transactions and their locks come
# back with it. pg_controldata shows them.
_AT_LEAST: Final = {
    "max_connections": "max_connections",
    "max_worker_processes": "max_worker_processes",
    "max_wal_senders": "max_wal_senders",
    "max_prepared_xacts": "max_prepared_transactions",
    "max_locks_per_xact": "max_locks_per_transaction",
}
_SETTING: Final = re.compile(r"^(\w+) setting:\s+(\d+)$", re.MULTILINE)
#: Whatever the server that was backed up has set: nothing of the drill leaves this host, or writes elsewhere.
_SETTINGS: Final = {
    "archive_mode": "off",
    # Nobody has to look in before recovery has ended. And with it recovery waits for ever where the log tells
    # that a setting was raised: see "Administrator's Overview" of hot standby in PostgreSQL's manual.
    "hot_standby": "off",
    "listen_addresses": "",
    "ssl": "off",
    "shared_buffers": "64MB",
    "huge_pages": "off",
    "shared_preload_libraries": "",
    "session_preload_libraries": "",
    "local_preload_libraries": "",
    "logging_collector": "off",
    "log_destination": "stderr",
    "log_min_messages": "warning",
    "primary_conninfo": "",
    "primary_slot_name": "",
    "archive_cleanup_command": "",
    "recovery_end_command": "",
    "cluster_name": "donjon-drill",
    "autovacuum": "off",
    "max_logical_replication_workers": "0",  # subscriptions of production must not start here
    "fsync": "off",
    "lc_messages": "C",
}


@dataclass(frozen=True, slots=True)
class Account:
    """Whom the server runs as: PostgreSQL refuses to run as root."""

    uid: int
    gid: int
    is_other: bool

    @property
    def options(self) -> dict[str, Any]:
        """For ``subprocess``."""
        environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/nonexistent"}
        other = {"user": self.uid, "group": self.gid, "extra_groups": []} if self.is_other else {}
        return {"env": environment, "stdin": subprocess.DEVNULL, **other}

    def check_reach(self, folder: Path) -> None:
        """Raises ``UsageError`` unless the account can enter a folder, going by the modes on the way."""
        for place in (folder, *folder.parents) if self.is_other else ():
            status = place.stat()
            if not status.st_mode & 0o001 and (status.st_uid, status.st_mode & 0o100) != (self.uid, 0o100):
                msg = f"{place}: the user that runs the server of the drill cannot enter this folder"
                raise UsageError(msg, hint="Name another place with --folder, such as /var/tmp.")

    def own(self, path: Path) -> None:
        """Hand a file or folder to the account."""
        if self.is_other:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)


def account(name: str | None = None) -> Account:
    """The user ``name``, else this one; for root the user postgres or nobody. Raises ``UsageError``."""
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid(), is_other=False)
    for wanted in (name,) if name else _USERS:
        with contextlib.suppress(KeyError):
            found = pwd.getpwnam(wanted)
            return Account(found.pw_uid, found.pw_gid, is_other=True)
    msg = f"there is no user {name or ' or '.join(_USERS)} on this host"
    raise UsageError(msg, hint="PostgreSQL does not run as root: name a user with --run-as.")


@dataclass(slots=True)
class DrillServer:
    """A server in ``folder``, with its data. ``programs`` are the paths of PostgreSQL's programs.

    Its socket is in ``sockets``, for ``folder`` may have a longer path than a socket can.
    """

    folder: Path
    sockets: Path
    programs: Mapping[str, str]
    runs_as: Account
    settings: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.folder / "data"

    @property
    def conninfo(self) -> str:
        """How to reach it, without a user."""
        return f"host={self.sockets}"

    def run(self, name: str, *arguments: str, timeout_s: float = 3600) -> tuple[int, str]:
        """Exit code of one of PostgreSQL's programs, and the end of what it said."""
        command = [self.programs[name], *arguments]
        try:
            done = subprocess.run(  # noqa: S603 - PostgreSQL's own programs
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                check=False,
                timeout=timeout_s,
                cwd=self.folder,
                **self.runs_as.options,
            )
        except subprocess.TimeoutExpired:
            return 1, f"took longer than {timeout_s:.0f} s"
        return done.returncode, done.stdout.decode(errors="replace")[-_LOG_BYTES:].strip()

    def feed(self, name: str, *arguments: str, pieces: Iterable[bytes | memoryview]) -> tuple[int, str]:
        """Like ``run``, with these pieces as standard input. A program that ends early gets no more."""
        said = self.folder / f"said-{name}"
        options = {key: value for key, value in self.runs_as.options.items() if key != "stdin"}
        with said.open("wb") as out:
            process = subprocess.Popen(  # noqa: S603
                [self.programs[name], *arguments],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=out,
                cwd=self.folder,
                **options,
            )
        assert process.stdin is not None  # noqa: S101  (a pipe)
        try:
            with contextlib.suppress(BrokenPipeError), process.stdin:
                for piece in pieces:
                    process.stdin.write(piece)
            code = process.wait()
        finally:
            process.kill()
            process.wait()
        return code, said.read_text(errors="replace")[-_LOG_BYTES:].strip()

    def start(self) -> None:
        """Start it; it may still recover for a long time."""
        configuration, access = self.folder / "postgresql.conf", self.folder / "pg_hba.conf"
        configuration.write_text("")
        access.write_text("local all all trust\n")  # in a folder that nobody else enters
        for path in (configuration, access):
            self.runs_as.own(path)
        settings = _SETTINGS | self._minimums() | self.settings
        settings |= {"config_file": str(configuration), "hba_file": str(access)}
        settings |= {"ident_file": str(access), "unix_socket_directories": str(self.sockets)}
        command = [*_end_with_us(), self.programs["postgres"], "-D", str(self.data), "-p", _PORT]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603
                command,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
                **self.runs_as.options,
            )

    def _minimums(self) -> dict[str, str]:
        code, said = self.run("pg_controldata", "-D", str(self.data))
        if code:
            msg = f"pg_controldata: {said}"
            raise IntegrityFailure(msg, hint="The base backup is damaged; restore another point.")
        return {_AT_LEAST[name]: value for name, value in _SETTING.findall(said) if name in _AT_LEAST}

    def wait_until_open(self, user: str, timeout_s: float, stop: StopCheck) -> None:
        """Return when it has recovered and takes writes. Raises ``TargetFailed`` with the end of its log."""
        import psycopg

        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            stop()
            if self.process is None or self.process.poll() is not None:
                msg = f"the server ended while it recovered: {self.said()}"
                raise TargetFailed(msg, hint="The log may have a gap, or the time be too early.")
            with contextlib.suppress(psycopg.OperationalError), self.connect(user) as connection:
                row = connection.execute("SELECT pg_is_in_recovery()").fetchone()
                if row == (False,):
                    return
            time.sleep(0.05)
        msg = f"the server did not recover within {timeout_s:.0f} s: {self.said()}"
        raise TargetFailed(msg, hint="Give it more time with --timeout.")

    def ask(self, user: str, database: str, sql: str) -> tuple[Any, ...] | None:
        """The first row that a query gives. Raises ``TargetFailed`` from what psycopg raises."""
        import psycopg

        try:
            with self.connect(user, database) as connection:
                row: tuple[Any, ...] | None = connection.execute(sql).fetchone()
        except psycopg.Error as error:
            raise TargetFailed(" ".join(str(error).split()), hint="Check the query.") from error
        return row

    @contextlib.contextmanager
    def connect(self, user: str, database: str = "postgres") -> Iterator[Any]:
        """A session. Raises what psycopg raises."""
        import psycopg

        with psycopg.connect(
            self.conninfo, port=_PORT, user=user, dbname=database, connect_timeout=10, autocommit=True
        ) as connection:
            yield connection

    def said(self) -> str:
        """The end of its log, in one line."""
        try:
            text = (self.folder / "log").read_text(errors="replace")
        except OSError:
            return ""
        return " ".join(text[-_LOG_BYTES:].split())

    def stop(self) -> None:
        """End it, in any state. Harmless afterwards."""
        process, self.process = self.process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGINT)  # a fast shutdown
        for harder in (signal.SIGQUIT, signal.SIGKILL):
            try:
                process.wait(_END_S)
                return
            except subprocess.TimeoutExpired:
                process.send_signal(harder)
        process.wait()


def _end_with_us() -> list[str]:
    """What lets the kernel end a program once this process is gone, even if it was killed; see prctl(2)."""
    found = shutil.which("setpriv")  # of util-linux
    return [found, "--pdeathsig", "QUIT", "--"] if found else []


@contextlib.contextmanager
def drill_server(
    folder: Path, programs: Mapping[str, str], runs_as: Account, names: Sequence[str] = ("data",)
) -> Iterator[DrillServer]:
    """A server that has not started, in a new folder. Nothing is left of it afterwards."""
    try:
        runs_as.check_reach(folder.parent)
        folder.mkdir(mode=0o700)
    except OSError as error:
        msg = f"{folder}: cannot be made: {error.strerror or error}"
        raise UsageError(msg, hint="Name another place with --folder.") from error
    sockets = Path(tempfile.mkdtemp(prefix="donjon-drill-"))
    server = DrillServer(folder, sockets, programs, runs_as)
    try:
        runs_as.own(sockets)
        runs_as.own(folder)
        for name in names:
            (folder / name).mkdir(mode=0o700)
            runs_as.own(folder / name)
        yield server
    finally:
        try:
            server.stop()
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            shutil.rmtree(sockets, ignore_errors=True)
