"""A server of PostgreSQL as a source: a base backup by pg_basebackup, or dumps by pg_dump and pg_dumpall.

Passwords are libpq's business: a service of pg_service.conf, and .pgpass. Only names of services are ever on
a command line.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import msgspec

from donjon.core.errors import SourceFailed, UsageError
from donjon.core.events import StopCheck, never_stop
from donjon.sources.commands import CommandStream
from donjon.sources.postgres_stream import FIRST_VERSION, BaseBackup
from donjon.sources.stream import ByteStream, StreamsSource

if TYPE_CHECKING:
    import psycopg

#: The names of the files of a point.
BASE: Final = b"base.tar"
GLOBALS: Final = b"globals.sql"
SERVER: Final = b"server.json"
DUMPS: Final = b"databases"
#: Where programs of PostgreSQL are looked for before all else.
BIN_VARIABLE: Final = "DONJON_POSTGRES_BIN"
_CONNECT_TIMEOUT_S: Final = 10
#: Debian and Ubuntu, then the packages of postgresql.org for Red Hat: one folder for each major version.
_FOLDERS: Final = ("/usr/lib/postgresql/{major}/bin", "/usr/pgsql-{major}/bin")
_VERSION: Final = re.compile(r"\(PostgreSQL\) (\d+)")
_FIRST_TABLESPACE: Final = 16_384  # FirstNormalObjectId: below are the server's own

_FACTS: Final = """
SELECT current_setting('server_version_num')::int AS version,
       (pg_control_system()).system_identifier AS system,
       pg_is_in_recovery() AS is_standby,
       current_setting('wal_level') AS wal_level,
       current_setting('archive_mode') AS archive_mode,
       (SELECT rolsuper OR rolreplication FROM pg_roles WHERE rolname = current_user) AS may_replicate,
       (SELECT rolname FROM pg_roles WHERE oid = 10) AS superuser,
       (SELECT coalesce(json_object_agg(oid::text, spcname), '{}') FROM pg_tablespace
         WHERE oid >= %s) AS tablespaces,
       (SELECT coalesce(array_agg(datname::text ORDER BY datname), '{}') FROM pg_database
         WHERE datallowconn AND NOT datistemplate) AS databases,
       (SELECT coalesce(array_agg(c.setting ORDER BY c.setting), '{}') FROM pg_settings c, pg_settings d
         WHERE c.name IN ('config_file', 'hba_file', 'ident_file') AND d.name = 'data_directory'
           AND NOT starts_with(c.setting, d.setting || '/')) AS outside
"""


@dataclass(frozen=True, slots=True)
class Server:
    """What a server says of itself. ``system`` identifies its cluster, ``superuser`` is its first role.

    ``tablespaces`` are the names of those that are not its own, by their OIDs in decimal digits. ``outside``
    are configuration files outside of its data directory, as far as the role may know.
    """

    version: int
    system: int
    is_standby: bool
    wal_level: str
    archive_mode: str
    may_replicate: bool
    superuser: str
    tablespaces: dict[str, str]
    databases: list[str]
    outside: list[str]

    @property
    def major(self) -> int:
        """Such as 15."""
        return self.version // 10_000


class TablespaceFacts(msgspec.Struct, frozen=True):
    """A tablespace as a point has it: ``archive`` is the name of its file, ``location`` where it was."""

    oid: int
    name: str
    location: str
    archive: str


class ServerFacts(msgspec.Struct, frozen=True, omit_defaults=True):
    """What ``server.json`` of a point says, for whoever restores it. ``system`` identifies the cluster."""

    system: int
    version: int
    superuser: str
    tablespaces: tuple[TablespaceFacts, ...] = ()

    @property
    def major(self) -> int:
        """Such as 15."""
        return self.version // 10_000


@dataclass(slots=True)
class Readable:
    """A server that can be read now, and what people should know."""

    source: StreamsSource
    server: Server
    warnings: list[str] = field(default_factory=list)


@contextmanager
def connected(service: str) -> Iterator[psycopg.Connection[Any]]:
    """A session with the server of a service, in its database, or in ``postgres`` if it names none.

    Raises ``SourceFailed``, ``retryable`` as a server that does not answer may be starting, and
    ``UsageError`` without the packages of the extra.
    """
    try:
        import psycopg
    except ImportError as error:
        msg = "PostgreSQL needs packages that are not installed"
        raise UsageError(msg, hint="Run: pip install 'donjon[postgres]'") from error
    hint = "Check the service in pg_service.conf (PGSERVICEFILE), ~/.pgpass, and whether the server runs."
    try:
        connection = _connect(service)
    except psycopg.Error as error:
        is_missing = "definition of service" in str(error)
        msg = f"service {service}: cannot connect: {_one_line(error)}"
        raise SourceFailed(msg, hint=hint, retryable=not is_missing) from error
    try:
        with connection:
            yield connection
    except psycopg.Error as error:
        msg = f"service {service}: {_one_line(error)}"
        raise SourceFailed(msg, hint="See the log of the server, and try again.", retryable=True) from error


def _connect(service: str, *, replication: bool = False) -> psycopg.Connection[Any]:
    """By libpq alone: psycopg's own ``connect`` looks for a host in PGHOST, though the service names one."""
    import psycopg
    from psycopg.conninfo import make_conninfo

    options: dict[str, Any] = {
        "service": service,
        "connect_timeout": _CONNECT_TIMEOUT_S,
        "client_encoding": "UTF8",
        "fallback_application_name": "donjon",
    }
    if replication:
        # The bytes of paths as they are, as pg_basebackup takes them: not all of them are UTF-8.
        options |= {"replication": "true", "client_encoding": "SQL_ASCII"}
    made = psycopg.pq.PGconn.connect(make_conninfo(**options).encode())
    said = made.get_error_message()
    if made.status != psycopg.pq.ConnStatus.OK and "database" in said and "does not exist" in said:
        # A service that names no database means one with the name of its user, which is rarely there.
        made = psycopg.pq.PGconn.connect(make_conninfo(**options, dbname="postgres").encode())
        said = made.get_error_message()
    if made.status != psycopg.pq.ConnStatus.OK:
        raise psycopg.OperationalError(said)
    connection: psycopg.Connection[Any] = psycopg.Connection(made)
    connection.autocommit = True
    return connection


def look(connection: psycopg.Connection[Any]) -> Server:
    """What the server says of itself. Raises what psycopg raises, for ``connected`` to explain."""
    from psycopg.rows import dict_row

    with connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(_FACTS, (_FIRST_TABLESPACE,)).fetchone()
    assert row is not None  # noqa: S101  (a SELECT without FROM gives one row)
    return Server(**row)


@contextmanager
def base_backup(
    service: str, *, timeout_s: float, wants_wal: bool = True, stop: StopCheck = never_stop
) -> Iterator[Readable]:
    """The whole cluster as ``base.tar``, with the write-ahead log that it needs to become consistent.

    While the body runs a temporary replication slot keeps the server from removing that log. Raises
    ``SourceFailed`` where pg_basebackup could not work, before it is started.
    """
    with connected(service) as connection:
        server = look(connection)
        _check_base(service, server)
        readable = Readable(StreamsSource({}), server, _warnings(server, wants_wal=wants_wal))
        _hold_log(connection, readable.warnings)
        if server.tablespaces:
            with _archives(service, server, timeout_s, stop) as source:
                readable.source = source
                yield readable
            return
        # Fast checkpoint, as nothing would be read before a spread one ends. The log comes last in the tar:
        # a second connection for it could not be brought into one stream.
        options = ["-D", "-", "-F", "tar", "-X", "fetch", "-c", "fast", "--no-password", "-l", "donjon"]
        command = [program("pg_basebackup", server.major), "-d", f"service={_quoted(service)}", *options]
        stream = CommandStream(
            command,
            what=f"service {service}: pg_basebackup",
            timeout_s=timeout_s,
            environment=_environment(),
            stop=stop,
        )
        readable.source = StreamsSource({BASE: stream, SERVER: _facts(server)})
        with contextlib.closing(stream):
            yield readable


@contextmanager
def _archives(service: str, server: Server, timeout_s: float, stop: StopCheck) -> Iterator[StreamsSource]:
    """The archives of a cluster with tablespaces, whose names are in the order in which they come."""
    what = f"service {service}"
    connection = _connect(service, replication=True).pgconn
    try:
        backup = BaseBackup(connection, what, timeout_s, stop)
        facts = []
        streams: dict[bytes, ByteStream] = {}
        for number, one in enumerate(backup.tablespaces, 1):
            # So many digits that the order of the names is that of the numbers.
            archive = f"{number:06}-tablespace-{one.oid}.tar"
            name = server.tablespaces.get(str(one.oid), str(one.oid))
            facts.append(TablespaceFacts(one.oid, name, one.location, archive))
            streams[archive.encode()] = backup.archive(number)
        streams[BASE] = backup.archive(len(facts) + 1)
        streams[SERVER] = _facts(server, tuple(facts))
        yield StreamsSource(streams)
    finally:
        connection.finish()


@contextmanager
def dumps(
    service: str, databases: Sequence[str], *, timeout_s: float, stop: StopCheck = never_stop
) -> Iterator[Readable]:
    """Each database as ``databases/NAME.dump`` (custom format), and roles and tablespaces as ``globals.sql``.

    ``databases`` empty means all that take connections. Each dump is of one moment, all of them are not.
    Raises ``SourceFailed`` for a database that is not there.
    """
    with connected(service) as connection:
        server = look(connection)
    wanted = list(databases) or server.databases
    if missing := [name for name in wanted if name not in server.databases]:
        msg = f"service {service}: there is no database {', '.join(missing)}"
        raise SourceFailed(msg, hint=f"It has: {', '.join(server.databases)}.")
    where = f"service={_quoted(service)}"
    # Packed by pg_dump, nothing of a dump would be the same as in the one before.
    dump = [program("pg_dump", server.major), "-F", "custom", "-Z", "0", "--no-password"]
    commands = {
        DUMPS + b"/" + quote(name, safe="").encode() + b".dump": [
            *dump,
            "-d",
            f"{where} dbname={_quoted(name)}",
        ]
        for name in wanted
    }
    everything = program("pg_dumpall", server.major)
    commands[GLOBALS] = [everything, "--globals-only", "--no-password", "-d", f"{where} dbname=postgres"]
    with ExitStack() as stack:
        streams = {
            name: stack.enter_context(
                contextlib.closing(
                    CommandStream(
                        command,
                        what=f"service {service}: {Path(command[0]).name} of {name.decode()}",
                        timeout_s=timeout_s,
                        environment=_environment(),
                        stop=stop,
                    )
                )
            )
            for name, command in commands.items()
        }
        yield Readable(StreamsSource({**streams, SERVER: _facts(server)}), server)


def _facts(server: Server, tablespaces: tuple[TablespaceFacts, ...] = ()) -> io.BytesIO:
    facts = ServerFacts(server.system, server.version, server.superuser, tablespaces)
    return io.BytesIO(msgspec.json.format(msgspec.json.encode(facts)) + b"\n")


def dump_name(database: str) -> bytes:
    """The name of the file that holds the dump of a database."""
    return DUMPS + b"/" + quote(database, safe="").encode() + b".dump"


def program(name: str, major: int, *, exactly: bool = False) -> str:
    """The path of a program of PostgreSQL that suits a server of this major version.

    Raises ``SourceFailed`` if there is none: programs read servers of their own version and older ones, and a
    data directory belongs to one version ``exactly``.
    """
    folders = [os.environ.get(BIN_VARIABLE, ""), *(folder.format(major=major) for folder in _FOLDERS)]
    places = [str(Path(folder, name)) for folder in folders if folder and Path(folder, name).exists()]
    if not places and (found := shutil.which(name)):
        places = [found]
    hint = f"Install postgresql-client-{major}, or name the folder of its programs with {BIN_VARIABLE}."
    if not places:
        msg = f"{name} is not on this host"
        raise SourceFailed(msg, hint=hint)
    version = _version_of(places[0])
    if version < major or (exactly and version != major):
        msg = f"{places[0]} is of version {version}, which does not suit a server of version {major}"
        raise SourceFailed(msg, hint=hint)
    return places[0]


def _version_of(path: str) -> int:
    try:
        done = subprocess.run([path, "--version"], capture_output=True, check=False, timeout=60)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        msg = f"{path} cannot be run: {error}"
        raise SourceFailed(msg, hint="Repair the installation of PostgreSQL on this host.") from error
    match = _VERSION.search(done.stdout.decode(errors="replace"))
    return int(match[1]) if match else 0


def _check_base(service: str, server: Server) -> None:
    what = f"service {service}: "
    if server.wal_level == "minimal":
        msg = what + "wal_level is minimal, so the server writes no log that a backup could use"
        raise SourceFailed(msg, hint="Set wal_level = replica and max_wal_senders = 10, and restart it.")
    if not server.may_replicate:
        msg = what + "its role may not replicate"
        raise SourceFailed(msg, hint="Give it to the role: ALTER ROLE ... REPLICATION; and see pg_hba.conf.")
    if server.tablespaces and server.version < FIRST_VERSION:
        names = ", ".join(sorted(server.tablespaces.values()))
        msg = (
            what
            + f"it has tablespaces ({names}), which servers before version 15 send in a form of their own"
        )
        raise SourceFailed(msg, hint="Use mode: dump, or protect its volumes with snapshots.")


def _warnings(server: Server, *, wants_wal: bool) -> list[str]:
    found = [
        f"{path} lies outside of the data directory and is not in the backup: protect it as a tree"
        for path in server.outside
    ]
    if wants_wal and server.archive_mode == "off":
        found.append("archive_mode is off: without `donjon wal push` there is no recovery to a point in time")
    return found


def _hold_log(connection: psycopg.Connection[Any], warnings: list[str]) -> None:
    """Let the server keep its log as long as this session lasts, so never longer than this process."""
    import psycopg

    name = f"donjon_{secrets.token_hex(8)}"
    try:
        connection.execute("SELECT pg_create_physical_replication_slot(%s, true, true)", (name,))
    except psycopg.Error as error:
        warnings.append(f"no replication slot holds the log during the backup: {_one_line(error)}")


def _environment() -> Mapping[str, str]:
    """Messages in English, and a database for services that name none."""
    own = {"LC_MESSAGES": "C", "PGCONNECT_TIMEOUT": str(_CONNECT_TIMEOUT_S), "PGAPPNAME": "donjon"}
    return {"PGDATABASE": "postgres"} | os.environ | own


def _quoted(value: str) -> str:
    """A value of a connection string; see "Keyword/Value Connection Strings" of libpq."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
