"""What is refused in the vault's account on AWS: to strangers, to each role, and to its administrator."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from botocore.exceptions import ClientError

from donjon.roles.model import ROLES, Role
from donjon.testing.aws.ministack import PRODUCTION
from tests.integration.every_action import try_everything
from tests.integration.role_stage_aws import (
    EXTERNAL_ID,
    AwsStage,
    aws_stage,
    refused,
    without_second_factor,
)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AwsStage]:
    """The account, with one writer's role, and nothing in the bucket yet."""
    with aws_stage(tmp_path_factory.mktemp("roles")) as made:
        made.enrolled("ab" * 16)
        yield made


# --- who becomes what -------------------------------------------------------------------------------


def test_only_production_with_the_external_id_becomes_a_writer(stage: AwsStage) -> None:
    production, operator = stage.caller("production"), stage.caller("operator")
    stage.assume("writer", production)
    for by, external_id in ((production, None), (production, "another-word"), (operator, EXTERNAL_ID)):
        assert refused(lambda: stage.assume("writer", by, external_id))  # noqa: B023 - called at once


@pytest.mark.parametrize("role", ["reader", "custodian", "reaper", "auditor"])
def test_production_becomes_nothing_but_a_writer(stage: AwsStage, role: str) -> None:
    assert refused(lambda: stage.assume(role, stage.caller("production")))


@pytest.mark.parametrize("role", ["reader", "reaper"])
def test_who_shows_no_second_factor_becomes_no_reader_and_no_reaper(stage: AwsStage, role: str) -> None:
    name = f"donjon-{role}"
    stage.assume(role)  # as the stage lets people in, for MiniStack knows no second factor
    stage.set_trust(name, stage.trust(name))
    try:
        assert refused(lambda: stage.assume(role))
    finally:
        stage.set_trust(name, without_second_factor(stage.trust(name)))


# --- and nothing else -------------------------------------------------------------------------------

#: What each role may do to an object that it did not put, as the operations of S3.
_READS = {"GetObjectRetention", "ListObjectVersions", "GetObjectLockConfiguration"}
#: MiniStack has no such call: it answers as PutObject does. With AWS it is for directory buckets only.
NOT_LIKE_AWS = {"RenameObject"}
#: Beginning an upload in parts takes s3:PutObject. What completes it is a put, under the same conditions.
_PUTS = {"PutObject", "CreateMultipartUpload"}
#: What takes a vault's protection away; all of it is tried by every role.
WEAKENING = {
    "DeleteBucket", "DeleteBucketPolicy", "PutBucketLifecycleConfiguration", "PutBucketPolicy",
    "PutBucketReplication", "PutBucketVersioning", "PutObjectLegalHold", "PutObjectLockConfiguration",
    "PutBucketLogging", "PutPublicAccessBlock", "PutBucketEncryption",
}  # fmt: skip
MAY = {
    "writer": {"PutObjectRetention"} | _PUTS,
    "reader": _READS,
    "custodian": _READS | {"PutObjectRetention"},
    "reaper": (_READS | {"DeleteObject"}) - {"GetObjectLockConfiguration"},
    "auditor": _READS,
}


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_every_other_action_of_s3_is_refused(stage: AwsStage, role: Role) -> None:
    client = stage.client(role.name)
    key = f"{stage.account.prefix}/packs/zz/{'0' * 64}"
    stage.put_as_root(key)
    tried = try_everything(client, {"Bucket": stage.account.bucket, "Key": key})
    done = {name for name, outcome in tried.items() if outcome == "done"}
    assert done <= MAY[role.name] | NOT_LIKE_AWS, tried
    denied = {name for name, outcome in tried.items() if outcome == "denied"}
    assert denied >= WEAKENING, WEAKENING - denied
    assert len(denied) > 60, tried


#: What each role may do with the key.
MAY_WITH_THE_KEY = {"writer": {"Encrypt"}, "reader": {"Decrypt"}}


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_every_other_action_of_kms_is_refused(stage: AwsStage, role: Role) -> None:
    client = stage.client(role.name, "kms")
    tried = try_everything(client, {"KeyId": stage.key})
    assert {name for name, outcome in tried.items() if outcome == "done"} <= MAY_WITH_THE_KEY.get(
        role.name, set()
    )
    sealed = stage.server.client("kms").encrypt(KeyId=stage.key, Plaintext=b"a session key")["CiphertextBlob"]
    assert refused(lambda: client.encrypt(KeyId=stage.key, Plaintext=b"x")) == (role.name != "writer")
    assert refused(lambda: client.decrypt(KeyId=stage.key, CiphertextBlob=sealed)) == (role.name != "reader")


def test_an_administrator_of_the_account_can_weaken_nothing(stage: AwsStage) -> None:
    """Somebody who may do everything, as far as policies of IAM go."""
    everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    user = stage.server.make_user({"Version": "2012-10-17", "Statement": [everything]})
    key = f"{stage.account.prefix}/packs/yy/{'1' * 64}"
    version = stage.put_as_root(key)
    place = {"Bucket": stage.account.bucket, "Key": key}
    tried = try_everything(stage.server.client("s3", user), place)
    denied = {name for name, outcome in tried.items() if outcome == "denied"}
    assert denied >= WEAKENING | {"DeleteObject", "DeleteObjects", "PutObject", "PutObjectRetention"}, tried
    s3 = stage.server.client("s3", user)
    assert refused(lambda: s3.delete_object(**place, VersionId=version))
    kms = stage.server.client("kms", user)
    tried = try_everything(kms, {"KeyId": stage.key})
    denied = {name for name, outcome in tried.items() if outcome == "denied"}
    assert denied >= {"CreateGrant", "DisableKey", "PutKeyPolicy", "ScheduleKeyDeletion", "Decrypt"}, tried


def test_production_s_administrator_reaches_nothing(stage: AwsStage) -> None:
    production = stage.server.root(PRODUCTION)
    place = {"Bucket": stage.account.bucket, "Key": f"{stage.account.prefix}/vault"}
    tried = try_everything(stage.server.client("s3", production), place)
    about_others = {"ListBuckets", "CreateBucket", "ListDirectoryBuckets", "CreateSession"}
    assert {name for name, outcome in tried.items() if outcome == "done"} <= about_others, tried
    kms = stage.server.client("kms", production)
    arn = f"arn:aws:kms:us-east-1:{stage.account.owner}:key/{stage.key}"
    with pytest.raises(ClientError):
        kms.schedule_key_deletion(KeyId=arn)
    with pytest.raises(ClientError):
        kms.put_key_policy(KeyId=arn, PolicyName="default", Policy="{}")
    with pytest.raises(ClientError):
        kms.encrypt(KeyId=arn, Plaintext=b"x")
