"""points, ls, find, diff, dump, mount and completion through the real command."""

from __future__ import annotations

import os
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from donjon.testing.folders import remove_tree
from donjon.testing.trees import build_gnarly_tree, compare_trees
from tests.integration.cli import Donjon, end

#: Part of a real tree that every Python has.
LIBRARY = Path(sysconfig.get_path("stdlib")) / "json"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "web"
    (folder / "logs").mkdir(parents=True)
    (folder / "index.html").write_text("<h1>one</h1>")
    (folder / "logs" / "old.log").write_bytes(b"line\n" * 5000)
    (folder / "a link").symlink_to("index.html")
    return folder


@pytest.fixture
def filled(donjon: Donjon, source: Path) -> Donjon:
    """Two points of ``web``, one of ``lib``."""
    donjon.run("backup", source, "--workload", "web", "--tag", "first", "--tag", "nightly")
    donjon.run("backup", LIBRARY, "--workload", "lib")
    (source / "index.html").write_text("<h1>two</h1>")
    (source / "logs" / "old.log").unlink()
    (source / "logs" / "new.log").write_bytes(b"line\n" * 7000)
    (source / "index.html").chmod(0o600)
    donjon.run("backup", source, "--workload", "web", "--tag", "nightly")
    return donjon


def test_points_are_listed_newest_last_and_filtered(filled: Donjon) -> None:
    points = filled.json("points")["points"]
    assert [point["workload"] for point in points] == ["web", "lib", "web"]
    assert points == sorted(points, key=lambda point: str(point["time"]))
    for point in points:
        assert {"id", "workload", "time", "files", "bytes", "locked_until"} <= point.keys()
    assert points[0]["bytes"] == 25_012

    def ids(*options: str) -> list[str]:
        return [point["id"] for point in filled.json("points", *options)["points"]]

    web = [points[0]["id"], points[2]["id"]]
    assert ids("--workload", "web") == web
    assert ids("--tag", "nightly") == web
    assert ids("--tag", "nightly", "--tag", "first") == web[:1]
    assert ids("--since", "1h") == [point["id"] for point in points]
    assert ids("--until", "2020-01-01") == []
    assert ids("latest") == web[1:]
    assert ids("lib@latest") == [points[1]["id"]]
    assert ids(points[1]["id"][:8]) == [points[1]["id"]]
    assert ids(f"web@{points[0]['time']}")[-1] in web


def test_without_a_key_names_stay_sealed(filled: Donjon) -> None:
    points = filled.without_kit().json("points")["points"]
    assert len(points) == 3
    assert {point["workload"] for point in points} == {None}
    assert b"web" not in filled.without_kit().run("points").stdout


@pytest.mark.parametrize(
    "name", ["nothing@latest", "web@1999-01-01", "ffffffffffff", "no-such-name", "web@soon"]
)
def test_a_name_that_means_no_point_is_said(filled: Donjon, name: str) -> None:
    done = filled.run("ls", name, code=2 if name == "web@soon" else 1)
    assert len(done.stderr.splitlines()) <= 2
    assert done.stdout == b""


def test_ls_lists_a_directory_like_the_system_does(filled: Donjon, source: Path) -> None:
    items = {item["path"]: item for item in filled.json("ls", f"latest:{source}")["items"]}
    assert set(items) == {f"{source}/{name}" for name in ("a link", "index.html", "logs")}
    page = items[f"{source}/index.html"]
    status = (source / "index.html").stat()
    assert (page["type"], page["mode"], page["size"]) == ("file", "0600", status.st_size)
    assert (page["uid"], page["gid"]) == (status.st_uid, status.st_gid)
    assert items[f"{source}/a link"]["type"] == "symlink"
    text = filled.text("ls", f"latest:{source}")
    assert "a link -> index.html" in text
    assert "logs/" in text


def test_find_searches_all_points_by_name_size_time_and_type(filled: Donjon, source: Path) -> None:
    def paths(*arguments: str) -> set[str]:
        return {match["path"] for match in filled.json("find", *arguments)["matches"]}

    assert paths("*.log") == {f"{source}/logs/old.log", f"{source}/logs/new.log"}
    assert paths("*.log", "--point", "web@latest") == {f"{source}/logs/new.log"}
    assert paths("*", "--size", "+30k", "--workload", "web") == {f"{source}/logs/new.log"}
    assert paths("*", "--type", "l", "--workload", "web") == {f"{source}/a link"}
    assert paths("decoder.py") == {f"{LIBRARY}/decoder.py"}
    assert paths("DECODER.PY", "-i") == {f"{LIBRARY}/decoder.py"}
    assert paths("*/logs/*.log", "--newer", "1h", "--type", "f") == paths("*.log")
    assert paths("*.log", "--older", "1h") == set()
    versions = filled.json("find", "index.html")["matches"]
    assert [len(version["points"]) for version in versions] == [1, 1]
    assert paths("nowhere") == set()


def test_diff_tells_what_was_added_removed_and_changed(filled: Donjon, source: Path) -> None:
    points = filled.json("points", "--workload", "web")["points"]
    found = filled.json("diff", points[0]["id"], "web@latest")
    changes = {change["path"]: change for change in found["changes"]}
    assert changes[f"{source}/logs/new.log"]["change"] == "added"
    assert changes[f"{source}/logs/old.log"]["change"] == "removed"
    page = changes[f"{source}/index.html"]
    assert page["change"] == "changed"
    assert {"content", "mode"} <= set(page["aspects"])
    assert f"{source}/a link" not in changes
    assert (found["added"], found["removed"]) == (1, 1)
    same = filled.json("diff", "web@latest", "web@latest")
    assert same["changes"] == []
    assert f"+ {source}/logs/new.log" in " ".join(filled.text("diff", points[0]["id"], "web@latest").split())


def test_dump_writes_the_bytes_of_one_file(filled: Donjon, source: Path) -> None:
    assert filled.run("dump", f"web@latest:{source}/index.html").stdout == b"<h1>two</h1>"
    first = filled.json("points", "--tag", "first")["points"][0]["id"]
    assert filled.run("dump", f"{first}:{source}/logs/old.log").stdout == b"line\n" * 5000
    for path in (source, source / "nowhere"):
        done = filled.run("dump", f"latest:{path}", code=1)
        assert done.stdout == b""


def test_a_stream_goes_in_and_out(donjon: Donjon) -> None:
    data = os.urandom(3_000_000)
    donjon.run("backup", "--stdin", "shop.dump", "--workload", "shop", input_bytes=data)
    assert donjon.run("dump", "shop@latest:/shop.dump").stdout == data


@contextmanager
def mounted(donjon: Donjon, *arguments: str) -> Iterator[Path]:
    folder = donjon.folder / "mnt"
    folder.mkdir()
    process = donjon.start("mount", *arguments, folder)
    try:
        deadline = time.monotonic() + 30
        while not folder.is_mount():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield folder
    finally:
        subprocess.run(["fusermount3", "-u", "-z", folder], check=False, capture_output=True)
        try:
            process.wait(20)
        finally:
            end(process)
            folder.rmdir()


def test_all_points_can_be_looked_into_as_folders(filled: Donjon, source: Path) -> None:
    with mounted(filled) as folder:
        assert sorted(path.name for path in folder.iterdir()) == ["lib", "web"]
        times = sorted(path.name for path in (folder / "web").iterdir())
        assert len(times) == 3
        assert times[-1] == "latest"
        latest = Path(f"{folder}/web/latest{source}")
        assert (latest / "index.html").read_text() == "<h1>two</h1>"
        old = Path(f"{folder}/web/{times[0]}{source}")
        assert (old / "index.html").read_text() == "<h1>one</h1>"
        found = subprocess.run(
            ["grep", "-rl", "class JSONDecoder", f"{folder}/lib/latest"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert found.stdout.strip() == f"{folder}/lib/latest{LIBRARY}/decoder.py"
        with pytest.raises(OSError, match="Read-only"):
            (latest / "new").write_text("x")


def test_a_mounted_point_is_the_tree_that_was_backed_up(donjon: Donjon, tmp_path: Path) -> None:
    gnarly = tmp_path / "gnarly"
    build_gnarly_tree(os.fsencode(gnarly))
    (gnarly / "holes" / "huge").unlink()  # a terabyte, which without SEEK_DATA takes hours to read
    try:
        donjon.run("backup", gnarly)
        with mounted(donjon, "latest", "--allow-other") as folder:
            differences = compare_trees(os.fsencode(gnarly), os.fsencode(f"{folder}{gnarly}"))
        assert [text for text in differences if "extents" not in text] == []
    finally:
        remove_tree(gnarly)


def test_the_shell_completes_commands_and_options(host: Donjon) -> None:
    script = host.text("completion", "bash")
    words = """
COMP_WORDS=(donjon res); COMP_CWORD=1; _donjon_completion donjon; echo "${COMPREPLY[@]}"
COMP_WORDS=(donjon restore --over); COMP_CWORD=2; _donjon_completion donjon; echo "${COMPREPLY[@]}"
"""
    environment = host.environment() | {"PATH": f"{host.program.parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script + words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.split() == ["restore", "--overwrite"], done.stderr
    for shell in ("zsh", "fish"):
        assert "donjon" in host.text("completion", shell)
    host.run("completion", "tcsh", code=2)
