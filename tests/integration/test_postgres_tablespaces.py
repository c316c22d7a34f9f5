"""A server of PostgreSQL with tablespaces, backed up while it writes, and brought back elsewhere."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest

from donjon.core.errors import IntegrityFailure, Interrupted, SourceFailed
from donjon.core.events import Silent, never_stop
from donjon.recovery.postgres import unpack, unpack_tablespace
from donjon.sources.postgres import Readable, ServerFacts, base_backup
from donjon.testing.folders import open_to_others
from donjon.testing.servers.postgres import PostgresServer, postgres, postgres_program
from tests.integration.postgres_stage import Stage, service, stage, writing

SPACES = ("fast", "Große Platte")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Two tablespaces, with a table and an index in them that are written during the backup."""
    with stage(tmp_path_factory.mktemp("postgres")) as made:
        for number, name in enumerate(SPACES):
            place = made.server.folder / f"space{number}"
            place.mkdir(mode=0o700)
            made.own(place)
            made.server.sql(f"CREATE TABLESPACE \"{name}\" LOCATION '{place}'")
        made.server.sql(f'ALTER TABLE orders SET TABLESPACE "{SPACES[0]}"', "shop")
        made.server.sql(f'CREATE INDEX notes ON orders (note) TABLESPACE "{SPACES[1]}"', "shop")
        with writing(made.server, 1) as written:
            made.donjon.json("postgres", "backup", "shop")
        assert len(written) > 20, "nothing was written meanwhile"
        made.archive()
        yield made


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PostgresServer]:
    """A server of its own, as the service ``own``."""
    with postgres(tmp_path) as made:
        (tmp_path / "services").write_text(service("own", made))
        monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
        yield made


def add_space(server: PostgresServer, name: bytes, folder: bytes | None = None) -> None:
    """Make a tablespace, by the bytes of its name and folder."""
    place = os.path.join(os.fsencode(server.folder), folder or name)
    os.mkdir(place, 0o700)
    owner = server.data.stat()
    os.chown(place, owner.st_uid, owner.st_gid)
    database = "postgres"
    if folder:  # in a database without an encoding these may be any bytes
        database = "bytes"
        server.sql("CREATE DATABASE bytes ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    with psycopg.connect(server.conninfo(database), autocommit=True) as connection:
        connection.execute(b"CREATE TABLESPACE " + name + b" LOCATION '" + place + b"'")


def read_all(readable: Readable) -> dict[str, bytes]:
    """Every file of a backup, by its name."""
    found: dict[str, bytes] = {}
    buffer = memoryview(bytearray(1 << 20))
    for item in readable.source.items():
        content, pieces = item.open(), []
        while count := content.readinto(buffer):
            pieces.append(bytes(buffer[:count]))
        found[os.fsdecode(item.name)] = b"".join(pieces)
    return found


def restore(shop: Stage, folder: Path, *options: str, code: int = 0) -> str:
    """Restore to a folder; what was said."""
    command: list[str | Path] = ["postgres", "restore", "shop@latest", folder / "data", *options]
    return shop.donjon.run(*command, "--restore-command", shop.fetch_command(), code=code).stderr.decode()


def mapped(*places: Path) -> list[str]:
    return [
        word
        for name, place in zip(SPACES, places, strict=False)
        for word in ("--tablespace", f"{name}={place}")
    ]


def test_everything_recovers_in_other_places(shop: Stage) -> None:
    shop.server.sql("INSERT INTO orders VALUES (-1, 'after the backup')", "shop")
    expected = shop.rows()
    shop.archive()
    folder = shop.folder / "elsewhere"
    folder.mkdir()
    restore(shop, folder, *mapped(folder / "0", folder / "1"))
    data = folder / "data"
    links = {path.name: path.readlink() for path in (data / "pg_tblspc").iterdir()}
    assert sorted(links.values()) == [folder / "0", folder / "1"]
    for place in links.values():
        shop.own(place)
    with shop.started(data) as server:
        assert shop.rows(server) == expected
        found = server.sql(
            "SELECT spcname, pg_tablespace_location(oid) FROM pg_tablespace WHERE oid > 16383 ORDER BY 2"
        )
        assert found.splitlines() == [f"{name}|{folder / str(n)}" for n, name in enumerate(SPACES)]
        server.sql("SET enable_seqscan = off; SELECT count(*) FROM orders WHERE note LIKE '1%'", "shop")
        server.sql("INSERT INTO orders VALUES (-3, 'after the recovery')", "shop")
    assert shop.rows() == expected  # the old places were left alone


def test_they_recover_to_a_time_in_folders_that_are_links(shop: Stage) -> None:
    expected = shop.rows()
    time = shop.server.sql("SELECT now()")
    shop.server.sql("INSERT INTO orders VALUES (-2, 'too late')", "shop")
    shop.archive()
    folder = shop.folder / "by-links"
    folder.mkdir()
    for name in ("data", "0", "1"):
        (folder / f"real-{name}").mkdir()
        (folder / name).symlink_to(folder / f"real-{name}")
    restore(shop, folder, *mapped(folder / "0", folder / "1"), "--to-time", time)
    for path in folder.glob("real-*"):
        shop.own(path)
    with shop.started(folder / "data") as server:
        assert shop.rows(server) == expected
    assert shop.rows() != expected


def test_a_drill_brings_them_back_as_well(shop: Stage, tmp_path: Path) -> None:
    open_to_others(tmp_path)
    check = ("--check", "shop: SELECT count(*) FROM orders")
    done = shop.donjon.json("drill", "postgres", "shop@latest", *check, "--folder", tmp_path, "--no-evidence")
    assert done["passed"], done
    assert any("pg_verifybackup" in row["tried"] for row in done["rows"])
    assert int(done["values"][0]) > 20
    assert list(tmp_path.iterdir()) == []


def test_where_they_go_has_to_be_said(shop: Stage, tmp_path: Path) -> None:
    one, inside = tmp_path / "one", tmp_path / "one/in"
    for options, says in (
        ([], "nothing says where to put fast, Große Platte"),
        (mapped(one), "nothing says where to put Große Platte"),
        (["--tablespace", "fast"], "names no folder"),
        ([*mapped(one, inside), "--tablespace", f"slow={one}"], "has no tablespace slow"),
        (mapped(one, inside), "lies in"),
        (mapped(one, one), "lies in"),
        (mapped(one, tmp_path / "data/pg_tblspc/x"), "lies in"),
        (mapped(one, tmp_path / "none/../one"), "lies in"),
        (mapped(one, tmp_path / "none/../data/x"), "lies in"),
    ):
        told = restore(shop, tmp_path, *options, code=2)
        assert says in told, told
    assert list(tmp_path.iterdir()) == []
    one.mkdir()
    alias = tmp_path / "alias"
    alias.symlink_to(one)
    assert "lies in" in restore(shop, tmp_path, *mapped(one, alias), code=2)
    assert list(one.iterdir()) == []
    (one / "mine").touch()
    assert "is not empty" in restore(shop, tmp_path, *mapped(one, tmp_path / "two"), code=1)
    assert [path.name for path in one.iterdir()] == ["mine"]


def test_a_backup_that_ends_early_leaves_no_slot(shop: Stage) -> None:
    calls = 0

    def stop() -> None:
        nonlocal calls
        calls += 1
        if calls > 30:
            raise Interrupted

    def read() -> None:
        with base_backup("shop", timeout_s=60, stop=stop) as readable:
            for item in readable.source.items():
                content, buffer = item.open(), memoryview(bytearray(1 << 16))
                while content.readinto(buffer):
                    pass

    with pytest.raises(Interrupted):
        read()
    assert shop.server.sql("SELECT count(*) FROM pg_replication_slots") == "0"
    with pytest.raises(SourceFailed, match="did not end within 0 s"), base_backup("shop", timeout_s=0):
        pass
    assert shop.server.sql("SELECT count(*) FROM pg_replication_slots") == "0"


def test_archives_are_never_taken_for_each_other(shop: Stage) -> None:
    with base_backup("shop", timeout_s=60) as readable:
        second = list(readable.source.items())[1]
        with pytest.raises(SourceFailed, match="those that come first"):
            second.open().readinto(memoryview(bytearray(10)))


def test_a_hundred_of_them_come_in_their_order(server: PostgresServer) -> None:
    for number in range(100):
        add_space(server, f"s{number}".encode())
    with base_backup("own", timeout_s=60) as readable:
        found = read_all(readable)
    facts = msgspec.json.decode(found.pop("server.json"), type=ServerFacts)
    assert [one.archive for one in facts.tablespaces] == list(found)[:-1]
    assert {one.name for one in facts.tablespaces} == {f"s{number}" for number in range(100)}
    assert list(found)[-1] == "base.tar"


def test_a_location_need_not_be_utf_8(server: PostgresServer) -> None:
    add_space(server, b"cafe", b"caf\xe9")
    with base_backup("own", timeout_s=60) as readable:
        facts = msgspec.json.decode(read_all(readable)["server.json"], type=ServerFacts)
    assert [(one.name, one.location) for one in facts.tablespaces] == [("cafe", f"{server.folder}/caf\\xe9")]


def test_a_server_that_restarts_in_between_is_told(server: PostgresServer) -> None:
    add_space(server, b"space")
    server.sql("CREATE TABLE t TABLESPACE space AS SELECT repeat('x', 900) FROM generate_series(1, 40000)")
    with base_backup("own", timeout_s=60) as readable:
        content, buffer = next(iter(readable.source.items())).open(), memoryview(bytearray(1 << 20))
        assert content.readinto(buffer)
        server.restart(crash=True)
        with pytest.raises(SourceFailed, match="service own: the base backup failed: ") as caught:
            sum(iter(lambda: content.readinto(buffer), 0))
        assert caught.value.retryable
    assert server.sql("SELECT count(*) FROM pg_replication_slots") == "0"


def test_a_damaged_page_fails_the_backup(server: PostgresServer) -> None:
    add_space(server, b"space")
    server.sql("CREATE TABLE t TABLESPACE space AS SELECT repeat('x', 900) FROM generate_series(1, 400)")
    table = server.data / server.sql("SELECT pg_relation_filepath('t')")
    server.stop()
    owner = server.data.stat()
    command = [postgres_program("pg_checksums"), "--enable", "--no-sync", "-D", str(server.data)]
    subprocess.run(command, check=True, user=owner.st_uid, group=owner.st_gid, cwd="/")
    server.start()
    with base_backup("own", timeout_s=60) as readable:
        assert read_all(readable)
    with table.open("r+b") as file:
        file.seek(8192 + 4000)
        file.write(b"damage")
    with (
        pytest.raises(SourceFailed, match="checksum verification failure"),
        base_backup("own", timeout_s=60) as readable,
    ):
        read_all(readable)


def archive(*members: tarfile.TarInfo) -> list[bytes]:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(b"x" * member.size))
    return [made.getvalue()]


def member(name: str, kind: bytes = tarfile.REGTYPE, **more: Any) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type = kind
    for field, value in more.items():
        setattr(made, field, value)
    return made


@pytest.mark.parametrize(
    "members",
    [
        [member("pg_tblspc/16999", tarfile.SYMTYPE, linkname="/etc")],
        [member("pg_tblspc/16385/x", tarfile.SYMTYPE, linkname="/etc")],
        [member("base/1", tarfile.SYMTYPE, linkname="/etc")],
        [
            member("pg_tblspc", tarfile.DIRTYPE),
            member("pg_tblspc/16385", tarfile.SYMTYPE),
            member("pg_tblspc/16385/x"),
        ],
        [member("pg_tblspc", tarfile.LNKTYPE, linkname="/etc/passwd")],
        [member("../x")],
    ],
)
def test_links_that_lead_anywhere_else_are_refused(members: list[tarfile.TarInfo], tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/pg_tblspc").mkdir()
    (tmp_path / "space").mkdir()
    places = {16385: tmp_path / "space"}
    with pytest.raises(IntegrityFailure, match="belongs into no data directory"):
        unpack(archive(*members), tmp_path / "data", Silent(), never_stop, places)
    assert list((tmp_path / "space").iterdir()) == []
    if all(member.name != "../x" for member in members):
        return
    with pytest.raises(IntegrityFailure):
        unpack_tablespace(archive(*members), tmp_path / "space", Silent(), never_stop)
