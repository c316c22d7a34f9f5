"""A vault in a bucket, from `init` to `restore`, by the real command against a real server."""

from __future__ import annotations

import os
import random
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from donjon.testing.aws.s3_attack import DESTROYING, destroy, hide, losses, overwrite, take_stock
from donjon.testing.aws.seaweedfs import SeaweedFs, seaweedfs
from donjon.testing.trees import compare_trees
from tests.integration.cli import Donjon, end
from tests.integration.engine import change, fill


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    fill(folder, 60, 1, size_bytes=50_000)
    return folder


def _init(host: Donjon, url: str, *options: str, code: int = 0) -> bytes:
    return host.run(
        "init", "--single-recipient", url, "--kit", host.kit, "--lock", "30d", *options, code=code
    ).stderr


def _assert_restores(host: Donjon, source: Path) -> None:
    target = host.folder / "restored"
    host.run("restore", f"latest:{source}", target)
    assert compare_trees(os.fsencode(source), os.fsencode(target)) == []
    shutil.rmtree(target)


def _keys(server: SeaweedFs, bucket: str) -> list[dict[str, Any]]:
    return list(server.client().list_object_versions(Bucket=bucket).get("Versions", ()))


def test_a_vault_in_a_bucket_that_init_makes(host: Donjon, s3_server: SeaweedFs, source: Path) -> None:
    _init(host, "s3://made-by-init/prod", "--endpoint", s3_server.endpoint, "--create")
    host.run("backup", source)
    change(source, 2)
    host.run("backup", source)
    assert len(host.json("points")["points"]) == 2
    assert host.json("verify", "--data", "100")["ok"]
    _assert_restores(host, source)
    client = s3_server.client()
    default = client.get_object_lock_configuration(Bucket="made-by-init")["ObjectLockConfiguration"]
    assert default["Rule"]["DefaultRetention"] == {"Mode": "COMPLIANCE", "Days": 30}
    client.put_object(Bucket="made-by-init", Key="prod/of-others", Body=b"x")  # the default locks it
    for key in _keys(s3_server, "made-by-init"):
        head = client.head_object(Bucket="made-by-init", Key=key["Key"])
        assert key["Key"].startswith("prod/")
        assert head["ObjectLockMode"] == "COMPLIANCE"
        assert head["ObjectLockRetainUntilDate"].timestamp() > time.time() + 29 * 86_400


def test_two_vaults_share_a_bucket_and_an_endpoint_from_the_environment(
    host: Donjon, s3_server: SeaweedFs, source: Path
) -> None:
    usual = {"AWS_ENDPOINT_URL_S3": s3_server.endpoint}
    for number in (1, 2):
        kit = host.folder / f"{number}.kit"
        host.run(
            "init",
            "--single-recipient",
            f"s3://shared-bucket/v{number}",
            "--kit",
            kit,
            "--create",
            environment=usual,
        )
    host.run("backup", source, "--vault", "v1")  # the endpoint is remembered with the vault
    assert len(host.json("points", "--vault", "v1", "--kit", host.folder / "1.kit")["points"]) == 1
    assert host.json("points", "--vault", "v2", "--kit", host.folder / "2.kit")["points"] == []


# --- what init refuses ------------------------------------------------------------------------------


def test_a_missing_bucket_is_refused_with_the_command_that_makes_it(
    host: Donjon, s3_server: SeaweedFs
) -> None:
    errors = _init(host, s3_server.url("not-there"), code=1).decode()
    assert "there is no such bucket" in errors
    assert "aws s3api create-bucket --bucket not-there --object-lock-enabled-for-bucket" in errors
    assert "--create" in errors
    assert not host.kit.exists()


def test_a_bucket_without_versions_and_locks_is_refused_until_it_is_mended(
    host: Donjon, s3_server: SeaweedFs
) -> None:
    bucket = s3_server.make_bucket(locks=False)
    errors = _init(host, s3_server.url(bucket), code=1).decode()
    assert "versioning is off" in errors
    assert "Object Lock is off" in errors
    assert "put-bucket-versioning" in errors
    assert "put-object-lock-configuration" in errors
    assert f"--endpoint-url {s3_server.endpoint}" in errors
    assert not host.kit.exists()
    assert _keys(s3_server, bucket) == []
    _init(host, s3_server.url(bucket), "--create")


@pytest.mark.parametrize("mode", [None, "GOVERNANCE"])
def test_weak_defaults_are_taken_only_when_asked_for(
    host: Donjon, s3_server: SeaweedFs, source: Path, mode: str | None
) -> None:
    bucket = s3_server.make_bucket()
    if mode:
        rule = {"DefaultRetention": {"Mode": mode, "Days": 1}}
        s3_server.client().put_object_lock_configuration(
            Bucket=bucket, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
        )
    errors = _init(host, s3_server.url(bucket), code=1).decode()
    assert (mode or "no default retention") in errors
    assert "--allow-weak-locks" in errors
    made = host.json(
        "init",
        "--single-recipient",
        s3_server.url(bucket),
        "--kit",
        host.kit,
        "--lock",
        "30d",
        "--allow-weak-locks",
    )
    host.run("backup", source)
    enforcement = "governance" if mode else "provider"
    assert made["lock_enforcement"] == enforcement
    assert host.json("points")["lock_enforcement"] == enforcement
    assert host.json("stats")["lock_enforcement"] == enforcement
    assert (b"can be lifted" in host.run("points").stdout) is bool(mode)
    assert (b"can be lifted" in host.run("stats").stdout) is bool(mode)
    for key in _keys(s3_server, bucket):  # what Donjon locks itself is not weak
        if not key["Key"].startswith(("keyring", "vault")):
            head = s3_server.client().head_object(Bucket=bucket, Key=key["Key"])
            assert head["ObjectLockMode"] == "COMPLIANCE"


def test_a_default_that_locks_for_longer_than_the_vault_is_no_fault(
    host: Donjon, s3_server: SeaweedFs, source: Path
) -> None:
    bucket = s3_server.make_bucket()
    rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 90}}
    s3_server.client().put_object_lock_configuration(
        Bucket=bucket, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
    )
    _init(host, s3_server.url(bucket))
    host.run("backup", source)
    assert host.json("verify", "--data", "100")["ok"]


def test_wrong_keys_end_with_11(host: Donjon, s3_server: SeaweedFs) -> None:
    url = s3_server.url(s3_server.make_bucket())
    wrong = {"AWS_SECRET_ACCESS_KEY": "wrong"}
    done = host.run("init", "--single-recipient", url, "--kit", host.kit, environment=wrong, code=11)
    assert b"donjon: " in done.stderr
    none = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    done = host.run("init", "--single-recipient", url, "--kit", host.kit, environment=none, code=11)
    assert b"credentials" in done.stderr


# --- the attacker with every permission -------------------------------------------------------------


def test_the_administrator_can_not_destroy_a_vault(host: Donjon, s3_server: SeaweedFs, source: Path) -> None:
    bucket = s3_server.make_bucket()
    _init(host, s3_server.url(bucket), "--create")
    host.run("backup", source)
    client = s3_server.client()
    before = take_stock(client, bucket)
    assert len(before) >= 6
    assert {held.mode for held in before.values()} == {"COMPLIANCE"}
    tried = list(destroy(client, bucket, before))
    assert [trial.attack.name for trial in tried] == list(DESTROYING)
    assert [trial.attack.name for trial in tried if trial.row().seen != "refused"] == []
    assert take_stock(client, bucket) == before
    assert host.json("verify", "--data", "100")["ok"]
    _assert_restores(host, source)


def test_an_attack_on_a_bucket_without_locks_is_seen_to_destroy(s3_server: SeaweedFs) -> None:
    bucket = s3_server.make_bucket()
    client = s3_server.client()
    for name in ("a", "b"):
        client.put_object(Bucket=bucket, Key=name, Body=b"not locked")
    before = take_stock(client, bucket)
    trial = next(destroy(client, bucket, before))
    assert [answer.accepted for answer in trial.answers] == [True, True]
    assert losses(before, take_stock(client, bucket)) == ["a: is gone", "b: is gone"]


def test_hiding_and_overwriting_everything_destroys_nothing_and_is_told(
    host: Donjon, s3_server: SeaweedFs, source: Path
) -> None:
    bucket = s3_server.make_bucket()
    _init(host, s3_server.url(bucket), "--create")
    host.run("backup", source)
    client = s3_server.client()
    names = [key["Key"] for key in _keys(s3_server, bucket)]
    hidden = [name for number, name in enumerate(names) if number % 3 != 1]
    for trial, objects in (
        (overwrite(client, bucket, names[1::2]), names[1::2]),
        (hide(client, bucket, hidden), hidden),
    ):
        assert [answer.accepted for answer in trial.answers] == [True] * len(objects)
    shutil.rmtree(host.home / "cache")  # as on a machine that has never seen the vault
    _assert_restores(host, source)
    report = host.json("verify", "--data", "100", code=12)
    kinds = {(problem["kind"], problem["object"]) for problem in report["problems"]}
    assert {name for kind, name in kinds if kind == "hidden"} == set(hidden)
    assert {name for kind, name in kinds if kind == "suspicious"} == set(names[1::2])
    assert {kind for kind, _ in kinds} == {"hidden", "suspicious"}
    change(source, 3)
    host.run("backup", source)
    _assert_restores(host, source)


# --- the server dies --------------------------------------------------------------------------------


def test_the_server_may_be_killed_during_a_backup(host: Donjon, tmp_path: Path) -> None:
    """The backup waits for it, or ends with an error; nothing committed is lost, and the next one goes on."""
    folder = tmp_path / "server"
    folder.mkdir()
    source = tmp_path / "big"
    source.mkdir()
    randomness = random.Random(5)
    for number in range(24):
        (source / f"f{number}").write_bytes(randomness.randbytes(6_000_000))
    small = tmp_path / "small"
    fill(small, 20, 3)
    with seaweedfs(folder) as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        _init(host, server.url("killed-bucket"), "--create")
        host.run("backup", small)
        process = host.start("backup", source)
        try:
            _wait_for_pack(server, "killed-bucket")
            server.kill()
        finally:
            end(process)
        server.start()
        assert host.json("verify", "--data", "100")["ok"]
        host.run("backup", source)
        assert host.json("verify", "--data", "100")["ok"]
        _assert_restores(host, source)


def _wait_for_pack(server: SeaweedFs, bucket: str) -> None:
    """Until the backup has put more than the small one before it."""
    before = len(_keys(server, bucket))
    deadline = time.monotonic() + 60
    while len(_keys(server, bucket)) < before + 2 and time.monotonic() < deadline:
        time.sleep(0.01)
