"""Secrets that are planted are looked for in everything that real commands show, write and start.

Every other test that runs a command through ``Donjon`` looks for the secrets of its host as well
(``planted.check_shown``); here are the commands that are likely to fail at it, with tracebacks asked for.
"""

from __future__ import annotations

import json
import os
import re
import secrets as random
import signal
import stat
import subprocess
import time
from pathlib import Path

import pytest

from donjon.testing.folders import remove_tree
from donjon.testing.servers.ports import free_port
from tests.integration.cli import Donjon, end_well
from tests.integration.engine import fill
from tests.integration.planted import Secrets, open_to_others, secrets_of

_NO_CORE = re.compile(r"Max core file size +0 +0 ")
_DEBUG = {"DONJON_DEBUG": "1"}

#: What runs inside the command before it: it lists programs that are started, lets files be open to all
#: unless somebody takes care, and tells at the end whether the process could leave a core dump.
_INSIDE = """
import atexit, ctypes, os, resource, sys
os.umask(0)
log = open(os.environ["PLANTED_LOG"], "a")
def hear(event, arguments):
    if event in ("subprocess.Popen", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "os.system"):
        log.write(f"started {event} {arguments!r}\\n")
sys.addaudithook(hear)
@atexit.register
def tell():
    log.write(f"dumpable {ctypes.CDLL(None).prctl(3)} core {resource.getrlimit(resource.RLIMIT_CORE)}\\n")
    log.close()
"""
#: All tries are made, and none is waited for: pauses are drawn at random.
_IMPATIENT = """
import random
random.random = lambda: 0.0
"""
#: A bug in the middle of Donjon, in a frame and below frames that hold keys; its message quotes what SDKs do.
_BUG = """
import donjon.codec.hpke as hpke
def broken(self, sealed, info):
    key = self.to_bytes()
    raise RuntimeError("cannot call https://host/?sig=abcdefgh0123&x=1 with Bearer abcdefgh0123")
hpke.PrivateKey.open = broken
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    fill(folder, 8, 1)
    return folder


@pytest.fixture
def phrase(tmp_path: Path) -> Path:
    file = tmp_path / "phrase"
    file.write_text("planted words nobody else would say\n")
    return file


def _inside(folder: Path, code: str = _INSIDE) -> dict[str, str]:
    """The environment in which ``code`` runs inside the command first."""
    place = folder / f"inside-{random.token_hex(4)}"
    place.mkdir()
    (place / "sitecustomize.py").write_text(code)
    return _DEBUG | {"PYTHONPATH": str(place), "PLANTED_LOG": str(folder / "inside.log")}


def _fails(donjon: Donjon, *arguments: str | Path, code: int, **environment: str) -> str:
    done = donjon.run(*arguments, code=code, environment=_DEBUG | environment)
    text = done.stderr.decode()
    assert text
    return text


def _await_protection(process: subprocess.Popen[bytes]) -> None:
    """Until the process has given up core dumps, which is the first thing that it does."""
    deadline = time.monotonic() + 60
    while not _NO_CORE.search(Path(f"/proc/{process.pid}/limits").read_text()):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)


# --- what works -------------------------------------------------------------------------------------


def test_commands_that_work_show_no_secret_start_nothing_and_leave_files_to_their_owner(
    host: Donjon, source: Path, phrase: Path, tmp_path: Path
) -> None:
    inside = _inside(tmp_path)
    made = tmp_path / "made"
    made.mkdir(mode=0o700)
    writer, custodian = made / "w.writer", made / "c.json"
    for words in (
        ["init", host.vault, "--kit", host.kit, "--lock", "none", "--single-recipient"],
        ["keys", "list"],
        ["keys", "add", "passphrase", "--name", "office", "--new-passphrase-file", phrase],
        ["keys", "add", "kit", "--name", "safe", "--out", made / "second.kit"],
        ["keys", "check"],
        ["writer", "add", "web1", "--out", writer],
        ["writer", "list"],
        ["custodian", "add", "watch", "--out", custodian],
        ["approver", "new", "anna", "--out", made / "anna.json"],
        ["backup", source, "--verbose"],
        ["points", "--passphrase-file", phrase],
        ["verify", "--data", "100", "--verbose"],
        ["restore", "latest", tmp_path / "restored", "--verbose"],
        ["stats"],
        ["custody", "checkpoint", "--credential", custodian],
        ["keys", "print", "--html", made / "kit.html"],
    ):  # fmt: skip
        for shown in ([], ["--json"]):
            if shown and words[:2] in (["keys", "print"], ["keys", "add"], ["writer", "add"]):
                continue  # they make a file, which they do not overwrite
            if shown and words[0] in {"init", "approver", "custodian", "restore"}:
                continue
            host.run(*words, *shown, environment=inside)
    other = Donjon(tmp_path / "other", has_kit=False)
    other.folder.mkdir()
    other.run("enrol", writer, environment=inside)
    other.run("backup", source, environment=inside)

    assert list(open_to_others([host.home, other.home])) == []
    public = made / "anna.json.pub"
    assert set(open_to_others([made])) <= {str(public)}
    assert stat.S_IMODE(host.kit.stat().st_mode) == 0o600
    log = (tmp_path / "inside.log").read_text()
    assert "started" not in log
    assert set(log.splitlines()) == {"dumpable 0 core (0, 0)"}


def test_a_running_command_has_no_secret_in_its_arguments_or_environment(
    donjon: Donjon, source: Path, phrase: Path
) -> None:
    donjon.run("keys", "add", "passphrase", "--name", "n", "--new-passphrase-file", phrase)
    read, write = os.pipe()
    words = ["backup", "--stdin", "stream"]
    process = donjon.start(*words, stream=read)
    os.close(read)
    try:
        os.write(write, b"begun")
        _await_protection(process)
        place = Path(f"/proc/{process.pid}")
        # What its user puts into the environment is there, and nothing else.
        secrets = secrets_of(donjon.home, ["--passphrase-file", phrase], {})
        assert len(secrets.forms) > 10
        assert not secrets.found_in((place / "environ").read_bytes(), (place / "cmdline").read_bytes())
        assert (place / "task" / str(process.pid) / "children").read_bytes() == b""
    finally:
        os.close(write)
        end_well(process)
    assert process.returncode == 0


def test_a_command_that_crashes_leaves_no_core(donjon: Donjon, tmp_path: Path) -> None:
    read, write = os.pipe()
    process = donjon.start("backup", "--stdin", "stream", stream=read)
    os.close(read)
    _await_protection(process)
    process.send_signal(signal.SIGABRT)
    status = process.wait(60)
    os.close(write)
    process.communicate(timeout=60)
    assert status == -signal.SIGABRT
    assert not [path for folder in (tmp_path, Path()) for path in folder.glob("core*")]


# --- what fails -------------------------------------------------------------------------------------


def test_a_wrong_passphrase_is_not_quoted(host: Donjon, phrase: Path, tmp_path: Path) -> None:
    host.init("--passphrase-file", str(phrase))
    wrong = tmp_path / "wrong"
    wrong.write_text("another planted phrase that is wrong")
    _fails(host, "keys", "check", "--passphrase-file", wrong, code=13)
    wrong.write_bytes(b"planted but not UTF-8 \xff\xfe")
    _fails(host, "keys", "check", "--passphrase-file", wrong, code=2)


def test_a_kit_of_another_vault_or_a_damaged_one_is_not_quoted(donjon: Donjon, tmp_path: Path) -> None:
    other = Donjon(tmp_path / "other")
    other.folder.mkdir()
    other.init()
    _fails(donjon, "keys", "check", "--kit", other.kit, code=13)
    secrets = Secrets()
    secrets.add_file(donjon.kit)
    text = donjon.kit.read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("05 ")]
    for wrong in (line[:6] + ("B" if line[6] != "B" else "C") + line[7:], line[:-2]):
        damaged = tmp_path / "damaged.kit"
        damaged.write_text(text.replace(line, wrong))
        shown = _fails(donjon, "keys", "check", "--kit", damaged, code=13)
        assert not secrets.found_in(shown.encode())
    remove_tree(other.folder)


@pytest.mark.parametrize("member", ["signing_seed", "vault_secret"])
def test_a_damaged_credential_is_not_quoted(donjon: Donjon, source: Path, member: str) -> None:
    (path,) = (donjon.home / "writers").iterdir()
    secrets = Secrets()
    secrets.add_file(path)
    members = json.loads(path.read_text())
    value = members[member]
    for damaged in (value[:-3], "!" + value[1:], value + "AAAA"):
        path.write_text(json.dumps(members | {member: damaged}))
        shown = _fails(donjon, "backup", source, code=13)
        assert not secrets.found_in(shown.encode())
        assert damaged[5:] not in shown


@pytest.mark.parametrize(
    "address",
    [
        "https://acme.blob.core.windows.net/c?sv=1&sig={}",
        "azure://acme/c?sv=1&sig={}",
        "sftp://user:{}@127.0.0.1/srv",
        "s3://AKIDEXAMPLE:{}@bucket",
        "s3://bucket/?endpoint=http://user:{}@127.0.0.1",
        "s3://bucket/?aws_secret_access_key={}",
        "gs://bucket/?X-Goog-Signature={}",
        "ftp://user:{}@host/",
    ],
)
@pytest.mark.parametrize("command", ["points", "init"])
def test_a_secret_in_an_address_is_refused_and_not_repeated(
    host: Donjon, address: str, command: str, tmp_path: Path
) -> None:
    planted = "plantedplanted" + random.token_hex(8)
    url = address.format(planted)
    words = ["points", "--vault", url] if command == "points" else ["init", url, "--kit", tmp_path / "k.kit"]
    environment = host.environment() | _DEBUG
    done = subprocess.run([host.program, *words], env=environment, capture_output=True, check=False)
    assert done.returncode == 2, done.stderr
    assert planted.encode() not in done.stdout + done.stderr


def test_a_store_that_cannot_be_reached_is_told_without_the_credential(host: Donjon, tmp_path: Path) -> None:
    port = free_port()
    account_key = "cGxhbnRlZHBsYW50ZWRwbGFudGVk"
    planted = {
        "AWS_ACCESS_KEY_ID": "AKIDPLANTEDPLANTED",
        "AWS_SECRET_ACCESS_KEY": "planted/secret+key/" + random.token_hex(12),
        "AWS_SESSION_TOKEN": "planted-session-" + random.token_hex(12),
        "AZURE_STORAGE_CONNECTION_STRING": "DefaultEndpointsProtocol=http;AccountName=acme;"
        f"AccountKey={account_key};BlobEndpoint=http://127.0.0.1:{port}/acme;",
    }
    secrets = secrets_of(host.home, [], planted)
    secrets.add(account_key.encode())
    environment = host.environment() | planted | _inside(tmp_path, _IMPATIENT)
    addresses = f"s3://bucket/?endpoint=http://127.0.0.1:{port}", "azure://acme/container"
    running = [
        subprocess.Popen(
            [host.program, "points", "--vault", address],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for address in addresses
    ]  # fmt: skip
    try:
        shown = [process.communicate(timeout=host.timeout_s) for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [1, 1]
    assert all(b"Traceback" in errors for _, errors in shown)
    assert not secrets.found_in(*(text for pair in shown for text in pair))


@pytest.mark.parametrize(
    "connection",
    ["AccountKey=plantedplanted", "AccountName=a;AccountKey=plantedplanted;nonsense", "plantedplanted;;;"],
)
def test_a_malformed_connection_string_is_not_quoted(host: Donjon, connection: str) -> None:
    environment = {"AZURE_STORAGE_CONNECTION_STRING": connection}
    text = _fails(host, "points", "--vault", "azure://acme/container", code=2, **environment)
    assert "plantedplanted" not in text


def test_a_bug_shows_where_it_is_and_no_key(donjon: Donjon, source: Path, tmp_path: Path) -> None:
    donjon.run("backup", source)
    inside = _inside(tmp_path, _BUG)
    for words in (["restore", "latest", tmp_path / "out"], ["keys", "check"], ["points", "--json"]):
        done = donjon.run(*words, code=1, environment=inside)
        text = done.stderr.decode()
        assert "RuntimeError" in text
        assert "report" in text
        assert "abcdefgh0123" not in text
        assert "sig=***&x=1" in text
