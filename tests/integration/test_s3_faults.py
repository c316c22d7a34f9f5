"""Backup, verify and restore while the way to the server, or the server itself, misbehaves.

``microburst`` says no as AWS does, cuts connections and changes what comes back; ``S3Line`` changes what is
sent, and loses replies.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore import auth

from donjon.core.clock import system_clock
from donjon.core.errors import ObjectNotFound, Refused, StoreError
from donjon.stores.s3 import S3Store
from donjon.testing.aws.microburst import Microburst, microburst
from donjon.testing.aws.s3_line import Fault, s3_line
from donjon.testing.aws.seaweedfs import SeaweedFs, seaweedfs
from donjon.testing.servers.ports import free_port
from donjon.testing.trees import compare_trees
from tests.integration.cli import Donjon
from tests.integration.engine import change, fill
from tests.integration.s3_roles import Roles


@dataclass
class Way:
    """A vault, and the proxy before the server that it is on."""

    host: Donjon
    proxy: Microburst


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    """One for all tests; each has a source of its own."""
    port = free_port()
    folder = tmp_path_factory.mktemp("seaweedfs")
    with (
        pytest.MonkeyPatch.context() as patch,
        seaweedfs(folder, f"http://127.0.0.1:{port}") as server,
        microburst(server.endpoint, port) as proxy,
    ):
        for name, value in server.environment.items():
            patch.setenv(name, value)
        host = Donjon(tmp_path_factory.mktemp("host"))
        host.run(
            "init",
            "--single-recipient",
            f"s3://vault/v?endpoint={proxy.url}",
            "--create",
            "--kit",
            host.kit,
        )
        yield Way(host, proxy)


@pytest.fixture
def way(made: Way) -> Iterator[Way]:
    yield made
    made.proxy.set([])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    fill(folder, 40, 1, size_bytes=30_000)
    return folder


def _every(fail: int, then: int, **fault: Any) -> dict[str, Any]:
    return {"sequence": {"fail": fail, "pass": then}, **fault}


#: What happens to requests, and how often. All of these pass once they are tried again.
PASSING = {
    "throttled": _every(2, 3, error={"code": "SlowDown", "status": 503}),
    "failing": _every(1, 2, error={"code": "InternalError", "status": 500}),
    "reset": _every(1, 2, reset=True),
    "uploads cut off": _every(1, 1, operation="PutObject", request={"cut_upload": {"after_frac": 0.5}}),
    "downloads cut off": _every(1, 1, operation="GetObject", response={"abort_frac": 0.5}),
    "listings changed": _every(1, 2, operation="ListObjectVersions", response={"corrupt_bytes": 3}),
}
#: Bytes that come back wrong. They are noticed.
WRONG = {
    "downloads changed": _every(1, 3, operation="GetObject", response={"corrupt_bytes": 1}),
    "downloads too short": _every(1, 3, operation="GetObject", response={"truncate_frac": 0.5}),
}


def _assert_restores(host: Donjon, source: Path, *options: str | Path) -> None:
    target = host.folder / "restored"
    host.run("restore", f"latest:{source}", target, *options)
    assert compare_trees(os.fsencode(source), os.fsencode(target)) == []
    shutil.rmtree(target)


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING.keys())
def test_what_passes_is_tried_again(way: Way, source: Path, fault: dict[str, Any]) -> None:
    way.proxy.set([fault])
    way.host.run("backup", source)
    assert way.host.json("verify", "--data", "100")["ok"]
    _assert_restores(way.host, source)
    assert way.proxy.fired() >= 3


def _refused(host: Donjon, *command: str | Path) -> bool:
    """The command ends with 12, or where the one byte that changed is a version, with that."""
    done = subprocess.run(
        [*host.command(), *command], env=host.environment(), capture_output=True, timeout=300, check=False
    )
    return done.returncode == 12 or (done.returncode == 1 and b"has format version" in done.stderr)


@pytest.mark.parametrize("fault", WRONG.values(), ids=WRONG.keys())
def test_bytes_that_come_back_wrong_are_noticed_and_never_restored(
    way: Way, source: Path, fault: dict[str, Any]
) -> None:
    host, target = way.host, source.with_name("out")
    host.run("backup", source)
    change(source, 2)
    commands = (["backup", source], ["verify", "--data", "100"], ["restore", f"latest:{source}", target])
    for command in commands:
        way.proxy.set([fault])
        assert _refused(host, *command)
        assert way.proxy.fired() >= 1
    assert not [path for path in target.rglob("*") if path.is_file()]
    way.proxy.set([])
    host.run("backup", source)
    assert host.json("verify", "--data", "100")["ok"]
    _assert_restores(host, source)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        ({"code": "SlowDown", "status": 503}, 1, "SlowDown"),
        ({"code": "ExpiredToken", "status": 400}, 11, "the credentials have expired"),
        ({"code": "RequestTimeTooSkewed", "status": 403}, 1, "the clock of this host is wrong"),
        ({"code": "AllAccessDisabled", "status": 403}, 11, "no permission s3:PutObject"),
        (
            {"code": "AuthorizationHeaderMalformed", "status": 400, "fields": {"Region": "eu-west-9"}},
            2,
            "the bucket is in eu-west-9",
        ),
    ],
)
def test_what_does_not_pass_ends_with_one_clear_error_and_the_next_run_goes_on(
    way: Way, source: Path, error: dict[str, Any], code: int, said: str
) -> None:
    before = way.host.json("points")["points"]
    way.proxy.set([{"operation": "PutObject", "error": error}])
    lines = way.host.run("backup", source, code=code).stderr.decode().splitlines()
    assert len(lines) == 2, lines
    assert said in lines[0]
    way.proxy.set([])
    assert way.host.json("points")["points"] == before
    way.host.run("backup", source)
    _assert_restores(way.host, source)


# --- on the way there -------------------------------------------------------------------------------


def test_every_put_of_a_writer_meets_a_bad_line(s3_server: SeaweedFs, host: Donjon, source: Path) -> None:
    """The first try arrives with a wrong bit, the reply to the second is lost.

    With the policy of a writer, who may not read packs to see whether they arrived.
    """
    with s3_line(s3_server.ports["s3"]) as (line, url):
        roles = Roles.make(s3_server, host, url)
        writer, reader = roles.writer("web1"), roles.reader()
        line.faults = (Fault.CHANGES_BYTES, Fault.LOSES_REPLY)
        writer.run("backup", source)
        assert {path.split("/")[3] for path in line.tries} == {"sessions", "packs", "index", "manifests"}
        assert set(line.tries.values()) == {2}
        line.faults = ()
        assert len(reader.json("points", "--vault", roles.url)["points"]) == 1
        assert reader.json("verify", "--data", "100", "--vault", roles.url)["ok"]
        _assert_restores(reader, source, "--vault", roles.url)


@pytest.mark.parametrize("shift_s", [-360, 360])
def test_a_clock_that_is_over_five_minutes_off_sends_no_data(
    s3_server: SeaweedFs, host: Donjon, source: Path, shift_s: int
) -> None:
    shifts = [0]
    with s3_line(s3_server.ports["s3"], lambda: system_clock() - shifts[-1]) as (line, url):
        host.run(
            "init",
            "--single-recipient",
            f"s3://{s3_server.make_bucket()}/v?endpoint={url}",
            "--create",
            "--kit",
            host.kit,
        )
        shifts.append(shift_s)
        line.requests.clear()
        errors = host.run("backup", source, code=1).stderr.decode()
        assert (
            f"the clock of this host is {'ahead of' if shift_s > 0 else 'behind'} the server's by " in errors
        )
        assert "timedatectl" in errors
        assert line.requests
        assert not [request for request in line.requests if request.method == "PUT"]


def test_a_server_that_finds_the_time_of_a_request_wrong(
    s3_server: SeaweedFs, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From 15 minutes on, the server itself refuses what is signed with another time."""
    url, signed_at = s3_server.url(s3_server.make_bucket()), auth.get_current_datetime
    monkeypatch.setattr(auth, "get_current_datetime", lambda *a: signed_at(*a) + timedelta(minutes=16))
    with S3Store(url, clock=lambda: system_clock() + 16 * 60) as store:
        with pytest.raises(Refused, match="the clock of this host is"):
            store.put("one", b"x")
        for call in (lambda: store.get("one"), lambda: list(store.list())):
            with pytest.raises(StoreError, match="the clock of this host is wrong") as caught:
                call()
            assert not isinstance(caught.value, ObjectNotFound)
