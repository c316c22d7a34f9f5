"""The database behind the catalog: SQLite in the home of this host, or a PostgreSQL."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine, Table, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from donjon.core.errors import (
    CatalogFailed,
    DonjonError,
    PermissionMissing,
    Refused,
    StoreFull,
    UsageError,
)
from donjon.core.retries import Retries
from donjon.keys.private import create_private, private_folder

T = TypeVar("T")

_ATTEMPTS: Final = 60
#: A server that is restarted is back within that time.
PATIENCE_S: Final = 60.0
_BUSY_MS: Final = 30_000
_CONNECT_TIMEOUT_S: Final = 10
#: What the databases say of faults that last (https://www.sqlite.org/rescode.html has those of SQLite).
_FAULTS: Final[tuple[tuple[type[DonjonError], str, tuple[str, ...]], ...]] = (
    (StoreFull, "Free some room and try again.", ("disk is full", "no space left")),
    (
        PermissionMissing,
        "Let the user that runs Donjon write there, with its folder.",
        ("readonly", "read-only", "unable to open", "permission denied"),
    ),
    (
        CatalogFailed,
        "Move the file away; `donjon catalog rebuild` reads again what vaults and providers hold.",
        ("not a database", "malformed"),
    ),
    (PermissionMissing, "Set PGPASSWORD, or write a line into ~/.pgpass.", ("password",)),
)
#: What they say of faults that are over once a server has restarted, or another process has finished.
_PASSING: Final = (
    "locked", "connection", "starting up", "shutting down", "terminat", "recovery", "deadlock",
)  # fmt: skip


class Catalog:
    """An open catalog. Every call is a transaction on a connection of its own, from whatever thread."""

    def __init__(
        self, engine: Engine, *, patience_s: float = PATIENCE_S, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        """``patience_s`` is how long to try again what may succeed later."""
        self._engine = engine
        self.patience_s = patience_s
        self._sleep = sleep

    @property
    def place(self) -> str:
        """Where it is, without a password."""
        return place_of(self._engine.url)

    def read(self, work: Callable[[Connection], T]) -> T:
        """What ``work`` finds. Raises ``CatalogFailed``, ``PermissionMissing``."""
        return self._transact(work, write=False)

    def write(self, work: Callable[[Connection], T]) -> T:
        """Carry out ``work`` whole or not at all. It may be carried out again if a reply was lost.

        Raises ``CatalogFailed``, ``PermissionMissing``, ``StoreFull``.
        """
        return self._transact(work, write=True)

    def close(self) -> None:
        """Give back what the engine holds."""
        self._engine.dispose()

    def _transact(self, work: Callable[[Connection], T], *, write: bool) -> T:
        retries = Retries(_ATTEMPTS, self.patience_s, self._sleep, random.random, time.monotonic)
        while True:
            try:
                with self._engine.connect() as plain:
                    connection = plain.execution_options(donjon_write=write)
                    with connection.begin():
                        return work(connection)
            except (SQLAlchemyError, OSError) as error:
                ours = _translated(self.place, error)
                if not retries.pause_after(ours):
                    raise ours from error


def open_database(address: str | None, folder: Path) -> Catalog:
    """The catalog at an address of SQLAlchemy, by default ``catalog.db`` in ``folder``. Nothing is upgraded.

    Raises ``UsageError`` for an address that cannot be one, and ``PermissionMissing``, ``StoreFull`` if the
    file cannot be made.
    """
    url = _parse(address) if address else URL.create("sqlite", database=str(folder / "catalog.db"))
    try:
        if url.get_backend_name() == "sqlite":
            return Catalog(_sqlite(url))
        return Catalog(_postgresql(url))
    except ModuleNotFoundError as error:
        msg = f"{place_of(url)}: the driver for PostgreSQL is not installed"
        raise UsageError(msg, hint="Install it with: pip install 'donjon[postgres]'") from error


def place_of(url: URL) -> str:
    """An address for people, without its password and without parameters, which may hold another one."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    return url.set(query={}).render_as_string(hide_password=True)


def _parse(address: str) -> URL:
    hint = "Write postgresql+psycopg://USER@HOST/DATABASE, or sqlite:////absolute/path."
    try:
        url = make_url(address)
        backend = url.get_backend_name()
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        # Not the address itself: whatever it is, it may hold a password.
        raise UsageError("DONJON_CATALOG is no address of a database", hint=hint) from error
    if backend == "postgresql" and url.drivername in {"postgresql", "postgresql+psycopg"}:
        return url.set(drivername="postgresql+psycopg")
    if url.drivername == "sqlite" and url.database and Path(url.database).is_absolute():
        return url.set(query={})
    msg = f"the catalog cannot be in a database of {url.drivername}"
    raise UsageError(msg, hint=hint)


def _sqlite(url: URL) -> Engine:
    path = Path(str(url.database))
    if not path.exists():
        private_folder(path.parent)
        with contextlib.suppress(Refused):  # another process was first
            create_private(path, b"")  # the files beside it get the same mode
    engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": _BUSY_MS / 1000})

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _: object) -> None:
        connection.isolation_level = None  # transactions begin as we say, not as the driver guesses
        for pragma in (f"busy_timeout = {_BUSY_MS}", "journal_mode = WAL", "foreign_keys = ON"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("PRAGMA synchronous = NORMAL")  # never damaged; a crash may undo the last seconds

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A transaction that reads before it writes would fail, not wait, if another one writes meanwhile.
        write = connection.get_execution_options().get("donjon_write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def _postgresql(url: URL) -> Engine:
    options = {"connect_timeout": _CONNECT_TIMEOUT_S, "application_name": "donjon"}
    return create_engine(url, poolclass=NullPool, connect_args=options)


def _translated(place: str, error: Exception) -> DonjonError:
    """Our error for one of the database; its statement and parameters stay out of it."""
    said = str(error.orig if isinstance(error, DBAPIError) else error).strip().splitlines()
    what = f"the catalog {place}: {said[0] if said else type(error).__name__}"
    for made, hint, words in _FAULTS:
        if any(word in what.lower() for word in words):
            return made(what, hint=hint)
    passing = isinstance(error, DBAPIError) and (
        error.connection_invalidated or any(word in what.lower() for word in _PASSING)
    )
    hint = "Look whether the database runs; the catalog is a cache, so nothing of any vault is lost."
    return CatalogFailed(what, hint=hint, retryable=passing)


def upsert(
    connection: Connection, table: Table, rows: Sequence[Mapping[str, object]], *, keep: Sequence[str] = ()
) -> None:
    """Put rows, in place of those with the same key; the columns ``keep`` stay as they are there."""
    if not rows:
        return
    from sqlalchemy.dialects import postgresql, sqlite

    make: Any = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    key = [column.name for column in table.primary_key]
    statement = make(table)
    changed = {
        column.name: statement.excluded[column.name]
        for column in table.columns
        if column.name in rows[0] and column.name not in (*key, *keep)
    }
    statement = statement.on_conflict_do_update(index_elements=key, set_=changed)
    connection.execute(statement, [dict(row) for row in rows])
