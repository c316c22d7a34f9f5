"""The output of commands as a source: it counts only if the command ends well."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from donjon.app.kinds.base import Surroundings
from donjon.app.kinds.registry import prepare
from donjon.backup.job import Job
from donjon.backup.run import run_backup
from donjon.core.errors import Interrupted, SourceFailed, UsageError
from donjon.core.events import Silent, StopCheck, never_stop
from donjon.plan.model import Plan
from donjon.repository.points import OpenPoint
from donjon.repository.tree import Tree
from donjon.repository.vault import open_vault
from donjon.repository.writing import WriteSession
from donjon.sources.commands import SAID_BYTES, CommandStream
from donjon.sources.stream import StreamsSource
from tests.integration.engine import Place


def read(stream: CommandStream) -> bytes:
    data, buffer = b"", memoryview(bytearray(65_536))
    with closing(stream):
        while count := stream.readinto(buffer):
            data += buffer[:count]
    return data


def stream(
    script: str, *, timeout_s: float = 20, stop: StopCheck = never_stop, **environment: str
) -> CommandStream:
    return CommandStream(
        ["/bin/sh", "-c", script],
        what="test",
        timeout_s=timeout_s,
        stop=stop,
        environment=os.environ | environment,
    )


def test_all_of_the_output_comes_through() -> None:
    data = read(stream("head -c 5000000 /dev/zero; echo end; echo said >&2", NAME="x"))
    assert data == bytes(5_000_000) + b"end\n"


def test_no_output_is_an_empty_file() -> None:
    assert read(stream("true")) == b""


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("echo data; echo the disk is full >&2; exit 3", "ended with code 3: the disk is full"),
        ("echo data; kill -9 $$", "was ended by signal 9"),
        ("echo data; exec >&-; sleep 0.2; exit 1", "ended with code 1"),
    ],
)
def test_a_command_that_fails_is_told(script: str, told: str) -> None:
    with pytest.raises(SourceFailed, match=told) as caught:
        read(stream(script))
    assert caught.value.retryable


def test_what_it_says_is_bounded_and_never_blocks_it() -> None:
    script = "head -c 3000000 /dev/zero | tr '\\0' x >&2; echo the last words >&2; echo data; exit 1"
    with pytest.raises(SourceFailed, match="the last words") as caught:
        read(stream(script))
    assert len(caught.value.message) < SAID_BYTES + 100


def test_a_command_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = f"sleep 60 & echo $! > {pids}; echo $$ >> {pids}; trap '' TERM; wait"
    began = time.monotonic()
    with pytest.raises(SourceFailed, match="took longer than 0 s"):
        read(stream(script, timeout_s=0.3))
    assert time.monotonic() - began < 10
    for pid in pids.read_text().split():
        assert not is_running(int(pid))


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_command_that_is_not_there_is_told() -> None:
    with pytest.raises(SourceFailed, match="cannot be started") as caught:
        read(CommandStream(["/no/such/command"], what="test", timeout_s=1))
    assert not caught.value.retryable


def test_a_user_who_wants_to_end_is_heard() -> None:
    def stop() -> None:
        raise Interrupted

    with pytest.raises(Interrupted):
        read(stream("sleep 60", stop=stop))


def test_one_that_is_not_read_is_never_started(tmp_path: Path) -> None:
    stream(f"touch {tmp_path}/started").close()
    assert list(tmp_path.iterdir()) == []


# -- several streams, in order ---------------------------------------------------------------------


def test_several_streams_are_one_tree_in_order() -> None:
    names = [b"b/y", b"b/x", b"a", b"b/c/z", b"b.txt"]
    source = StreamsSource({name: stream("true") for name in names})
    items = [(item.depth, item.name, item.is_file) for item in source.items()]
    assert items == [
        (0, b"a", True), (0, b"b", False), (1, b"c", False), (2, b"z", True), (1, b"x", True),
        (1, b"y", True), (0, b"b.txt", True),
    ]  # fmt: skip
    assert source.paths == (b"/a", b"/b/c/z", b"/b/x", b"/b/y", b"/b.txt")


@pytest.mark.parametrize("names", [(b"a", b"a/b"), (b"../a",), (b"",), (b"a//b",), (b"a\0",)])
def test_names_that_cannot_be_are_refused(names: tuple[bytes, ...]) -> None:
    with pytest.raises(UsageError):
        StreamsSource({name: stream("true") for name in names})


# -- the kind of workload --------------------------------------------------------------------------


def plan(*command: str, filename: str = "out/put.sql", timeout: str = "20s") -> Plan:
    source = {"kind": "command", "command": command, "filename": filename, "timeout": timeout}
    return Plan.model_validate(
        {
            "version": 1,
            "name": "test",
            "sites": {"here": {"provider": "on-premises", "account": "a", "region": "r"}},
            "vaults": {"v": {"url": "file:///v", "site": "here"}},
            "workloads": {"w": {"source": source}},
        }
    )


def surroundings(made: Plan, held: list[str]) -> Surroundings:
    @contextmanager
    def quiesce() -> Iterator[None]:
        held.append("held")
        try:
            yield
        finally:
            held.append("released")

    return Surroundings(made, "w", made.rules("w"), Silent(), never_stop, quiesce, frozenset())


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place.make(tmp_path)


def back_up(place: Place, made: Plan, held: list[str]) -> None:
    """What a run of the plan does with the workload."""
    host, vault = place.host, open_vault(place.store)
    vault.use_secret(host.credential.secret)
    with prepare(made.workloads["w"].source, surroundings(made, held)) as ready:
        session = WriteSession(
            vault, host.credential.signing_key, host.credential.writer_id, host.cache, host.clock
        )
        try:
            job = Job(ready.source, "w", "host", ready.paths)
            run_backup(job, session, host.cache, host.clock, Silent())
        finally:
            session.close()


def test_the_kind_backs_up_what_a_command_writes(place: Place) -> None:
    held: list[str] = []
    back_up(place, plan("/bin/sh", "-c", "head -c 3000000 /dev/zero; echo $HOME"), held)
    back_up(place, plan("/bin/echo", "$HOME; rm -rf x"), held)  # no shell reads it
    assert held == ["held", "released"] * 2
    first, second = place.points()
    assert first.body.sources == (b"/out/put.sql",)
    assert contents(place, second) == b"$HOME; rm -rf x\n"
    assert contents(place, first).startswith(bytes(3_000_000))


def contents(place: Place, point: OpenPoint) -> bytes:
    tree = Tree(point, place.reader(place.open()))
    entry = tree.find(b"out/put.sql")
    assert entry is not None
    return b"".join(tree.content(entry))


@pytest.mark.parametrize(
    "script", ["echo half; exit 1", "echo half; exec sleep 60", "head -c 9000000 /dev/urandom; false"]
)
def test_nothing_is_committed_of_a_command_that_fails(place: Place, script: str) -> None:
    held: list[str] = []
    with pytest.raises(SourceFailed, match="w: /bin/sh: "):
        back_up(place, plan("/bin/sh", "-c", script, timeout="1s"), held)
    assert held == ["held", "released"]
    assert place.points() == []
    back_up(place, plan("/bin/echo", "fine"), held)
    place.assert_sound()


def test_a_filename_that_leads_elsewhere_is_refused(place: Place) -> None:
    with pytest.raises(UsageError):
        back_up(place, plan("/bin/echo", filename="../x"), [])
