"""A PostgreSQL on this machine: Debian's server on the loopback interface, with its data in a folder.

It asks for passwords (SCRAM) and may be replicated from. It does not sync to the disk, unless told.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from donjon.testing.folders import open_to_others
from donjon.testing.servers.ports import free_port

_DEBIAN: tuple[Path, ...] = (Path("/usr/lib/postgresql/15/bin"),)
_START_TIMEOUT_S = 60.0
_USERS = ("postgres", "nobody")
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "shared_buffers": "16MB",
    "max_wal_size": "256MB",
    "logging_collector": "off",
}


def postgres_program(name: str) -> str:
    """The path of a program such as ``pg_basebackup``. Raises ``RuntimeError`` if it is missing."""
    found = next((folder / name for folder in _DEBIAN if (folder / name).exists()), None)
    if found is None and (path := shutil.which(name)):
        found = Path(path)
    if found is None:
        message = f"{name} is missing; install it with: apt-get install postgresql-15"
        raise RuntimeError(message)
    return str(found)


@dataclass(slots=True)
class PostgresServer:
    """A server whose superuser is ``user``. ``settings`` go before those of its configuration at each start.

    ``data`` may be a folder that another program filled, such as a restored base backup: see ``adopt``.
    """

    folder: Path
    port: int
    user: str = "donjon"
    password: str = field(default_factory=lambda: secrets.token_urlsafe(18))
    settings: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        """The folder of the cluster."""
        return self.folder / "data"

    @property
    def log(self) -> Path:
        """What the server says."""
        return self.folder / "log"

    @property
    def environment(self) -> dict[str, str]:
        """What lets libpq and the programs of PostgreSQL connect as the superuser."""
        return {
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.port),
            "PGUSER": self.user,
            "PGPASSWORD": self.password,
            "PGDATABASE": "postgres",
        }

    def conninfo(self, database: str = "postgres", *, password: bool = True) -> str:
        """The address of a database for libpq, with the password or without."""
        secret = f":{quote(self.password)}" if password else ""
        return f"postgresql://{self.user}{secret}@127.0.0.1:{self.port}/{database}"

    def sql(self, statement: str, database: str = "postgres") -> str:
        """What psql prints for statements, unaligned. Raises ``RuntimeError`` with what the server says."""
        options = ["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", statement]
        command = [postgres_program("psql"), *options]
        environment = os.environ | self.environment
        done = subprocess.run(command, env=environment, capture_output=True, check=False)  # noqa: S603
        if done.returncode:
            raise RuntimeError(done.stderr.decode(errors="replace"))
        return done.stdout.decode().strip()

    def make_database(self) -> str:
        """A new empty database; its name."""
        name = f"d{secrets.token_hex(8)}"
        self.sql(f'CREATE DATABASE "{name}"')
        return name

    def make(self) -> None:
        """Make an empty cluster."""
        secret = self.folder / "password"
        secret.write_text(self.password)
        _own(self.folder)
        options = ["-D", str(self.data), "-U", self.user, "--pwfile", str(secret), "--no-sync"]
        options += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8"]
        command = [postgres_program("initdb"), *options]
        done = subprocess.run(command, capture_output=True, check=False, **_as_user())  # type: ignore[call-overload]  # noqa: S603
        secret.unlink()
        if done.returncode:
            raise RuntimeError(done.stderr.decode(errors="replace"))

    def adopt(self) -> None:
        """Hand the folder of the cluster to the user that runs servers, and close it to others."""
        _own(self.data)
        self.data.chmod(0o700)

    def start(self, settings: Mapping[str, str] | None = None) -> None:
        """Start the server, and wait until it takes connections. Raises ``RuntimeError`` with its log."""
        if settings:
            self.settings |= settings
        command = [postgres_program("postgres"), "-D", str(self.data), "-p", str(self.port)]
        for name, value in (_SETTINGS | self.settings).items():
            command += ["-c", f"{name}={value}"]
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(  # type: ignore[call-overload]  # noqa: S603
                command, stdout=out, stderr=out, cwd=self.folder, start_new_session=True, **_as_user()
            )
        self._wait()

    def _wait(self) -> None:
        process, deadline = self.process, time.monotonic() + _START_TIMEOUT_S
        assert process is not None
        ready = [postgres_program("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        while process.poll() is None and time.monotonic() < deadline:
            if subprocess.run(ready, check=False).returncode == 0:  # noqa: S603
                return
            time.sleep(0.05)
        said = self.log.read_text(errors="replace")[-4000:]
        message = f"PostgreSQL did not start (exit code {process.poll()}): {said}"
        raise RuntimeError(message)

    def stop(self, *, crash: bool = False) -> None:
        """Stop it: cleanly, or as a crash would, so that the next start recovers from the log."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT if crash else signal.SIGINT)
            try:
                self.process.wait(_START_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None

    def restart(self, *, crash: bool = False) -> None:
        """Stop it and start it again."""
        self.stop(crash=crash)
        self.start()


def _server_user() -> pwd.struct_passwd | None:
    """Whom the server runs as; None for the user of this process, as only root has to become another."""
    if os.geteuid() != 0:
        return None
    for name in _USERS:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    message = "PostgreSQL does not run as root, and there is no user postgres or nobody"
    raise RuntimeError(message)


def _as_user() -> dict[str, object]:
    environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/nonexistent"}
    if user := _server_user():
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": [], "env": environment}
    return {"env": environment}


def _own(folder: Path) -> None:
    """Hand a folder with all in it to whom the server runs as."""
    if user := _server_user():
        for parent, names, files in os.walk(folder):
            for path in (parent, *(os.path.join(parent, name) for name in (*names, *files))):  # noqa: PTH118
                os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)


@contextlib.contextmanager
def postgres(folder: Path, settings: Mapping[str, str] | None = None) -> Iterator[PostgresServer]:
    """Run a new server that keeps its data in ``folder`` until the body ends.

    Raises ``RuntimeError`` if PostgreSQL is missing or does not start: a suite that needs it must fail, not
    be skipped.
    """
    open_to_others(folder)
    server = PostgresServer(folder, free_port(), settings=dict(settings or {}))
    server.make()
    try:
        server.start()
        yield server
    finally:
        server.stop()
