"""Servers of PostgreSQL that cannot be backed up, or fail while they are: told, and nothing is committed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from donjon.app.backups import BackupRequest
from donjon.app.backups import back_up as run_request
from donjon.app.config import Settings
from donjon.app.kinds.base import Surroundings
from donjon.app.kinds.registry import prepare
from donjon.app.postgres.drill import Check, Wanted, drill_server_restore
from donjon.app.postgres.servers import BackupWanted, RestoreWanted, back_up_server, restore_server
from donjon.app.wiring import Workspace
from donjon.core.errors import SourceFailed
from donjon.core.events import Silent, never_stop
from donjon.plan.model import Plan
from donjon.repository.points import list_points
from donjon.sources import postgres as source
from donjon.testing.folders import open_to_others, remove_tree
from donjon.testing.servers.ports import free_port
from donjon.testing.servers.postgres import PostgresServer, postgres, postgres_program
from tests.integration.cli import Donjon
from tests.integration.postgres_stage import service

MIB = 1 << 20


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Donjon]:
    folder = tmp_path_factory.mktemp("host")
    host = Donjon(folder)
    host.init()
    yield host
    remove_tree(folder)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A server with some content, and the services by which it is reached."""
    folder = tmp_path_factory.mktemp("server")
    with postgres(folder) as server, pytest.MonkeyPatch.context() as patch:
        server.sql("CREATE TABLE t AS SELECT n, repeat('x', 500) FROM generate_series(1, 40000) AS n")
        server.sql(f"CREATE ROLE plain LOGIN PASSWORD '{server.password}'")
        gone = PostgresServer(folder, free_port(), password=server.password)
        texts = [
            service("shop", server),
            service("plain", server, user="plain"),
            service("nobody", server, user="nobody"),
            service("gone", gone),
        ]
        (folder / "services").write_text("".join(texts))
        patch.setenv("PGSERVICEFILE", str(folder / "services"))
        patch.setenv("PGHOST", "host.invalid")  # nothing but the service says where to go
        yield server


@pytest.fixture
def space(host: Donjon) -> Workspace:
    return Workspace(Settings(host.home, kit=host.kit))


def points(space: Workspace) -> int:
    return len(list_points(space.open_for_reading()))


@contextmanager
def fails(space: Workspace, told: str, *, retryable: bool) -> Iterator[None]:
    before = points(space)
    with pytest.raises(SourceFailed, match=told) as caught:
        yield
    assert caught.value.retryable is retryable
    assert caught.value.hint
    assert points(space) == before


def back_up(space: Workspace, service: str, mode: str = "base", *databases: str) -> None:
    wanted = BackupWanted(service, "w", mode, databases)
    back_up_server(space, wanted, Silent(), never_stop)


@pytest.mark.parametrize("mode", ["base", "dump"])
def test_a_server_that_does_not_answer_is_tried_again(
    server: PostgresServer, space: Workspace, mode: str
) -> None:
    with fails(space, "service gone: cannot connect: .*refused", retryable=True):
        back_up(space, "gone", mode)


def test_a_service_that_nobody_knows_is_told(server: PostgresServer, space: Workspace) -> None:
    with fails(space, "cannot connect: definition of service", retryable=False):
        back_up(space, "unknown")


def test_a_role_that_may_not_connect_is_told_without_its_password(
    server: PostgresServer, host: Donjon
) -> None:
    done = host.run("postgres", "backup", "nobody", code=1)
    assert b"authentication failed" in done.stderr
    assert server.password.encode() not in done.stderr


def test_a_role_that_may_not_replicate_is_told(server: PostgresServer, space: Workspace) -> None:
    with fails(space, "its role may not replicate", retryable=False):
        back_up(space, "plain")


def test_a_database_that_is_not_there_is_told(server: PostgresServer, space: Workspace) -> None:
    with fails(space, "there is no database nowhere", retryable=False):
        back_up(space, "shop", "dump", "nowhere")


def test_a_dump_that_may_not_read_everything_fails(server: PostgresServer, space: Workspace) -> None:
    with fails(
        space, "pg_dump of databases/postgres.dump: ended with code 1: .*permission denied", retryable=True
    ):
        back_up(space, "plain", "dump", "postgres")


def test_tablespaces_of_an_older_server_are_told(
    server: PostgresServer, space: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("donjon.sources.postgres.FIRST_VERSION", 990_000)
    place = server.folder / "elsewhere"
    place.mkdir()
    owner = server.data.stat()
    os.chown(place, owner.st_uid, owner.st_gid)
    server.sql(f"CREATE TABLESPACE elsewhere LOCATION '{place}'")
    try:
        with fails(space, r"it has tablespaces \(elsewhere\)", retryable=False):
            back_up(space, "shop")
    finally:
        server.sql("DROP TABLESPACE elsewhere")


@pytest.mark.parametrize(("program", "mode"), [("pg_basebackup", "base"), ("pg_dump", "dump")])
def test_programs_that_are_too_old_or_missing_are_told(
    server: PostgresServer,
    space: Workspace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    program: str,
    mode: str,
) -> None:
    fake = tmp_path / program
    fake.write_text(f"#!/bin/sh\necho '{program} (PostgreSQL) 13.9'\n")
    fake.chmod(0o755)
    monkeypatch.setenv("DONJON_POSTGRES_BIN", str(tmp_path))
    with fails(space, "is of version 13, which does not suit a server of version 15", retryable=False):
        back_up(space, "shop", mode)
    fake.unlink()
    monkeypatch.setattr(source, "_FOLDERS", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    with fails(space, f"{program} is not on this host", retryable=False):
        back_up(space, "shop", mode)


@pytest.mark.parametrize(("program", "mode"), [("pg_basebackup", "base"), ("pg_dumpall", "dump")])
def test_a_program_that_fails_at_its_very_end_commits_nothing(
    server: PostgresServer,
    space: Workspace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    program: str,
    mode: str,
) -> None:
    real = postgres_program(program)
    fake = tmp_path / program
    fake.write_text(f'#!/bin/sh\n[ "$1" = --version ] && exec {real} --version\n{real} "$@"\nexit 1\n')
    fake.chmod(0o755)
    monkeypatch.setenv("DONJON_POSTGRES_BIN", str(tmp_path))
    with fails(space, f"{program}.* ended with code 1", retryable=True):
        back_up(space, "shop", mode)


def test_a_server_that_restarts_in_between_is_tried_again(server: PostgresServer, space: Workspace) -> None:
    with source.base_backup("shop", timeout_s=60) as readable:
        item = next(item for item in readable.source.items() if item.is_file)
        content, buffer = item.open(), memoryview(bytearray(MIB))
        assert content.readinto(buffer) == MIB
        held = server.sql(
            "SELECT count(*) FROM pg_replication_slots WHERE temporary AND restart_lsn IS NOT NULL"
        )
        assert held == "1"
        server.restart(crash=True)
        with pytest.raises(SourceFailed, match="pg_basebackup: ended with code 1") as caught:
            sum(iter(lambda: content.readinto(buffer), 0))
        assert caught.value.retryable
    assert server.sql("SELECT count(*) FROM pg_replication_slots") == "0"
    back_up(space, "shop")


def test_nothing_is_held_after_a_backup_was_given_up(server: PostgresServer) -> None:
    with source.base_backup("shop", timeout_s=60) as readable:
        item = next(item for item in readable.source.items() if item.is_file)
        assert item.open().readinto(memoryview(bytearray(MIB))) == MIB
    senders = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender'"
    for _ in range(100):
        if server.sql(senders) == "0":
            break
    assert server.sql("SELECT count(*) FROM pg_replication_slots") == "0"


def test_a_server_that_keeps_no_log_for_backups_is_told(server: PostgresServer, space: Workspace) -> None:
    server.stop()
    server.start({"wal_level": "minimal", "max_wal_senders": "0"})
    try:
        with fails(space, "wal_level is minimal", retryable=False):
            back_up(space, "shop")
        back_up(space, "shop", "dump", "postgres")  # which needs none
    finally:
        server.stop()
        server.settings.clear()
        server.start()


def test_two_base_backups_share_what_did_not_change(server: PostgresServer, host: Donjon) -> None:
    first = host.json("postgres", "backup", "shop", "--workload", "twice")
    server.sql("UPDATE t SET n = -n WHERE n % 1000 = 0")
    second = host.json("postgres", "backup", "shop", "--workload", "twice")
    assert first["bytes"] > 50 * MIB
    assert second["bytes_stored"] < second["bytes"] / 4
    assert second["warnings"] == [
        "archive_mode is off: without `donjon wal push` there is no recovery to a point in time"
    ]


def planned(mode: str) -> Plan:
    source = {"kind": "postgres", "service": "shop", "mode": mode}
    return Plan.model_validate(
        {
            "version": 1,
            "name": "test",
            "sites": {"here": {"provider": "on-premises", "account": "a", "region": "r"}},
            "vaults": {"v": {"url": "file:///v", "site": "here"}},
            "workloads": {"planned": {"source": source}},
        }
    )


@pytest.mark.parametrize("mode", ["base", "dump"])
def test_a_plan_backs_up_a_server_that_a_drill_brings_back(
    server: PostgresServer, space: Workspace, tmp_path: Path, mode: str
) -> None:
    plan = planned(mode)
    held: list[str] = []

    @contextmanager
    def quiesce() -> Iterator[None]:
        held.append("held")
        yield
        held.append("released")

    around = Surroundings(plan, "planned", plan.rules("planned"), Silent(), never_stop, quiesce, frozenset())
    with prepare(plan.workloads["planned"].source, around) as ready:
        request = BackupRequest(ready.paths, lambda _: ready.source, "planned")
        run_request(space, request, Silent())
    assert held == ["held", "released"]
    assert len(ready.warnings) == (mode == "base")
    open_to_others(tmp_path)
    count = server.sql("SELECT count(*) FROM t")
    checks = (Check("postgres", "SELECT count(*) FROM t"),)
    wanted = Wanted("planned@latest", uses_wal=False, checks=checks, checks_indexes=False, parent=tmp_path)
    done = drill_server_restore(space, wanted, {}, Silent(), never_stop)
    assert done.has_passed, done.notes
    assert done.values == [count]
    assert list(tmp_path.iterdir()) == []


def test_a_standby_is_backed_up_like_its_primary(
    server: PostgresServer, space: Workspace, tmp_path: Path
) -> None:
    open_to_others(tmp_path)
    back_up(space, "shop")
    data = tmp_path / "standby" / "data"
    data.parent.mkdir()
    restore_server(space, RestoreWanted("w@latest", data, uses_wal=False), Silent(), never_stop)
    (data / "standby.signal").touch()
    with (data / "postgresql.auto.conf").open("a") as settings:
        settings.write(f"primary_conninfo = '{server.conninfo()}'\n")
    standby = PostgresServer(data.parent, free_port(), user=server.user, password=server.password)
    standby.adopt()
    try:
        standby.start()
        with (server.folder / "services").open("a") as services:
            services.write(service("standby", standby))
        assert standby.sql("SELECT pg_is_in_recovery()") == "t"
        back_up_server(space, BackupWanted("standby", "standby"), Silent(), never_stop)
    finally:
        standby.stop()
    wanted = Wanted("standby@latest", uses_wal=False, parent=tmp_path, in_vault=False)
    done = drill_server_restore(space, wanted, {}, Silent(), never_stop)
    assert done.has_passed, done.notes
