"""The attack drill on the keys of a vault in AWS KMS, by MiniStack, which enforces key policies."""

from __future__ import annotations

import json
from typing import Any

import pytest

from donjon.core.events import never_stop
from donjon.drills.base import Report, Role
from donjon.drills.keys import attack_service
from donjon.drills.kms import ATTACKS, SERVICE, Key
from donjon.format.vault import secret_info
from donjon.keys.aws_kms import encryption_context
from donjon.testing.aws.ministack import MiniStack
from tests.integration.cli import Donjon

INFO = secret_info(bytes(range(16)))


def _key(aws: MiniStack, *actions: str) -> Key:
    """A key, and a user of the same account who may do these things."""
    eyes = aws.client("kms")
    arn = eyes.create_key()["KeyMetadata"]["Arn"]
    sealed = eyes.encrypt(KeyId=arn, Plaintext=b"secret", EncryptionContext=encryption_context(INFO))
    allowed = {"Effect": "Allow", "Action": ["kms:Encrypt", *actions], "Resource": arn}
    user = aws.make_user({"Version": "2012-10-17", "Statement": [allowed]})
    return Key(arn, aws.client("kms", user), eyes, sealed["CiphertextBlob"], INFO)


def _drill(key: Key, role: Role, *, intrusive: bool = True) -> Report:
    report = Report()
    rows = attack_service(
        SERVICE, [key], role, report, intrusive=intrusive, accepted=frozenset(), stop=never_stop
    )
    assert len(list(rows)) == len(ATTACKS)
    return report


def _told(key: Key) -> dict[str, Any]:
    state = key.eyes.describe_key(KeyId=key.arn)["KeyMetadata"]["KeyState"]
    policy = key.eyes.get_key_policy(KeyId=key.arn, PolicyName="default")["Policy"]
    return {"state": state, "policy": json.loads(policy)}


def test_a_writer_may_seal_and_nothing_else(aws: MiniStack) -> None:
    key = _key(aws)
    before = _told(key)
    report = _drill(key, Role.WRITER)
    assert report.failed == []
    assert {row.seen for row in report.rows} == {"refused"}
    assert _told(key) == before


@pytest.mark.parametrize(
    ("action", "failed"),
    [
        ("kms:Decrypt", "kms-decrypt"),
        ("kms:PutKeyPolicy", "kms-policy"),
        ("kms:DisableKey", "kms-disable"),
        ("kms:ScheduleKeyDeletion", "kms-delete"),
    ],
)
def test_a_writer_who_may_do_too_much_is_found_out_and_undone(
    aws: MiniStack, action: str, failed: str
) -> None:
    key = _key(aws, action)
    before = _told(key)
    assert _drill(key, Role.WRITER).failed == [failed]
    assert _told(key) == before
    opened = key.eyes.decrypt(CiphertextBlob=key.sealed, EncryptionContext=encryption_context(INFO))
    assert opened["Plaintext"] == b"secret"


def test_a_key_that_cannot_be_put_back_is_told(aws: MiniStack) -> None:
    """Nobody here may enable it again."""
    key = _key(aws, "kms:DisableKey", "kms:DescribeKey")
    blind = Key(key.arn, key.attacker, key.attacker, key.sealed, key.info)
    report = _drill(blind, Role.ADMINISTRATOR)
    assert report.failed == ["kms-disable"]
    assert "could not be put back" in report.rows[2].seen


def test_what_is_intrusive_is_not_tried_unasked(aws: MiniStack) -> None:
    report = _drill(_key(aws, "kms:DisableKey"), Role.WRITER, intrusive=False)
    assert report.failed == []
    assert [row.seen for row in report.rows] == ["refused", "refused", "not tried", "not tried"]


def test_the_command_attacks_the_keys_of_a_vault_too(aws: MiniStack, host: Donjon) -> None:
    key = aws.client("kms").create_key()["KeyMetadata"]["Arn"]
    bucket = aws.make_bucket()
    environment = aws.root().environment | {"AWS_ENDPOINT_URL_KMS": aws.endpoint}
    url = f"s3://{bucket}/v?endpoint={aws.endpoint}"
    made = ("init", url, "--create", "--kit", host.kit, "--lock", "7d", "--single-recipient")
    host.run(*made, environment=environment)
    host.run("keys", "add", "kms", f"aws-kms:{key}", "--name", "cloud", environment=environment)
    done = host.run("drill", "attack", "--as", "administrator", "--json", environment=environment, code=0)
    told = json.loads(done.stdout)
    seen = {row["tried"]: (row["expected"], row["seen"]) for row in told["rows"]}
    assert seen["decrypt with the key in KMS"] == ("may be allowed", "allowed")
    assert seen["disable the key in KMS"][1] == "not tried"
    outsider = host.run("drill", "attack", "--as", "outsider", "--json", environment=environment, code=4)
    assert {"kms-decrypt", "kms-policy", "read", "overwrite"} <= set(json.loads(outsider.stdout)["failed"])
