"""Each role with the policy that is rendered, and nothing else, against a server that enforces it."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from donjon.core.errors import PermissionMissing
from donjon.stores.s3 import S3Store
from donjon.stores.s3.address import S3Address
from donjon.stores.s3.client import S3Client
from donjon.testing.aws.people import User
from donjon.testing.aws.seaweedfs import SeaweedFs
from donjon.testing.trees import compare_trees
from tests.integration.cli import Donjon
from tests.integration.engine import change, fill
from tests.integration.s3_roles import PREFIX, As, Roles


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    fill(folder, 40, 1, size_bytes=30_000)
    return folder


@pytest.fixture
def roles(s3_server: SeaweedFs, host: Donjon) -> Roles:
    return Roles.make(s3_server, host)


def _assert_restores(reader: As, roles: Roles, source: Path) -> None:
    target = reader.folder / "restored"
    reader.run("restore", f"latest:{source}", target, "--vault", roles.url)
    assert compare_trees(os.fsencode(source), os.fsencode(target)) == []
    shutil.rmtree(target)


# --- what each role is for works --------------------------------------------------------------------


def test_a_writer_backs_up_and_a_reader_restores(roles: Roles, source: Path) -> None:
    writer, reader = roles.writer("web1"), roles.reader()
    writer.run("backup", source)
    change(source, 2)
    writer.run("backup", source)
    _assert_restores(reader, roles, source)
    assert reader.json("verify", "--data", "100", "--vault", roles.url)["ok"]
    shutil.rmtree(writer.home / "cache")  # then it finds its own by their names, without listing
    change(source, 3)
    writer.run("backup", source)
    _assert_restores(reader, roles, source)
    assert reader.json("points", "--vault", roles.url)["points"][-1]["locked_until"]


def test_two_writers_with_policies_of_their_own(roles: Roles, source: Path) -> None:
    for name in ("web1", "web2"):
        roles.writer(name).run("backup", source)
    reader = roles.reader()
    assert len(reader.json("points", "--vault", roles.url)["points"]) == 2
    assert reader.json("verify", "--data", "100", "--vault", roles.url)["ok"]


def test_a_custodian_signs_without_a_kit(roles: Roles, source: Path) -> None:
    roles.writer("web1").run("backup", source)
    file = roles.admin.folder / "safe.custodian"
    roles.admin.run("custodian", "add", "safe", "--out", file)
    folder = roles.admin.folder / "custodian"
    folder.mkdir()
    custodian = As(folder, has_kit=False, user=roles.user("custodian"))
    published = folder / "checkpoint"
    done = custodian.json("custody", "checkpoint", "--credential", file, "--to", published)
    assert done["points"] == 1
    assert roles.reader().json("verify", "--witness", published, "--vault", roles.url)["ok"]


# --- and nothing else -------------------------------------------------------------------------------


@dataclass
class Thief:
    """Somebody who took the credential of a role, and uses it without Donjon."""

    client: Any
    bucket: str
    locked: str
    locked_version: str
    free: str
    free_version: str

    @classmethod
    def make(cls, roles: Roles, user: User) -> Thief:
        admin, until = roles.server.client(), _later(hours=1)
        locked, free = (f"{PREFIX}/packs/{secrets.token_hex(4)}" for _ in range(2))
        put = {"Bucket": roles.bucket, "Body": b"a pack"}
        lock = {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": until}
        first = admin.put_object(Key=locked, **put, **lock)
        # The default retention of the bucket locks whatever comes without a lock of its own.
        admin.put_object_lock_configuration(
            Bucket=roles.bucket, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled"}
        )
        second = admin.put_object(Key=free, **put)
        thief = roles.server.client(user.access_key, user.secret_key)
        return cls(thief, roles.bucket, locked, first["VersionId"], free, second["VersionId"])

    def ways(self) -> dict[str, Callable[[], Any]]:
        """All that a thief may want to do."""
        client, bucket = self.client, {"Bucket": self.bucket}
        locked = {**bucket, "Key": self.locked, "VersionId": self.locked_version}
        free = {**bucket, "Key": self.free, "VersionId": self.free_version}
        longer = {"Mode": "COMPLIANCE", "RetainUntilDate": _later(hours=2)}
        shorter = {"Mode": "COMPLIANCE", "RetainUntilDate": _later(minutes=5)}
        weaker = {"Mode": "GOVERNANCE", "RetainUntilDate": _later(hours=1)}
        bypass = {"BypassGovernanceRetention": True}
        pairs = [{"Key": where["Key"], "VersionId": where["VersionId"]} for where in (locked, free)]
        return {
            "list": lambda: client.list_objects_v2(**bucket),
            "list versions": lambda: client.list_object_versions(**bucket, Prefix=f"{PREFIX}/"),
            "list versions outside": lambda: client.list_object_versions(**bucket),
            "read a pack": lambda: client.get_object(**bucket, Key=self.free),
            "read a version": lambda: client.get_object(**locked),
            "put a pack": lambda: client.put_object(**bucket, Key=f"{PREFIX}/packs/new", Body=b"x"),
            "put a keyring": lambda: client.put_object(**bucket, Key=f"{PREFIX}/keyring/9", Body=b"x"),
            "put for another writer": lambda: client.put_object(
                **bucket, Key=f"{PREFIX}/manifests/{'0' * 32}/00000001", Body=b"x"
            ),
            "put outside": lambda: client.put_object(**bucket, Key="other/one", Body=b"x"),
            "hide": lambda: client.delete_object(**bucket, Key=self.locked),
            "delete what is locked": lambda: client.delete_object(**locked),
            "delete what is locked, with the bypass": lambda: client.delete_object(**locked, **bypass),
            "delete what is free": lambda: client.delete_object(**free),
            "delete a batch": lambda: client.delete_objects(**bucket, Delete={"Objects": pairs[:1]}),
            "extend": lambda: client.put_object_retention(**locked, Retention=longer),
            "shorten": lambda: client.put_object_retention(**locked, Retention=shorter, **bypass),
            "weaken": lambda: client.put_object_retention(**locked, Retention=weaker, **bypass),
            "hold": lambda: client.put_object_legal_hold(**locked, LegalHold={"Status": "ON"}),
            "set the default": lambda: client.put_object_lock_configuration(
                **bucket, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled"}
            ),
            "suspend versions": lambda: client.put_bucket_versioning(
                **bucket, VersioningConfiguration={"Status": "Suspended"}
            ),
            "set the policy": lambda: client.put_bucket_policy(**bucket, Policy="{}"),
            "expire all": lambda: client.put_bucket_lifecycle_configuration(
                **bucket,
                LifecycleConfiguration={
                    "Rules": [{"ID": "x", "Status": "Enabled", "Prefix": "", "Expiration": {"Days": 1}}]
                },
            ),
            "delete the bucket": lambda: client.delete_bucket(**bucket),
        }

    def succeeds_at(self) -> set[str]:
        """What the server let the thief do."""
        return {name for name, way in self.ways().items() if _is_done(way)}


def _later(**span: int) -> datetime:
    return datetime.now(UTC) + timedelta(**span)


def _is_done(way: Callable[[], Any]) -> bool:
    try:
        answer = way()
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] not in {400, 403, 409}:
            raise
        return False
    return not answer.get("Errors")


READS = {"list versions", "read a version"}


@pytest.mark.parametrize(
    ("role", "allowed"),
    [
        # S3 has one permission for a put that names its lock and for extending one.
        ("writer", {"put a pack", "extend"}),
        ("reader", READS),
        ("custodian", READS | {"extend"}),
        ("reaper", READS | {"delete what is free"}),
        ("auditor", READS),
    ],
)
def test_a_stolen_credential_can_do_what_its_role_is_for_and_nothing_else(
    roles: Roles, role: str, allowed: set[str]
) -> None:
    thief = Thief.make(roles, roles.user(role, "ab" * 16))
    assert thief.succeeds_at() == allowed


def test_refusals_name_the_permission_that_is_missing(roles: Roles) -> None:
    thief = Thief.make(roles, roles.user("writer", "ab" * 16))
    store = S3Store(roles.url, S3Client(S3Address.parse(roles.url), thief.client))
    ways: dict[str, Callable[[], object]] = {
        "s3:ListBucketVersions": lambda: list(store.list()),
        "s3:GetBucketObjectLockConfiguration": lambda: store.lock_enforcement,
        "s3:PutObject": lambda: store.put("keyring/00000009", b"x"),
        "s3:ListBucket": lambda: store.check_bucket(0),
    }
    for permission, way in ways.items():
        with pytest.raises(PermissionMissing, match=permission):
            way()
    reader = S3Store(roles.url, S3Client(S3Address.parse(roles.url), _client(roles, "reader")))
    name = thief.free.removeprefix(f"{PREFIX}/")
    with pytest.raises(PermissionMissing, match="s3:DeleteObjectVersion"):
        reader.delete_expired(name, version=thief.free_version)
    with pytest.raises(PermissionMissing, match="s3:PutObjectRetention"):
        reader.extend(name, reader.now() + 3600, version=thief.free_version)


def _client(roles: Roles, role: str) -> Any:
    user = roles.user(role)
    return roles.server.client(user.access_key, user.secret_key)


@pytest.mark.parametrize(
    ("hidden", "code", "said"),
    [
        ("vault", 10, "there is no vault here"),
        ("keyring/", 12, "Somebody hides a change"),
        ("manifests/", 0, "somebody deleted or hid a recovery point"),
        ("packs/", 0, ""),
    ],
)
def test_delete_markers_cost_a_writer_nothing_that_is_stored(
    roles: Roles, source: Path, hidden: str, code: int, said: str
) -> None:
    """A writer may not list, so it cannot look below the markers. A reader can."""
    writer, reader = roles.writer("web1"), roles.reader()
    writer.run("backup", source)
    admin = roles.server.client()
    versions = admin.list_object_versions(Bucket=roles.bucket)["Versions"]
    keys = {v["Key"] for v in versions if v["Key"].startswith(f"{PREFIX}/{hidden}")}
    markers = {key: admin.delete_object(Bucket=roles.bucket, Key=key)["VersionId"] for key in keys}
    _assert_restores(reader, roles, source)
    change(source, 2)
    assert said in writer.run("backup", source, code=code).stderr.decode()
    for key, marker in markers.items():
        admin.delete_object(Bucket=roles.bucket, Key=key, VersionId=marker)
    writer.run("backup", source)
    _assert_restores(reader, roles, source)
