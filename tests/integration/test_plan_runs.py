"""Running a plan: what comes of each workload, and what is written down of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from donjon.app.plans.runs import run_workload
from donjon.catalog import points, runs
from donjon.catalog.runs import RunState
from donjon.core.errors import CatalogFailed
from donjon.testing.folders import open_to_others
from donjon.testing.servers.postgres import PostgresServer, postgres
from donjon.testing.trees import compare_trees
from tests.integration.cli import Donjon, end_well
from tests.integration.planned import Planned


@pytest.fixture
def planned(donjon: Donjon) -> Planned:
    return Planned(donjon.without_kit())


def test_a_run_backs_up_copies_verifies_and_is_written_down(planned: Planned) -> None:
    planned.write({"web": {"hooks": planned.hooks("web")}, "shop": {}}, verify={"every": "7d"}, rpo="1d")
    donjon = planned.donjon
    listed = donjon.json("plan", "run", "--dry-run")["workloads"]
    assert [one["workload"] for one in listed] == ["web", "shop"]
    assert any("verify second" in step for step in listed[0]["steps"])
    assert not planned.copy.exists()
    done = donjon.json("plan", "run")
    assert [run["state"] for run in done["runs"]] == ["done", "done"]
    assert planned.log("web") == ["before", "after"]
    assert not planned.frozen("web").exists()
    for place in (donjon.vault, planned.copy):
        for run in done["runs"]:
            target = donjon.folder / "out"
            point = f"{run['point']}:{planned.source(run['workload'])}"
            donjon.run("restore", point, target, "--vault", place, "--kit", donjon.kit)
            source = planned.source(run["workload"])
            assert compare_trees(os.fsencode(source), os.fsencode(target)) == []
            subprocess.run(["rm", "-r", target], check=True)
    status = donjon.json("plan", "status")
    assert status["ok"]
    assert [one["missing"] for one in status["workloads"]] == [[], []]
    shown = donjon.json("catalog", "show")
    assert (shown["points"], shown["copies"], shown["evidence"]) == (2, 4, 2)
    assert all(place["verified_at"] for place in shown["places"])
    kinds = [one["kind"] for one in donjon.json("evidence", "list")["evidence"]]
    assert kinds == ["verify", "verify"]


def test_a_rebuilt_catalog_has_the_same_rows(planned: Planned) -> None:
    planned.write({"web": {}, "shop": {"tags": ["a", "b"]}}, verify={"every": "0s"})
    donjon = planned.donjon
    for seed in range(2):
        planned.fill("web", seed)
        planned.run("web", "shop")
    before = planned.facts(planned.catalog())
    assert len(before["points"]) == 4
    assert len(before["copies"]) == 8
    assert len(before["evidence"]) == 8
    assert all(copy.verified_at for copy in before["copies"])
    for path in donjon.home.glob("catalog.db*"):
        path.unlink()
    assert planned.facts(planned.catalog())["points"] == []
    told = donjon.json("catalog", "rebuild", "--kit", donjon.kit)
    assert (told["points"], told["copies"], told["sealed"], told["problems"]) == (4, 8, 0, [])
    assert planned.facts(planned.catalog()) == before
    donjon.json("catalog", "rebuild")  # without a key nothing that is known is lost
    assert planned.facts(planned.catalog()) == before


def test_a_rebuild_forgets_what_is_gone_and_changes_nothing_if_a_vault_cannot_be_read(
    planned: Planned,
) -> None:
    planned.write({"web": {}})
    donjon = planned.donjon
    donjon.json("plan", "run")
    before = planned.facts(planned.catalog())
    away = planned.copy.rename(planned.folder / "away")
    donjon.run("catalog", "rebuild", code=10)
    assert planned.facts(planned.catalog()) == before
    away.rename(planned.copy)
    planned.write({"web": {"copies": []}})
    planned.rebuild(planned.catalog(), kit=False)
    assert [copy.place for copy in points.list_copies(planned.catalog())] == [donjon.vault.as_uri()]


def test_another_vault_in_the_place_of_a_copy_counts_for_nothing(planned: Planned, tmp_path: Path) -> None:
    planned.write({"web": {}}, verify={"every": "0s"})
    donjon = planned.donjon
    planned.run("web")
    other = Donjon(tmp_path / "other")
    other.folder.mkdir()
    other.init()
    subprocess.run(["rm", "-r", planned.copy], check=True)
    subprocess.run(["cp", "-r", other.vault, planned.copy], check=True)
    (done,) = planned.run("web")
    assert done.state is RunState.FAILED
    assert done.point_id
    assert donjon.run("catalog", "rebuild", code=12).stderr.count(b"another vault")


def test_a_restore_is_timed_and_judged_by_the_objective_and_never_fails_with_the_catalog(
    planned: Planned,
) -> None:
    planned.write({"web": {"copies": [], "rto": "1h"}})
    planned.run("web")
    donjon = planned.donjon
    kit = ("--kit", donjon.kit)
    assert donjon.json("plan", "status")["workloads"][0]["rto_met"] is None
    donjon.run("restore", "web@latest", donjon.folder / "out", *kit)
    assert donjon.json("plan", "status")["workloads"][0]["rto_met"] is True
    planned.write({"web": {"copies": [], "rto": "0s"}})
    assert donjon.json("plan", "status", code=4)["workloads"][0]["rto_met"] is False
    (donjon.home / "catalog.db").write_bytes(b"damaged" * 1000)
    done = donjon.run("restore", "web@latest", donjon.folder / "out2", *kit)
    assert b"not remembered" in done.stderr


def test_items_that_cannot_be_read_end_with_3(planned: Planned) -> None:
    planned.write({"web": {}, "shop": {}})
    (planned.source("web") / "f0").chmod(0)
    drop = "--drop=cap_dac_override,cap_dac_read_search"  # then root may read its own alone
    process = planned.donjon.start(
        "plan", "run", "--json", through=("capsh", drop, "--", "-c", 'exec "$0" "$@"')
    )
    output, errors = end_well(process)
    assert process.returncode == 3, errors
    done = json.loads(output)
    assert [(run["state"], run["unreadable"]) for run in done["runs"]] == [("done", 1), ("done", 0)]


def test_a_failure_leaves_the_others_alone_and_is_told(planned: Planned) -> None:
    planned.write(
        {
            "web": {"hooks": planned.hooks("web", before="echo database is down; exit 5; ")},
            "shop": {},
        }
    )
    donjon = planned.donjon
    done = donjon.json("plan", "run", code=1)
    web, shop = done["runs"]
    assert (web["state"], shop["state"]) == ("failed", "done")
    assert web["point"] is None
    assert "ended with 5" in web["error"]
    assert "database is down" in web["hint"]
    assert planned.log("web") == ["before", "after"]
    assert [run.attempt for run in planned.run("web")] == [2]
    status = donjon.json("plan", "status", code=4)
    assert [one["state"] for one in status["workloads"]] == ["failed", "done"]
    assert "hook before" in status["workloads"][0]["error"]
    assert "failed" in donjon.text("plan", "status", code=4)


def test_a_place_that_fails_keeps_no_other_from_its_copy(planned: Planned) -> None:
    planned.write({"web": {}})
    planned.copy.mkdir()
    (planned.copy / "in the way").touch()
    donjon = planned.donjon
    (done,) = planned.run("web")
    assert done.state is RunState.FAILED
    assert done.point_id
    status = donjon.json("plan", "status", code=4)["workloads"][0]
    assert status["missing"] == ["second"]
    (planned.copy / "in the way").unlink()
    planned.run("web")
    assert donjon.json("plan", "status")["workloads"][0]["missing"] == []
    assert len(points.list_copies(planned.catalog())) == 4  # the first point was caught up with


def test_what_takes_too_long_at_rest_commits_nothing(planned: Planned) -> None:
    planned.write({"web": {"hooks": planned.hooks("web", timeout="1s")}})
    source = planned.source("web")
    for number in range(600):
        (source / f"g{number}").write_bytes(b"x")
    # The hook lets the backup begin, which then meets a slow file system: every file takes its time.
    slow = "import os, sys, time; from donjon.sources import tree; from donjon.cli.main import main\n"
    slow += "real = tree.os.open\n"
    slow += "def slowly(path, *more, **named):\n"
    slow += "    time.sleep(0.005); return real(path, *more, **named)\n"
    slow += "tree.os.open = slowly; main(sys.argv[1:])"
    import sys

    done = subprocess.run(
        [sys.executable, "-c", slow, "plan", "run", "--json"],
        env=planned.donjon.environment(),
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert b"at rest" in done.stdout
    assert planned.donjon.json("points")["points"] == []
    assert planned.log("web") == ["before", "after"]
    assert not planned.frozen("web").exists()


def test_a_workload_is_never_run_twice_at_once(planned: Planned) -> None:
    gate = planned.folder / "gate"
    os.mkfifo(gate)
    planned.write({"web": {"hooks": planned.hooks("web", before=f"read line < {gate}; ")}})
    donjon = planned.donjon
    first = donjon.start("plan", "run", "--json")
    try:
        _wait(planned.frozen("web").exists)
        second = donjon.json("plan", "run")
        assert [run["state"] for run in second["runs"]] == ["skipped"]
        assert f"process {first.pid}" in second["runs"][0]["error"]
        assert donjon.json("plan", "status")["workloads"][0]["running"]
        gate.write_text("go\n")
    finally:
        output, _ = end_well(first)
    assert first.returncode == 0
    assert b'"done"' in output
    assert len(donjon.json("points")["points"]) == 1
    assert planned.log("web") == ["before", "after"]


def test_an_interrupt_releases_the_application_and_is_written_down(planned: Planned) -> None:
    planned.write({"web": {"hooks": planned.hooks("web", before="sleep 1000; ")}})
    process = planned.donjon.start("plan", "run")
    try:
        _wait(planned.frozen("web").exists)
        process.send_signal(signal.SIGTERM)
    finally:
        _, errors = end_well(process)
    assert process.returncode == 130, errors
    assert planned.log("web") == ["before", "after"]
    (run,) = runs.newest(planned.catalog(), 5)
    assert run.state is RunState.INTERRUPTED
    assert run.retryable
    planned.write({"web": {"hooks": planned.hooks("web")}})
    assert [run.attempt for run in planned.run("web")] == [2]


def test_an_unknown_workload_is_wrong_usage(planned: Planned) -> None:
    planned.write({"web": {}})
    assert b"It has: web" in planned.donjon.run("plan", "run", "wep", code=2).stderr


def test_only_what_is_due_is_run(planned: Planned) -> None:
    planned.write({"web": {"schedule": {"every": "1h"}}, "shop": {}})
    donjon = planned.donjon
    planned.run("web")
    assert donjon.json("plan", "run", "--due")["runs"] == []
    later = donjon.later(1)
    assert [run["workload"] for run in later.json("plan", "run", "--due")["runs"]] == ["web"]


def test_a_limit_of_upload_is_kept(planned: Planned) -> None:
    planned.write({"web": {"limits": {"upload": "100KiB/s"}, "copies": []}})
    planned.fill("web", files=8)  # 320 kB that do not compress
    begun = time.monotonic()
    planned.run("web")
    assert time.monotonic() - begun > 1.5


def test_a_catalog_in_postgresql_serves_as_well_and_its_password_is_never_shown(
    planned: Planned, postgres_server: PostgresServer
) -> None:
    planned.write({"web": {}}, verify={"every": "7d"})
    database = postgres_server.make_database()
    seen = {"DONJON_CATALOG": postgres_server.conninfo(database)}
    donjon = planned.donjon
    done = donjon.run("plan", "run", "--verbose", environment=seen)
    shown = donjon.run("catalog", "show", environment=seen)
    assert b"done" in done.stdout
    assert b"127.0.0.1" in shown.stdout
    for text in (done.stdout, done.stderr, shown.stdout, shown.stderr):
        assert postgres_server.password.encode() not in text
    before = planned.facts(planned.catalog(seen))
    assert len(before["copies"]) == 2
    planned.rebuild(planned.catalog(seen))
    assert planned.facts(planned.catalog(seen)) == before
    assert not (donjon.home / "catalog.db").exists()


def test_a_postgresql_that_restarts_during_a_run_is_waited_for(planned: Planned) -> None:
    folder = planned.folder / "postgres"
    folder.mkdir()
    open_to_others(folder)
    with postgres(folder) as server:
        seen = {"DONJON_CATALOG": server.conninfo()}
        gate = planned.folder / "gate"
        os.mkfifo(gate)
        planned.write({"web": {"hooks": planned.hooks("web", before=f"read line < {gate}; ")}})
        donjon = planned.donjon
        process = subprocess.Popen(
            [donjon.program, "plan", "run", "--json"],
            env=donjon.environment() | seen,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            _wait(planned.frozen("web").exists)
            server.stop(crash=True)
            gate.write_text("go\n")
            _wait(lambda: not planned.frozen("web").exists())
            server.start()
        finally:
            output, errors = process.communicate(timeout=60)
        assert process.returncode == 0, (output, errors)
        catalog = planned.catalog(seen)
        assert [run.state for run in runs.newest(catalog, 5)] == [RunState.DONE]
        assert len(points.list_copies(catalog)) == 2
        server.stop()
        done = donjon.run("plan", "status", code=1, environment=seen)
        assert b"nothing of any vault is lost" in done.stderr


def test_a_full_disk_under_the_catalog_is_told_and_the_point_is_found_again(planned: Planned) -> None:
    planned.write({"web": {"hooks": planned.hooks("web")}})
    running = planned.running()
    real, left = running.catalog.write, [4]

    def fill_up(work: object) -> object:
        left[0] -= 1
        if left[0] < 0:
            raise CatalogFailed("the catalog: database or disk is full", hint="Free some room.")
        return real(work)  # type: ignore[arg-type]

    running.catalog.write = fill_up  # type: ignore[assignment,method-assign]
    with pytest.raises(CatalogFailed):
        run_workload(running, "web")
    assert planned.log("web") == ["before", "after"]
    assert len(planned.donjon.json("points")["points"]) == 1
    assert run_workload(planned.running(), "web").state is RunState.DONE
    catalog = planned.catalog()
    assert [point.workload for point in points.list_points(catalog)] == ["web", "web"]
    assert len(points.list_copies(catalog)) == 4


def _wait(condition: object) -> None:
    deadline = time.monotonic() + 60
    assert callable(condition)
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
