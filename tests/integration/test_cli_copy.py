"""`donjon copy` as an operator uses it: to a disk, to another machine, to a bucket, and back."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from donjon.testing.aws.seaweedfs import SeaweedFs
from donjon.testing.folders import remove_tree
from donjon.testing.servers.sshd import SshServer, ssh_server
from donjon.testing.trees import compare_trees
from tests.integration.cli import Donjon, end
from tests.integration.engine import change, fill


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    fill(folder, 60, 1, size_bytes=50_000)
    return folder


@pytest.fixture
def copier(tmp_path: Path) -> Iterator[Donjon]:
    """A machine that has no key and knows no vault."""
    made = Donjon(tmp_path / "copier", has_kit=False)
    made.folder.mkdir()
    yield made
    remove_tree(made.folder)


@pytest.fixture
def sftp_server(tmp_path: Path) -> Iterator[SshServer]:
    folder = tmp_path / "sshd"
    folder.mkdir()
    with ssh_server(folder) as server:
        yield server


def _copy(
    copier: Donjon, host: Donjon, to: str | Path, *options: str | Path, code: int = 0
) -> dict[str, Any]:
    return copier.json("copy", "--vault", host.vault, "--to", to, *options, code=code)


def _assert_restores(host: Donjon, vault: str | Path, source: Path) -> None:
    """From the copy alone, on a machine that has nothing but the kit."""
    stranger = Donjon(host.folder / "stranger")
    shutil.rmtree(stranger.folder, ignore_errors=True)
    stranger.folder.mkdir()
    shutil.copy(host.kit, stranger.kit)
    there = ("--vault", vault)
    assert stranger.json("verify", *there, "--data", "100")["ok"]
    stranger.run("restore", *there, f"latest:{source}", stranger.folder / "restored")
    assert compare_trees(os.fsencode(source), os.fsencode(stranger.folder / "restored")) == []


def _files(folder: Path) -> dict[str, bytes]:
    """The objects in the folder of a vault."""
    found = [path for path in folder.rglob("*") if path.is_file() and ".tmp" not in path.parts]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def _newest_pack(vault: Path) -> Path:
    return max(
        (path for path in (vault / "packs").rglob("*") if path.is_file()), key=lambda p: p.stat().st_size
    )


# --- to a folder ----------------------------------------------------------------------------------


def test_a_copy_in_a_folder_is_made_without_any_key_and_opens_with_the_kit(
    host: Donjon, copier: Donjon, source: Path
) -> None:
    host.init(lock="7d")
    host.run("backup", source)
    change(source, 2)
    host.run("backup", source)
    to = copier.folder / "deep" / "copy"
    would = _copy(copier, host, to, "--dry-run")
    assert not to.parent.exists()
    made = _copy(copier, host, to)
    same = ("objects", "packs", "bytes", "points", "skipped", "lock_s", "problems", "vault_id")
    assert [would[key] for key in same] == [made[key] for key in same]
    assert (made["points"], made["skipped"], made["problems"]) == (2, 0, [])
    assert (made["lock_s"], made["url"]) == (7 * 86_400, to.as_uri())
    assert _files(to) == _files(host.vault)
    assert made["bytes"] == sum(map(len, _files(to).values()))
    ends = {int(os.getxattr(to / name, "user.donjon.retain_until")) for name in _files(to)}
    assert len(ends) == 1
    assert min(ends) >= time.time() + 7 * 86_400 - 60
    _assert_restores(host, to, source)

    again = _copy(copier, host, to)
    assert (again["objects"], again["skipped"]) == (0, made["objects"])
    change(source, 3)
    host.run("backup", source)
    text = copier.text("copy", "--vault", host.vault, "--to", to, "--lock", "30d")
    assert "Copied 1 points, " in text
    assert "enforcement: " in text
    _assert_restores(host, to, source)
    ids = [[row["id"] for row in host.json("points", "--vault", v)["points"]] for v in (host.vault, to)]
    assert ids[0] == ids[1]
    copy_of_copy = copier.folder / "third"
    copier.run("copy", "--vault", to, "--to", copy_of_copy)
    assert _files(copy_of_copy) == _files(host.vault)


def test_checkpoints_keep_the_times_in_the_copy_and_make_it_a_witness(
    host: Donjon, copier: Donjon, source: Path
) -> None:
    host.init()
    host.run("backup", source)
    to = copier.folder / "copy"
    assert _copy(copier, host, to, "--dry-run")["notes"] == []  # within a day it needs no checkpoint
    credential = host.folder / "safe.custodian"
    host.run("custodian", "add", "safe", "--out", credential)
    host.run("custody", "checkpoint", "--credential", credential)
    for path in (host.vault / "manifests").glob("*/*"):
        os.utime(path, (path.stat().st_mtime + 5,) * 2)  # as if the vault itself had been moved since
    made = _copy(copier, host, to)
    assert made["notes"] == []
    times = [host.json("points", "--vault", v)["points"][0]["time"] for v in (host.vault, to)]
    assert times[0] == times[1]
    assert host.json("verify", "--witness", to)["ok"]
    assert copier.json("verify", "--vault", to, "--witness", host.vault)["ok"]
    change(source, 2)
    host.run("backup", source)
    host.run("custody", "checkpoint", "--credential", credential)
    (problem, *_) = copier.json("verify", "--vault", to, "--witness", host.vault, code=12)["problems"]
    assert problem["kind"] == "rolled back"  # it lags
    _copy(copier, host, to)
    shutil.rmtree(host.vault / "checkpoints")
    max((host.vault / "manifests").glob("*/*")).unlink()
    kinds = {
        row["kind"]
        for row in copier.json("verify", "--vault", host.vault, "--witness", to, code=12)["problems"]
    }
    assert "rolled back" in kinds


def test_a_host_goes_on_with_the_copy_when_the_vault_is_lost(
    donjon: Donjon, copier: Donjon, source: Path
) -> None:
    donjon.run("backup", source)
    to = copier.folder / "copy"
    _copy(copier, donjon, to)
    change(source, 2)
    donjon.run("backup", source)  # which the copy lacks, and the cache knows
    shutil.rmtree(donjon.vault)
    (known,) = (donjon.home / "vaults").glob("*.json")
    known.write_text(known.read_text().replace(donjon.vault.as_uri(), to.as_uri()))
    shutil.rmtree(donjon.home / "cache")
    donjon.run("backup", source)
    assert len(donjon.json("points")["points"]) == 2
    _assert_restores(donjon, to, source)


def test_a_killed_copy_is_whole_and_goes_on(donjon: Donjon, copier: Donjon, tmp_path: Path) -> None:
    for number in range(4):
        fill(tmp_path / f"s{number}", 10, number, size_bytes=6_000_000)
        donjon.run("backup", tmp_path / f"s{number}")
    to = copier.folder / "copy"
    left = 0
    for wanted in (1, 5, 9, 13, 17):
        process = copier.start("copy", "--vault", donjon.vault, "--to", to)
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if to.exists() and len(_files(to)) >= wanted:
                break
        end(process)
        if (to / "vault").exists():
            left += not (to / "manifests").exists() or len(_files(to)) < len(_files(donjon.vault))
            assert copier.json("verify", "--vault", to)["ok"]
    assert left
    made = _copy(copier, donjon, to)
    assert made["problems"] == []
    assert _files(to) == _files(donjon.vault)
    _assert_restores(donjon, to, tmp_path / "s3")


def test_damage_and_forks_end_with_12_and_are_named(donjon: Donjon, copier: Donjon, source: Path) -> None:
    donjon.run("backup", source)
    to = copier.folder / "copy"
    pack = _newest_pack(donjon.vault)
    good = pack.read_bytes()
    pack.write_bytes(b"x" + good[1:])
    (problem,) = _copy(copier, donjon, to, code=12)["problems"]
    (point,) = donjon.json("points")["points"]
    name = str(pack.relative_to(donjon.vault))
    assert (problem["kind"], problem["object"], problem["affects"]) == ("damaged", name, [point["id"]])
    text = copier.text("copy", "--vault", donjon.vault, "--to", to, code=12)
    assert name in text
    assert point["id"][:12] in text
    assert not (to / name).exists()
    pack.write_bytes(good)
    assert _copy(copier, donjon, to)["problems"] == []
    _assert_restores(donjon, to, source)

    session = next((to / "sessions").glob("*/*"))
    session.write_bytes(session.read_bytes()[:-1] + b"?")
    (problem,) = _copy(copier, donjon, to, code=12)["problems"]
    assert problem["kind"] == "forked"
    assert problem["object"] == f"{to.as_uri()}: {session.relative_to(to)}"


# --- to a bucket and back -------------------------------------------------------------------------


def test_a_copy_in_a_bucket_is_locked_by_the_provider_and_comes_back_from_under_markers(
    donjon: Donjon, copier: Donjon, source: Path, s3_server: SeaweedFs
) -> None:
    donjon.run("backup", source)
    donjon.run("backup", source, "--workload", "again")
    bucket = f"copy-{os.urandom(4).hex()}"
    to = s3_server.url(bucket, "prod")
    errors = copier.run("copy", "--vault", donjon.vault, "--to", to, code=1).stderr
    assert b"there is no such bucket" in errors
    lock = ("--lock", "30d")
    made = _copy(copier, donjon, f"s3://{bucket}/prod", "--endpoint", s3_server.endpoint, "--create", *lock)
    assert (made["points"], made["lock_s"], made["lock_enforcement"]) == (2, 30 * 86_400, "provider")
    _assert_restores(donjon, to, source)
    assert _copy(copier, donjon, to, *lock)["objects"] == 0

    client = s3_server.client()
    versions = client.list_object_versions(Bucket=bucket)["Versions"]
    assert len(versions) == made["objects"]
    for number, version in enumerate(versions):
        key = version["Key"]
        head = client.head_object(Bucket=bucket, Key=key)
        assert head["ObjectLockMode"] == "COMPLIANCE"
        assert head["ObjectLockRetainUntilDate"].timestamp() > time.time() + 29 * 86_400
        with pytest.raises(client.exceptions.ClientError):
            client.delete_object(
                Bucket=bucket, Key=key, VersionId=version["VersionId"], BypassGovernanceRetention=True
            )
        if number % 2:
            client.put_object(Bucket=bucket, Key=key, Body=b"garbage")
        client.delete_object(Bucket=bucket, Key=key)
    back = copier.folder / "back"
    returned = copier.json("copy", "--vault", to, "--to", back)
    assert (returned["points"], returned["problems"]) == (2, [])
    assert _files(back) == _files(donjon.vault)
    _assert_restores(donjon, back, source)


def test_an_unfit_bucket_is_refused_and_wrong_keys_end_with_11(
    donjon: Donjon, copier: Donjon, s3_server: SeaweedFs
) -> None:
    to = s3_server.url(s3_server.make_bucket(locks=False))
    errors = copier.run("copy", "--vault", donjon.vault, "--to", to, "--lock", "7d", code=1).stderr.decode()
    assert "versioning is off" in errors
    assert "put-bucket-versioning" in errors
    weak = s3_server.url(s3_server.make_bucket())
    copy = ("copy", "--vault", donjon.vault, "--to", weak, "--lock", "7d")
    assert b"--allow-weak-locks" in copier.run(*copy, code=1).stderr
    copier.run(*copy, code=11, environment={"AWS_SECRET_ACCESS_KEY": "wrong"})
    copier.run(*copy, "--allow-weak-locks")


# --- to another machine ---------------------------------------------------------------------------


def test_a_copy_on_an_ssh_server_has_no_locks_and_says_so(
    host: Donjon, copier: Donjon, source: Path, sftp_server: SshServer
) -> None:
    host.init(lock="7d")
    host.run("backup", source)
    folder = copier.folder / "remote"
    to = sftp_server.url(folder)
    (copier.folder / ".ssh").mkdir()
    shutil.copy(sftp_server.known_hosts, copier.folder / ".ssh" / "known_hosts")
    variables = {"DONJON_SFTP_IDENTITY": str(sftp_server.identity)}
    command = ("copy", "--vault", host.vault, "--to", to)
    assert b"cannot hold locks" in copier.run(*command, "--lock", "30d", code=2, environment=variables).stderr
    assert b"locks  none" in copier.run(*command, environment=variables).stdout
    assert _files(folder) == _files(host.vault)
    assert b"Copied 0 points" in copier.run(*command, environment=variables).stdout
    _assert_restores(host, folder, source)


# --- bad input ------------------------------------------------------------------------------------


def test_bad_input(host: Donjon, copier: Donjon, source: Path, tmp_path: Path) -> None:
    host.init(lock="30d")
    host.run("backup", source)
    copy = ("copy", "--vault", host.vault)
    assert b"--to" in copier.run(*copy, code=2).stderr
    for place in (host.vault, host.vault / "inside", host.folder, host.vault.as_uri() + "/"):
        assert b"is the vault itself" in copier.run(*copy, "--to", place, code=2).stderr
    link = tmp_path / "link"
    link.symlink_to(host.vault)
    assert b"is the vault itself" in copier.run(*copy, "--to", link, code=2).stderr
    to = tmp_path / "to"
    assert b"shorter than" in copier.run(*copy, "--to", to, "--lock", "8d", code=2).stderr
    copier.run(*copy, "--to", to, "--lock", "soon", code=2)
    copier.run(*copy, "--to", to, "--endpoint", "http://127.0.0.1:1", code=2)
    copier.run(*copy, "--to", "gopher://there", code=2)
    copier.run("copy", "--to", to, code=2)  # from which vault?
    copier.run("copy", "--vault", tmp_path / "none", "--to", to, code=10)
    assert not to.exists()
    assert b"is not empty" in copier.run(*copy, "--to", source, code=1).stderr
    kit = tmp_path / "other.kit"
    host.run(
        "init",
        "--single-recipient",
        tmp_path / "other",
        "--kit",
        kit,
        "--lock",
        "none",
        "--no-writer",
        "--name",
        "other",
    )
    before = _files(tmp_path / "other")
    assert b"holds another vault" in copier.run(*copy, "--to", tmp_path / "other", code=1).stderr
    assert _files(tmp_path / "other") == before
