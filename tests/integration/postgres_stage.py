"""A server of PostgreSQL with real writes, its archive in a vault, and servers restored from there."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from donjon.app.config import Settings
from donjon.app.postgres.servers import RestoreWanted, restore_server
from donjon.app.wiring import Workspace
from donjon.core.events import Silent, never_stop
from donjon.recovery.postgres import parse_goal_time
from donjon.testing.folders import remove_tree
from donjon.testing.servers.ports import free_port
from donjon.testing.servers.postgres import PostgresServer, postgres
from tests.integration.cli import Donjon
from tests.integration.relay import Relay, relay

WORKLOAD = "shop"
#: So many a writer writes at most: the log of all of them is a few segments.
MOST_ROWS = 5_000
_WAIT_S = 30.0


@dataclass
class Stage:
    """The server ``shop``, the host that backs it up, and how its log gets to the vault."""

    folder: Path
    server: PostgresServer
    donjon: Donjon
    relay: Relay

    def rows(self, server: PostgresServer | None = None) -> list[str]:
        """All rows of the table, in order."""
        return (server or self.server).sql("SELECT id, note FROM orders ORDER BY id", "shop").splitlines()

    def own(self, folder: Path) -> None:
        """Hand a folder with all in it to the user that runs servers."""
        owner = self.server.data.stat()
        for path in (folder, *folder.rglob("*")):
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)

    def archive(self, server: PostgresServer | None = None) -> str:
        """Finish the segment that is written, and wait until it is archived; its name."""
        server = server or self.server
        name = server.sql("SELECT pg_walfile_name(pg_current_wal_lsn())")
        server.sql("CREATE TABLE IF NOT EXISTS nothing(); SELECT pg_switch_wal()")
        statement = f"SELECT last_archived_wal >= '{name}' FROM pg_stat_archiver"  # noqa: S608
        self.wait(server, statement, "t")
        return name

    def wait(self, server: PostgresServer, statement: str, wanted: str) -> None:
        deadline = time.monotonic() + _WAIT_S
        while (seen := server.sql(statement)) != wanted:
            assert time.monotonic() < deadline, (
                statement,
                seen,
                self.relay.said,
                server.log.read_text()[-2000:],
            )
            time.sleep(0.05)

    @contextmanager
    def started(self, data: Path, relayed: Relay | None = None) -> Iterator[PostgresServer]:
        """A server on a restored data directory, once it has recovered. It archives only with a relay."""
        archive = {"archive_mode": "off"}
        if relayed is not None:
            archive = {"archive_mode": "on", "archive_command": push_command(relayed)}
        server = PostgresServer(
            data.parent, free_port(), user=self.server.user, password=self.server.password, settings=archive
        )
        server.adopt()
        try:
            server.start()
            try:
                self.wait(server, "SELECT pg_is_in_recovery()", "f")
            except RuntimeError as error:
                raise AssertionError(server.log.read_text()[-3000:]) from error
            yield server
        finally:
            server.stop()

    def fetch_command(self, relayed: Relay | None = None) -> str:
        return f'{(relayed or self.relay).script} wal fetch --workload {WORKLOAD} "%f" "%p"'

    @property
    def space(self) -> Workspace:
        """What commands of this host work with, for what need not be a process of its own."""
        return Workspace(Settings(self.donjon.home, kit=self.donjon.kit))

    def restore(self, name: str, time: str | None = None, *, uses_wal: bool = True) -> Path:
        """Restore the newest base backup, to be recovered to a time or to the end; its data directory."""
        data = self.folder / name / "data"
        data.parent.mkdir()
        moment = parse_goal_time(time) if time else None
        wanted = RestoreWanted("shop@latest", data, moment, None, uses_wal, self.fetch_command())
        restore_server(self.space, wanted, Silent(), never_stop)
        return data


def push_command(relayed: Relay) -> str:
    return f'{relayed.script} wal push --workload {WORKLOAD} --quiet "%p"'


@contextmanager
def stage(folder: Path) -> Iterator[Stage]:
    """All of it, below ``folder``; ``PGSERVICEFILE`` tells where the services are."""
    host = folder / "host"
    host.mkdir()
    donjon = Donjon(host)
    donjon.init()
    servers = folder / "server"
    servers.mkdir()
    services = folder / "services"
    before = os.environ.get("PGSERVICEFILE")
    os.environ["PGSERVICEFILE"] = str(services)
    try:
        with postgres(servers, {"max_wal_senders": "5"}) as server:
            server.sql("CREATE DATABASE shop")
            server.sql("CREATE TABLE orders (id bigint PRIMARY KEY, note text)", "shop")
            owner = server.data.stat().st_uid
            services.write_text(service("shop", server) + service("nobody", server, user="nobody"))
            with relay(folder / "relay", donjon, owner) as relayed:
                settings = {"archive_mode": "on", "archive_command": push_command(relayed)}
                server.stop()
                server.start(settings)
                try:
                    yield Stage(folder, server, donjon, relayed)
                finally:
                    relayed.answer_only = 0  # a server that stops waits for its archiver
                    server.stop()
    finally:
        os.environ.pop("PGSERVICEFILE")
        if before is not None:
            os.environ["PGSERVICEFILE"] = before
        remove_tree(host)


def service(name: str, server: PostgresServer, user: str | None = None) -> str:
    return (
        f"[{name}]\nhost=127.0.0.1\nport={server.port}\nuser={user or server.user}\n"
        f"password={server.password}\n"
    )


@contextmanager
def writing(server: PostgresServer, first: int) -> Iterator[list[int]]:
    """Insert row after row, each in a transaction of its own, until the body ends; the ids committed."""
    written: list[int] = []
    ended = threading.Event()
    text = "x" * 500

    def write() -> None:
        with (
            contextlib.suppress(psycopg.OperationalError),  # a server that is killed
            psycopg.connect(server.conninfo("shop"), autocommit=True) as connection,
        ):
            number = first
            while not ended.is_set() and len(written) < MOST_ROWS:
                connection.execute("INSERT INTO orders VALUES (%s, %s)", (number, f"{number} {text}"))
                written.append(number)
                number += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield written
    finally:
        ended.set()
        thread.join()
