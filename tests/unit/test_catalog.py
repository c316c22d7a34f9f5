"""The catalog, in SQLite and in a real PostgreSQL."""

from __future__ import annotations

import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, select
from sqlalchemy import text as sql

from donjon.catalog import facts, points, runs, schema
from donjon.catalog.database import Catalog, open_database, upsert
from donjon.catalog.facts import EvidenceRecord, Restore
from donjon.catalog.points import CopyRow, PointRow
from donjon.catalog.runs import Run, RunState
from donjon.catalog.tables import CLAIMS, METADATA
from donjon.core.errors import (
    CatalogFailed,
    PermissionMissing,
    Refused,
    StoreFull,
    UnsupportedVersion,
    UsageError,
)
from donjon.snapshots.base import Snapshot, SnapshotState
from donjon.testing.servers.postgres import PostgresServer, postgres
from donjon.testing.users import acting_as

RUN = Run("a" * 32, "plan", "web", "d" * 64, "host", 1000)
VAULT = "5" * 32


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'catalog.db'}"
    server: PostgresServer = request.getfixturevalue("postgres_server")
    return server.conninfo(server.make_database())


@pytest.fixture
def catalog(address: str, tmp_path: Path) -> Iterator[Catalog]:
    opened = schema.open_catalog(address, tmp_path)
    yield opened
    opened.close()


def test_the_tables_are_those_that_the_migrations_make(catalog: Catalog) -> None:
    def differences(connection: Connection) -> Any:
        return compare_metadata(MigrationContext.configure(connection), METADATA)

    assert catalog.read(differences) == []


def test_all_migrations_are_known_by_name() -> None:
    script = ScriptDirectory.from_config(schema.alembic_configuration())
    found = [revision.revision for revision in script.walk_revisions()]
    assert tuple(reversed(found)) == schema.REVISIONS


@pytest.mark.parametrize("revision", schema.REVISIONS)
def test_an_upgrade_from_each_revision_keeps_all_data(address: str, tmp_path: Path, revision: str) -> None:
    catalog = open_database(address, tmp_path)
    schema.upgrade(catalog, revision)

    def fill(connection: Connection) -> dict[str, list[Any]]:
        tables_then = type(METADATA)()
        tables_then.reflect(connection)
        rows = {}
        for table in tables_then.sorted_tables:
            if table.name == "alembic_version":
                continue
            row: dict[str, object] = {}
            for column in table.columns:
                kind = column.type.as_generic().python_type
                value: object = {bool: True, int: 7, float: 1.5, str: "x", object: {"files": 3}}[kind]
                row[column.name] = value
            connection.execute(table.insert(), [row])
            rows[table.name] = [tuple(one) for one in connection.execute(select(table))]
        return rows

    before = catalog.write(fill)
    assert schema.upgrade(catalog) == (revision, schema.REVISIONS[-1])

    def compare(connection: Connection) -> None:
        for name, rows in before.items():
            columns = [column["name"] for column in inspect(connection).get_columns(name)]
            assert columns
            found = connection.execute(select(METADATA.tables[name])).all()
            assert len(found) == len(rows)
            assert [tuple(one)[: len(rows[0])] for one in found] == rows

    catalog.read(compare)
    assert schema.revision_of(catalog) == schema.REVISIONS[-1]
    catalog.close()


def test_a_newer_catalog_is_refused_by_name_and_left_alone(catalog: Catalog, address: str) -> None:
    catalog.write(
        lambda connection: connection.execute(sql("UPDATE alembic_version SET version_num = '9041'"))
    )
    with pytest.raises(UnsupportedVersion, match="9041") as caught:
        schema.open_catalog(address, Path("/nonexistent"))
    assert "DONJON_CATALOG" in caught.value.hint
    found = catalog.read(lambda c: c.execute(sql("SELECT version_num FROM alembic_version")).scalar())
    assert found == "9041"


def test_several_may_make_a_catalog_at_once(address: str, tmp_path: Path) -> None:
    failures: list[BaseException] = []

    def open_it() -> None:
        try:
            schema.open_catalog(address, tmp_path).close()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_an_upgrade_that_breaks_changes_nothing(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alembic import op

    catalog = open_database(address, tmp_path)
    schema.upgrade(catalog, "0001")

    def break_down(*_: object, **__: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(op, "create_index", break_down)
        with pytest.raises(sqlite3.OperationalError):
            schema.upgrade(catalog)
    assert schema.revision_of(catalog) == "0001"
    assert not catalog.read(lambda connection: inspect(connection).has_table("snapshots"))
    assert schema.upgrade(catalog) == ("0001", schema.REVISIONS[-1])
    catalog.close()


def test_runs_come_back_as_they_were(catalog: Catalog) -> None:
    run = replace(
        RUN,
        due_at=990,
        attempt=2,
        counts={"files": 3},
        notes=("hook said: é\n",),
        step="backup",
        session="ab/3",
    )
    assert runs.begin(catalog, run, now=1000) == []
    assert runs.recent(catalog, "plan", "web") == [run]
    done = replace(run, state=RunState.DONE, ended_at=1010, point_id="f" * 64, unreadable=2)
    runs.finish(catalog, done)
    assert runs.recent(catalog, "plan", "web") == [done]
    assert runs.last_done(catalog, "plan", "web") == done
    assert runs.last_done(catalog, "plan", "other") is None
    assert runs.newest(catalog, 10) == [done]
    assert runs.sessions(catalog) == {"ab/3": "web"}
    assert runs.forget_before(catalog, 1010) == 0
    assert runs.forget_before(catalog, 1011) == 1


def test_a_claim_of_this_host_is_taken_over_and_its_run_told(catalog: Catalog) -> None:
    runs.begin(catalog, RUN, now=1000)
    later = replace(RUN, run_id="b" * 32, started_at=1001)
    (left,) = runs.begin(catalog, later, now=1001)
    assert left.run_id == RUN.run_id
    found = {run.run_id: run for run in runs.recent(catalog, "plan", "web")}
    assert found[RUN.run_id].state is RunState.INTERRUPTED
    assert found[RUN.run_id].ended_at == 1001
    assert found[later.run_id].state is RunState.RUNNING


def test_a_claim_of_another_host_holds_until_it_expires(catalog: Catalog) -> None:
    runs.begin(catalog, RUN, now=1000)
    other = replace(RUN, run_id="b" * 32, host="other")
    with pytest.raises(Refused, match="host"):
        runs.begin(catalog, other, now=1000 + runs.CLAIM_S - 1)
    runs.renew(catalog, RUN, now=1500)
    with pytest.raises(Refused, match="host"):
        runs.begin(catalog, other, now=1000 + runs.CLAIM_S)
    assert len(runs.begin(catalog, other, now=1500 + runs.CLAIM_S)) == 1


def test_one_of_many_hosts_gets_a_claim(catalog: Catalog) -> None:
    got: list[str] = []

    def claim(number: int) -> None:
        run = replace(RUN, run_id=f"{number:032d}", host=f"host{number}")
        try:
            runs.begin(catalog, run, now=1000)
        except Refused:
            return
        got.append(run.host)

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1
    claims = catalog.read(lambda connection: connection.execute(select(CLAIMS)).all())
    assert [claim.host for claim in claims] == got


def test_what_is_known_of_a_point_is_not_lost_to_a_row_without_a_key(catalog: Catalog) -> None:
    known = PointRow("1" * 64, VAULT, "manifests/1", 100, "web", 5000, 2, ("a",))
    copy = CopyRow("1" * 64, "file:///vault", 101, 900, 150)
    points.put_points(catalog, [known], [copy])
    points.put_points(
        catalog, [PointRow("1" * 64, VAULT, "manifests/1", 100)], [replace(copy, verified_at=None)]
    )
    assert points.list_points(catalog, "web") == [known]
    assert points.list_copies(catalog, "web") == [copy]
    assert points.newest_point(catalog, "web") == known
    assert points.manifests_of(catalog, VAULT) == {"manifests/1": "1" * 64}


def test_a_place_that_lost_points_loses_them_in_the_catalog(catalog: Catalog) -> None:
    rows = [PointRow(f"{n}" * 64, VAULT, f"manifests/{n}", 100 + n, "web", 1) for n in range(3)]
    first = [CopyRow(row.point_id, "file:///one", row.time, 0) for row in rows]
    second = [CopyRow(row.point_id, "file:///two", row.time, 0) for row in rows[:1]]
    points.put_points(catalog, rows, first + second)
    points.mark_verified(catalog, "file:///one", 101)
    assert points.places(catalog) == points.places(catalog, [VAULT]) == ["file:///one", "file:///two"]
    assert points.places(catalog, ["other"]) == []
    points.replace_place(catalog, "file:///one", rows[1:2], first[1:2])
    assert [row.point_id for row in points.list_points(catalog)] == ["0" * 64, "1" * 64]
    assert points.list_copies(catalog) == [second[0], replace(first[1], verified_at=101)]


def test_only_what_was_there_is_verified(catalog: Catalog) -> None:
    rows = [PointRow(f"{n}" * 64, VAULT, f"manifests/{n}", 100 + n, "web", 1) for n in range(3)]
    points.put_points(catalog, rows, [CopyRow(row.point_id, "p", row.time, 0) for row in rows])
    points.mark_verified(catalog, "p", 101, but=["0" * 64])
    points.mark_verified(catalog, "p", 50)
    found = [copy.verified_at for copy in points.list_copies(catalog)]
    assert found == [None, 101, None]
    assert points.verified_at(catalog, "p") == 101
    assert points.verified_at(catalog, "q") is None


def test_snapshots_evidence_and_restores_come_back_as_they_were(catalog: Catalog) -> None:
    snapshot = Snapshot(
        "s1", "v1", "web", "set", 5, 6, SnapshotState.COMPLETE, "acct", "eu", 2, "m", 7, "key", "o", "d"
    )
    elsewhere = replace(snapshot, region="us", state=SnapshotState.PENDING)
    facts.replace_snapshots(catalog, "web", [snapshot, elsewhere], places=[])
    assert facts.list_snapshots(catalog, "web") == [snapshot, elsewhere]
    newer = replace(snapshot, snapshot_id="s2", created_at=9)
    facts.replace_snapshots(catalog, "web", [newer], places=[("acct", "eu")])
    assert facts.list_snapshots(catalog) == [elsewhere, newer]
    evidence = EvidenceRecord("e" * 64, VAULT, "verify", "file:///one", "ab", 8, passed=True)
    facts.put_evidence(catalog, evidence)
    facts.put_evidence(catalog, evidence)
    assert facts.list_evidence(catalog) == [evidence]
    facts.replace_evidence(catalog, VAULT, [])
    assert facts.list_evidence(catalog) == []
    restore = Restore("1" * 32, "f" * 64, "web", "file:///one", "drill", 10, 2.5, 7, passed=True)
    facts.put_restore(catalog, restore)
    assert facts.list_restores(catalog, "web") == [restore]


def test_a_large_time_and_size_fit(catalog: Catalog) -> None:
    row = PointRow("1" * 64, VAULT, "manifests/1", 2**40, "web", 2**60)
    points.put_points(catalog, [row], [CopyRow("1" * 64, "p", 2**40, 2**41)])
    assert points.list_points(catalog) == [row]


def test_a_copy_of_an_unknown_point_is_an_error_of_ours(catalog: Catalog) -> None:
    with pytest.raises(CatalogFailed):
        points.put_points(catalog, [], [CopyRow("9" * 64, "p", 1, 1)])
    assert points.list_copies(catalog) == []


# -- what can be wrong with the file ------------------------------------------------------------------


def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    catalog = schema.open_catalog(None, tmp_path / "home")
    runs.begin(catalog, RUN, now=1)
    found = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "home").iterdir()}
    assert found["catalog.db"] == 0o600
    assert set(found.values()) == {0o600}
    catalog.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "donjon-test", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


def test_a_full_disk_is_told_and_leaves_the_catalog_whole(small_disk: Path) -> None:
    catalog = schema.open_catalog(None, small_disk)
    written = 0

    def fill() -> None:
        nonlocal written
        for number in range(1000):
            runs.record(catalog, replace(RUN, run_id=f"{number:032d}", notes=("x" * 8000,)))
            written += 1

    with pytest.raises(StoreFull, match=r"catalog\.db"):
        fill()
    assert written > 5
    subprocess.run(["mount", "-o", "remount,size=9m", small_disk], check=True)
    assert len(runs.newest(catalog, 10_000)) == written
    runs.record(catalog, RUN)
    catalog.close()


def test_a_read_only_disk_is_told(small_disk: Path) -> None:
    schema.open_catalog(None, small_disk).close()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    catalog = open_database(None, small_disk)
    with pytest.raises(PermissionMissing) as caught:
        runs.record(catalog, RUN)
    assert "catalog.db" in caught.value.message
    assert caught.value.hint


def test_a_catalog_of_somebody_else_is_told(tmp_path: Path) -> None:
    from donjon.testing.folders import open_to_others

    folder = tmp_path / "home"
    schema.open_catalog(None, folder).close()
    open_to_others(folder)
    with acting_as(65_534), pytest.raises(PermissionMissing):
        runs.newest(open_database(None, folder), 1)


def test_a_damaged_file_is_told_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "catalog.db").write_bytes(b"nothing that SQLite made" * 200)
    with pytest.raises(CatalogFailed) as caught:
        schema.open_catalog(None, tmp_path)
    assert "catalog rebuild" in caught.value.hint


@pytest.mark.parametrize(
    "address",
    [
        "nothing",
        "postgresql+psycopg2://donjon:hunter2secret@127.0.0.1/x",
        "mysql://donjon:hunter2secret@127.0.0.1/x",
        "sqlite:///relative.db",
        "sqlite://",
        "oracle9://donjon:hunter2secret@127.0.0.1/x",
        "http://[bad:hunter2secret@/x",
    ],
)
def test_addresses_that_cannot_be_are_refused_without_their_password(address: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        open_database(address, tmp_path)
    assert "hunter2secret" not in caught.value.message + caught.value.hint


def test_a_wrong_password_is_told_and_not_shown(postgres_server: PostgresServer, tmp_path: Path) -> None:
    address = f"postgresql://donjon:hunter2secret@127.0.0.1:{postgres_server.port}/postgres"
    with pytest.raises(PermissionMissing) as caught:
        schema.open_catalog(address, tmp_path)
    assert "hunter2secret" not in caught.value.message + caught.value.hint
    assert "donjon" in caught.value.message


def test_the_password_may_be_in_the_environment(
    postgres_server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", postgres_server.password)
    database = postgres_server.make_database()
    catalog = schema.open_catalog(postgres_server.conninfo(database, password=False), tmp_path)
    runs.begin(catalog, RUN, now=1)
    assert runs.newest(catalog, 1) == [RUN]


def test_a_server_that_restarts_in_between_is_waited_for(tmp_path: Path) -> None:
    with postgres(tmp_path) as server:
        catalog = schema.open_catalog(server.conninfo(), tmp_path)
        runs.begin(catalog, RUN, now=1)
        server.stop(crash=True)
        back = threading.Timer(0.5, server.start)
        back.start()
        runs.finish(catalog, replace(RUN, state=RunState.DONE, ended_at=2))
        back.join()
        assert [run.state for run in runs.newest(catalog, 5)] == [RunState.DONE]
        server.stop()
        impatient = open_database(server.conninfo(), tmp_path)
        impatient.patience_s = 0.1
        with pytest.raises(CatalogFailed) as caught:
            runs.newest(impatient, 5)
        assert caught.value.retryable
        assert server.password not in caught.value.message


def test_a_transaction_cut_in_the_middle_is_carried_out_again(tmp_path: Path) -> None:
    with postgres(tmp_path) as server:
        catalog = schema.open_catalog(server.conninfo(), tmp_path)
        cut: list[int] = []

        def work(connection: Connection) -> None:
            upsert(connection, CLAIMS, [{**_claim(), "run_id": f"{len(cut)}"}])
            if not cut:
                cut.append(1)
                server.restart(crash=True)
            upsert(connection, CLAIMS, [{**_claim(), "workload": "second", "run_id": f"{len(cut)}"}])

        catalog.write(work)
        found = catalog.read(lambda connection: connection.execute(select(CLAIMS.c.run_id)).all())
        assert [row.run_id for row in found] == ["1", "1"]


def _claim() -> dict[str, object]:
    return {"plan": "p", "workload": "w", "run_id": "r", "host": "h", "expires_at": 1}
