"""What AWS KMS refuses, in our words. The answers are those that its API reference names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError, ProfileNotFound

from donjon.core.errors import (
    CredentialsRejected,
    DonjonError,
    KeyNotAvailable,
    KeyServiceUnavailable,
    PermissionMissing,
    UsageError,
)
from donjon.format.vault import secret_info, session_info
from donjon.keys.address import service_recipient
from donjon.keys.aws_kms import AwsKey, AwsKmsKey, encryption_context
from donjon.keys.base import Recipient
from donjon.keys.services import ADAPTERS, KeyServices, RetryingKey, parse_address

ARN = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
SHARED = "arn:aws:kms:eu-west-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab"
INFO = secret_info(bytes(16))


def refusal(code: str, message: str = "", status: int = 400) -> ClientError:
    return ClientError(
        {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}},
        "Decrypt",
    )


class Kms:
    """Answers as told, one answer after the other; the last one for ever."""

    def __init__(self, *answers: Exception | dict[str, Any]) -> None:
        self.answers = list(answers)
        self.asked: list[Mapping[str, Any]] = []

    def decrypt(self, **asked: Any) -> dict[str, Any]:
        self.asked.append(asked)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return {"KeyId": asked["KeyId"]} | answer

    encrypt = decrypt


def recipient(arn: str = ARN) -> Recipient:
    return service_recipient(AwsKey(arn), "k", 1)


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (refusal("InvalidCiphertextException"), KeyNotAvailable, "changed, or made for another"),
        (refusal("IncorrectKeyException"), KeyNotAvailable, "changed, or made for another"),
        (refusal("NotFoundException"), KeyNotAvailable, "no such key"),
        (refusal("DisabledException", "is disabled."), KeyNotAvailable, "is disabled"),
        (refusal("KMSInvalidStateException", "is pending deletion."), KeyNotAvailable, "pending deletion"),
        (refusal("DisabledException", "is pending deletion."), KeyNotAvailable, "pending deletion"),
        (refusal("KMSInvalidStateException", "is Unavailable"), KeyNotAvailable, "Unavailable"),
        (refusal("InvalidKeyUsageException"), KeyNotAvailable, "InvalidKeyUsage"),
        (refusal("AccessDeniedException"), PermissionMissing, "kms:Decrypt"),
        (refusal("ThrottlingException"), KeyServiceUnavailable, "Throttling"),
        (refusal("KeyUnavailableException", status=500), KeyServiceUnavailable, "KeyUnavailable"),
        (refusal("Odd", status=503), KeyServiceUnavailable, "Odd"),
        (refusal("ExpiredTokenException"), CredentialsRejected, "expired"),
        (refusal("UnrecognizedClientException"), CredentialsRejected, "not accepted"),
        (
            refusal("InvalidSignatureException", "Signature expired: 20261126T020000Z is now earlier than"),
            KeyNotAvailable,
            "clock of this host",
        ),
        (NoCredentialsError(), CredentialsRejected, "no usable credentials"),
        (ProfileNotFound(profile="p"), UsageError, "p"),
        (EndpointConnectionError(endpoint_url="https://kms"), KeyServiceUnavailable, "endpoint"),
    ],
)
def test_refusals_are_told_apart(error: Exception, kind: type[DonjonError], said: str) -> None:
    key = AwsKmsKey(recipient(), lambda _: Kms(error))
    with pytest.raises(DonjonError, match=said) as caught:
        key.open(b"seal", INFO)
    assert type(caught.value) is kind
    assert ARN in caught.value.message
    assert caught.value.hint
    assert caught.value.exit_code == {PermissionMissing: 11, CredentialsRejected: 11, UsageError: 2}.get(
        kind, 13
    )


def test_an_error_of_nobody_comes_out_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError):
        AwsKmsKey(recipient(), lambda _: Kms(ZeroDivisionError())).open(b"seal", INFO)


def test_an_answer_of_another_key_is_not_taken() -> None:
    with pytest.raises(KeyNotAvailable):
        AwsKmsKey(recipient(), lambda _: Kms({"KeyId": "other", "Plaintext": bytes(32)})).open(b"seal", INFO)


def test_the_context_names_vault_and_session() -> None:
    vault, writer = b"v" * 16, b"w" * 16
    assert encryption_context(secret_info(vault)) == {
        "donjon:vault": vault.hex(),
        "donjon:purpose": "vault-secret",
    }
    assert encryption_context(session_info(vault, writer, 7)) == {
        "donjon:vault": vault.hex(),
        "donjon:purpose": "session-key",
        "donjon:session": f"{writer.hex()}/00000007",
    }


def test_a_multi_region_key_is_asked_where_the_user_is_if_its_own_region_does_not_serve() -> None:
    kms = {
        "eu-west-1": Kms(refusal("DisabledException", "disabled")),
        "eu-north-1": Kms({"Plaintext": bytes(32)}),
    }
    key = AwsKmsKey(recipient(SHARED), kms.__getitem__, lambda: "eu-north-1")
    assert key.open(b"seal", INFO) == bytes(32)
    assert kms["eu-north-1"].asked[0]["KeyId"] == SHARED.replace("eu-west-1", "eu-north-1")
    kms["eu-north-1"].answers = [refusal("NotFoundException")]
    with pytest.raises(KeyNotAvailable, match="disabled"):
        key.open(b"seal", INFO)
    alone = AwsKmsKey(recipient(), kms.__getitem__, lambda: "eu-north-1")
    before = len(kms["eu-north-1"].asked)
    with pytest.raises(KeyNotAvailable):
        alone.open(b"seal", INFO)
    assert len(kms["eu-north-1"].asked) == before


def test_all_replicas_are_one_key() -> None:
    elsewhere = SHARED.replace("eu-west-1", "eu-north-1")
    assert AwsKey(SHARED).identity == AwsKey(elsewhere).identity
    assert AwsKey(ARN).identity != AwsKey(ARN.replace("eu-west-1", "eu-north-1")).identity


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "aws-kms",
        "aws-kms:",
        "aws-kms:alias/x",
        f"aws-kms:{ARN} ",
        f"other:{ARN}",
        f"aws-kms:{ARN}\n",
        ARN,
    ],
)
def test_odd_addresses_are_refused(uri: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_address(uri)
    assert "aws-kms:arn:aws:kms:REGION" in caught.value.hint


def retrying(kms: Kms, pauses: list[float]) -> RetryingKey:
    now = [0.0]

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        now[0] += seconds

    key = AwsKmsKey(recipient(), lambda _: kms)
    return RetryingKey(key, sleep=sleep, random=lambda: 1.0, monotonic=lambda: now[0])


def test_throttling_is_waited_out() -> None:
    pauses: list[float] = []
    kms = Kms(refusal("ThrottlingException"), refusal("ThrottlingException"), {"Plaintext": bytes(32)})
    assert retrying(kms, pauses).open(b"seal", INFO) == bytes(32)
    assert pauses == [0.2, 0.4]


def test_a_service_that_stays_away_is_given_up() -> None:
    pauses: list[float] = []
    kms = Kms(refusal("ThrottlingException"))
    with pytest.raises(KeyServiceUnavailable):
        retrying(kms, pauses).open(b"seal", INFO)
    assert len(kms.asked) == 6
    assert sum(pauses) < 30


def test_what_is_no_answer_to_a_request_is_refused() -> None:
    for plaintext in (b"", bytes(31), bytes(33)):
        with pytest.raises(KeyNotAvailable):
            retrying(Kms({"Plaintext": plaintext}), []).open(b"seal", INFO)
    for sealed in (b"", bytes(2049)):
        with pytest.raises(KeyNotAvailable):
            retrying(Kms({"CiphertextBlob": sealed}), []).seal(bytes(32), INFO)


def test_a_service_is_reached_once() -> None:
    made: list[Recipient] = []

    def make(one: Recipient, _: Mapping[str, str]) -> AwsKmsKey:
        made.append(one)
        return AwsKmsKey(one, lambda _: Kms({"Plaintext": bytes(32)}))

    services = KeyServices({}, {"aws-kms": replace(ADAPTERS["aws-kms"], make=make)})
    assert services(recipient()) is services(recipient())
    assert services(recipient()) is not services(recipient(SHARED))
    assert len(made) == 2
