"""Bad lines, bad moments and sudden deaths between a host and the fakes of two clouds."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from donjon.testing.azure.account import azurite
from donjon.testing.front import Answer, HangUp, Request
from donjon.testing.google.bucket import fake_gcs_server
from donjon.testing.trees import compare_trees
from tests.integration.cli import Donjon, end
from tests.integration.cloud import Cloud, google, microsoft
from tests.integration.engine import change, fill

Handle = Callable[[Request], Answer]


@pytest.fixture(scope="module")
def google_port() -> Iterator[int]:
    with fake_gcs_server() as port:
        yield port


@pytest.fixture(scope="module")
def azure_port() -> Iterator[int]:
    with azurite() as port:
        yield port


@pytest.fixture(params=["google", "microsoft"])
def cloud(request: pytest.FixtureRequest, host: Donjon) -> Iterator[Cloud]:
    port = request.getfixturevalue("google_port" if request.param == "google" else "azure_port")
    with (google if request.param == "google" else microsoft)(host, port) as made:
        made.donjon.run("init", "--single-recipient", made.url, "--kit", made.donjon.kit, "--lock", "7d")
        yield made


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    fill(folder, 40, 7, size_bytes=30_000)
    (folder / "large").write_bytes(os.urandom(9_000_000))  # a pack that takes more than one request
    return folder


# --- what happens to a request ----------------------------------------------------------------------


def _busy(request: Request, _: Handle) -> Answer:
    """429 of Google Cloud Storage and 503 of Azure both ask to come back later."""
    return Answer(503 if "x-ms-version" in request.headers else 429)


def _failing(_: Request, __: Handle) -> Answer:
    return Answer(500)


def _never_arrives(_: Request, __: Handle) -> Answer:
    raise HangUp


def _reply_lost(request: Request, handle: Handle) -> Answer:
    handle(request)
    raise HangUp


def _cut_off(request: Request, handle: Handle) -> Answer:
    """Half of what was asked for, then nothing."""
    answer = handle(request)
    if request.method != "GET" or len(answer.body) < 2:
        return answer
    headers = {name: value for name, value in answer.headers.items() if name.lower() != "content-length"}
    headers["content-length"] = str(len(answer.body))
    return replace(answer, body=answer.body[: len(answer.body) // 2], headers=headers, hangs_up=True)


class Trouble:
    """Every fifth request meets a fault: an upload of three requests passes at the second try."""

    def __init__(self, fault: Callable[[Request, Handle], Answer]) -> None:
        self._fault = fault
        self.requests = 0
        self.faults = 0

    def __call__(self, request: Request, handle: Handle) -> Answer:
        self.requests += 1
        if self.requests % 5:
            return handle(request)
        self.faults += 1
        return self._fault(request, handle)


@pytest.mark.parametrize("fault", [_busy, _failing, _never_arrives, _reply_lost, _cut_off])
def test_what_passes_is_tried_again(
    cloud: Cloud, source: Path, tmp_path: Path, fault: Callable[[Request, Handle], Answer]
) -> None:
    donjon = cloud.donjon
    cloud.front.trouble = trouble = Trouble(fault)
    assert donjon.json("backup", source)["errors"] == []
    assert donjon.json("verify", "--data", "100")["ok"]
    target = tmp_path / "out"
    donjon.run("restore", f"latest:{source}", target)
    assert trouble.faults >= 3
    assert compare_trees(os.fsencode(source), os.fsencode(target)) == []
    cloud.front.trouble = None
    assert len(donjon.json("points")["points"]) == 1
    assert donjon.json("verify", "--data", "100")["ok"]


def test_bytes_that_come_back_wrong_are_noticed_and_never_restored(
    cloud: Cloud, source: Path, tmp_path: Path
) -> None:
    donjon = cloud.donjon
    donjon.run("backup", source)

    def flip(request: Request, handle: Handle) -> Answer:
        answer = handle(request)
        if "packs" not in request.target or request.method != "GET" or len(answer.body) < 10_000:
            return answer
        body = bytearray(answer.body)
        body[len(body) // 2] ^= 1
        return replace(answer, body=bytes(body))

    cloud.front.trouble = flip
    report = donjon.json("verify", "--data", "100", code=12)
    assert report["problems"]
    target = tmp_path / "out"
    assert b"Traceback" not in donjon.run("restore", f"latest:{source}/large", target, code=12).stderr
    assert not (target / "large").exists()
    cloud.front.trouble = None
    donjon.run("restore", f"latest:{source}", target)
    assert compare_trees(os.fsencode(source), os.fsencode(target)) == []


def test_a_backup_may_be_killed_after_any_request(cloud: Cloud, source: Path, tmp_path: Path) -> None:
    donjon, killed = cloud.donjon, 0
    for number in range(1, 40, 5):
        process = donjon.start("backup", source, "--workload", "files", "--read-all")
        seen = len(cloud.front.requests)
        try:
            while process.poll() is None and len(cloud.front.requests) < seen + number:
                time.sleep(0.002)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                killed += 1
        finally:
            end(process)
        change(source, number)
    assert killed >= 3
    assert donjon.json("verify", "--data", "100")["ok"]
    assert donjon.json("backup", source, "--workload", "files")["errors"] == []
    target = tmp_path / "out"
    donjon.run("restore", f"latest:{source}", target)
    assert compare_trees(os.fsencode(source), os.fsencode(target)) == []
    assert donjon.json("verify", "--data", "100")["ok"]
