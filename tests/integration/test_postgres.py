"""PostgreSQL backed up while it writes, and brought back: to a time, to the end of its log, in a drill."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from donjon.app.postgres.check import check_log
from donjon.app.postgres.drill import Check, Wanted, drill_server_restore
from donjon.app.postgres.servers import BackupWanted, back_up_server
from donjon.core.events import Silent, never_stop
from donjon.testing.folders import open_to_others
from tests.integration.postgres_stage import Stage, stage, writing
from tests.integration.relay import relay


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One server for all, backed up while it writes."""
    with stage(tmp_path_factory.mktemp("postgres")) as made:
        with writing(made.server, 1) as written:
            done = made.donjon.json("postgres", "backup", "shop")
        assert len(written) > 20, "nothing was written meanwhile"
        assert done["warnings"] == []
        made.archive()
        yield made


@pytest.fixture
def room(tmp_path: Path) -> Path:
    """A folder for the servers of drills, which run as another user."""
    open_to_others(tmp_path)
    return tmp_path


def test_a_base_backup_recovers_to_a_time_between_two_transactions(shop: Stage) -> None:
    shop.server.sql("INSERT INTO orders VALUES (-1, 'the last good one')", "shop")
    expected = shop.rows()
    moment = shop.server.sql("SELECT to_char(clock_timestamp(), 'YYYY-MM-DD\"T\"HH24:MI:SS.USOF')")
    shop.server.sql(
        "DELETE FROM orders WHERE id % 2 = 0; INSERT INTO orders VALUES (-2, 'an accident')", "shop"
    )
    assert shop.rows() != expected
    shop.relay.as_command = True
    shop.archive()
    data = shop.folder / "to-a-time" / "data"
    data.parent.mkdir()
    fetch = ("--restore-command", shop.fetch_command())
    done = shop.donjon.json("postgres", "restore", "shop@latest", data, "--to-time", moment, *fetch)
    assert done["settings"]["restore_command"] == shop.fetch_command()
    assert data.stat().st_mode & 0o777 == 0o700
    with shop.started(data) as server:
        assert shop.rows(server) == expected
        # It has left the timeline, and takes writes.
        server.sql("INSERT INTO orders VALUES (-3, 'after the recovery')", "shop")
        assert server.sql("SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)") == "00000002"
    assert any("push" in call and not code for call, code in shop.relay.calls)
    assert any("fetch" in call and not code for call, code in shop.relay.calls)
    shop.relay.as_command = False


def test_the_point_alone_comes_back_as_it_was_at_its_end(shop: Stage) -> None:
    data = shop.restore("alone", uses_wal=False)
    assert not (data / "recovery.signal").exists()
    with shop.started(data) as server:
        ids = [int(row.split("|")[0]) for row in shop.rows(server)]
        assert ids == list(range(1, len(ids) + 1))
        assert len(ids) > 1


def test_what_was_archived_survives_a_server_that_is_killed(shop: Stage) -> None:
    shop.server.sql("INSERT INTO orders SELECT generate_series(1000001, 1001000), 'before the loss'", "shop")
    expected = shop.rows()
    shop.archive()
    with writing(shop.server, 2_000_000):
        process = shop.server.process
        assert process is not None
        shop.server.sql("INSERT INTO orders VALUES (-9, 'never archived')", "shop")
        data = shop.restore("after-the-loss")
        _kill(process.pid)
        process.wait()
    with shop.started(data) as server:
        rows = shop.rows(server)
        lost = [row for row in rows if row not in set(expected)]
        assert [row for row in expected if row not in set(rows)] == []
        # Whatever else came through was committed: the writer's rows, one after the other.
        assert [int(row.split("|")[0]) for row in lost if not row.startswith("-9|")] == [
            2_000_000 + place for place in range(len([row for row in lost if not row.startswith("-9|")]))
        ]
    shop.server.start()
    shop.archive()


def test_recovery_follows_a_new_timeline(shop: Stage) -> None:
    owner = shop.server.data.stat().st_uid
    moment = shop.server.sql("SELECT to_char(clock_timestamp(), 'YYYY-MM-DD\"T\"HH24:MI:SS.USOF')")
    shop.server.sql("INSERT INTO orders VALUES (-20, 'on the old timeline only')", "shop")
    shop.archive()
    data = shop.restore("new-timeline", moment)
    with (
        relay(shop.folder / "relay-2", shop.donjon, owner) as second,
        shop.started(data, second) as server,
    ):
        server.sql("INSERT INTO orders VALUES (-21, 'on the new timeline only')", "shop")
        expected = shop.rows(server)
        shop.archive(server)
        second.answer_only = 0
        assert any("00000002.history" in call[-1] for call, code in second.calls if code == 0)
    again = shop.restore("followed")
    with shop.started(again) as server:
        assert shop.rows(server) == expected
    found = check_log(shop.space, "shop", Silent())
    assert found.missing == []
    assert [one.timeline for one in found.logs[0].timelines] == [1, 2]
    assert found.windows[0].last.startswith("00000002")


def test_a_drill_recovers_checks_and_signs(shop: Stage, room: Path) -> None:
    before = set(os.listdir(tempfile.gettempdir()))
    done = shop.donjon.json(
        "drill",
        "postgres",
        "shop@latest",
        "--check",
        "shop: SELECT count(*) FROM orders",
        "--folder",
        room,
    )
    assert done["passed"]
    assert done["duration_s"] > 0
    assert done["segments"] > 0
    assert int(done["values"][0]) > 20
    assert [row["outcome"] for row in done["rows"]] == ["passed"] * len(done["rows"])
    assert {"verify it with pg_verifybackup", "look for corruption with pg_amcheck"} <= {
        row["tried"] for row in done["rows"]
    }
    assert os.listdir(room) == []
    assert not {name for name in set(os.listdir(tempfile.gettempdir())) - before if "donjon-drill" in name}
    signed = shop.donjon.json("evidence", "show", done["evidence"]["id"])
    assert "shop" not in str(signed["rows"]).replace("workload", "")


def test_a_drill_in_which_a_query_fails_tells_so(shop: Stage, room: Path) -> None:
    options: list[str | Path] = ["--no-wal", "--no-amcheck", "--folder", room, "--no-evidence"]
    checks = ["--check", "shop: SELECT count(*) < 0 FROM orders", "--check", "shop: SELECT 1 FROM nowhere"]
    done = shop.donjon.json("drill", "postgres", "shop@latest", *options, *checks, code=4)
    assert not done["passed"]
    assert [row["outcome"] for row in done["rows"]][-3:] == ["failed", "failed", "skipped"]
    assert done["values"] == ["False", "UndefinedTable"]
    assert os.listdir(room) == []


def test_a_base_backup_that_is_damaged_fails_its_drill(shop: Stage, room: Path) -> None:
    """A server that recovers to a time before the backup ended is refused, not opened."""
    done = shop.donjon.run(
        "drill", "postgres", "shop@latest", "--to-time", "2001-01-01T00:00:00Z", "--folder", room, code=2
    )
    assert b"before this backup began" in done.stderr
    assert os.listdir(room) == []


def test_a_drill_that_is_killed_leaves_no_server(shop: Stage, room: Path) -> None:
    command: list[str | Path] = [
        shop.donjon.program,
        "drill",
        "postgres",
        "shop@latest",
        "--no-wal",
        "--folder",
        room,
    ]
    command += ["--no-amcheck", "--no-evidence", "--check", "shop: SELECT pg_sleep(60)"]
    sockets = Path(tempfile.mkdtemp(prefix="t-"))  # short, as the path of a socket has to be
    open_to_others(sockets)
    environment = shop.donjon.environment() | {"TMPDIR": str(sockets)}
    drill = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        wait_for(lambda: any("pg_sleep" in title or "SELECT" in title for title in titles("donjon-drill")))
    finally:
        drill.kill()
        drill.wait()
    wait_for(lambda: not titles(str(room)))
    assert not titles("donjon-drill:")
    shutil.rmtree(sockets)


def titles(text: str) -> list[str]:
    """What processes with this text in their title or command line are called."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            title = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if text in title and "pytest" not in title.split(" ")[0:3]:
                found.append(title)
    return found


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_dumps_come_back_as_they_were(shop: Stage, room: Path) -> None:
    shop.server.sql("CREATE ROLE clerk LOGIN")
    shop.server.sql('CREATE DATABASE "odd/name"')
    shop.server.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS n", "odd/name")
    done = shop.donjon.json("postgres", "backup", "shop", "--mode", "dump", "--workload", "dumps")
    shop.donjon.json("restore", done["point"], room / "files")
    names = sorted(path.name for path in (room / "files" / "databases").iterdir())
    assert names == ["odd%2Fname.dump", "postgres.dump", "shop.dump"]
    assert "CREATE ROLE clerk" in (room / "files" / "globals.sql").read_text()
    everything = "SELECT md5(string_agg(id || note, ',' ORDER BY id)) FROM orders"
    digest = shop.server.sql(everything, "shop")
    checks = (
        Check("shop", everything),
        Check("odd/name", "SELECT sum(n) = 500500 FROM t"),
        Check("postgres", "SELECT true FROM pg_roles WHERE rolname = 'clerk'"),
    )
    wanted = Wanted("dumps@latest", checks=checks, parent=room)
    drilled = drill_server_restore(shop.space, wanted, {}, Silent(), never_stop)
    assert drilled.has_passed, drilled.notes
    assert drilled.values == [digest, "True", "True"]
    assert sorted(path.name for path in room.iterdir()) == ["files"]
    again = BackupWanted("shop", "dumps", "dump")
    outcome, _ = back_up_server(shop.space, again, Silent(), never_stop)
    assert outcome.bytes_stored < outcome.counts.size_bytes / 2


def _kill(leader: int) -> None:
    """Kill a server at once, with all its processes."""
    children = Path(f"/proc/{leader}/task/{leader}/children").read_text().split()
    for pid in (leader, *map(int, children)):
        os.kill(pid, signal.SIGKILL)
